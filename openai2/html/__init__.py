"""Export of conversations as one HTML page."""
