"""Carry conversations in and out: JSON Lines archives, Markdown, and import with forks."""
