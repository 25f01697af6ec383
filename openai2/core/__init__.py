"""What a conversation is: events, messages, the view and decisions on it. No I/O, no clock, no randomness."""
