"""One step: from two dicts of arrays to a launch."""
