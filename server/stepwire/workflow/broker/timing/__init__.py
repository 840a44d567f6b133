"""Time as a run sees it, and what falls due."""
