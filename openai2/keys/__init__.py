"""API keys: the pool, the classification of failures, and masking."""
