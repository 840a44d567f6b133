"""Keep runs in memory: one run and its commits, the pool of them, and what they share."""
