"""The interactive chat and the one-shot answer."""
