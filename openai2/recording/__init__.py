"""Recorded requests: the cassette file, and the transport that plays it."""
