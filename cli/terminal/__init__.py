"""Text on a terminal: width, colours, Markdown, progress, translation."""
