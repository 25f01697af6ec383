"""The only way to the openai SDK: options, clients, one HTTP exchange, and error mapping."""
