"""Decide what a run does next: one run is one broker, a set of synchronous transitions."""
