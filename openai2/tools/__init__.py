"""Tools: schemas from functions, and the loop of model and tools."""
