"""Recorded requests: the cassette file, and the transport that records and replays."""
