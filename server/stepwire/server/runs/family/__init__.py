"""Runs that start runs: parents, children, and what they tell each other."""
