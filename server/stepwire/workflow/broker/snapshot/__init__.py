"""The snapshot of a run: the keys of its parts, how they are written and read."""
