"""How events, messages, lists and errors are shown."""
