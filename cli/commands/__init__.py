"""The commands of `openai2`, a module for each group of them."""
