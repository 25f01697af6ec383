"""Tables derived from the log, and the questions put to them: list, search, usage, rebuild."""
