"""One request to a model without I/O: the flow of effects, retries, and the response accumulator."""
