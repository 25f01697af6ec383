"""The export of conversations as one HTML page."""
