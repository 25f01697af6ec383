"""Ask the questions of a conversation again, in a fork."""
