"""Reading one stream: the view at a version, forks, undo, drafts, diff and follow."""
