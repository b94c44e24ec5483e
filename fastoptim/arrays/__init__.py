"""Arrays: what one is, on the host and on a GPU, where it lies, and dicts of arrays in one flat buffer."""
