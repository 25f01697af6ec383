"""Removal of texts and conversations for good."""
