"""Verification of a store: hash chain, content, references, and the file itself."""
