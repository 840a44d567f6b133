"""The exit codes of the command line."""

from __future__ import annotations

__all__ = ["ERROR", "INCOMPLETE", "INTERRUPTED", "RUN_ENDED_BADLY", "TERMINATED", "USAGE", "WOULD_BLOCK"]

ERROR = 1
USAGE = 2
RUN_ENDED_BADLY = 3
"""The run failed, was cancelled or timed out."""
WOULD_BLOCK = 3
"""`stepwire check`: some runs do not fit the new code."""
INCOMPLETE = 4
"""`stepwire check`: not all runs were tried in time; those that were fit."""
INTERRUPTED = 130
"""Ended by Ctrl-C: 128 and the number of SIGINT, as shells have it."""
TERMINATED = 143
"""Ended by SIGTERM, likewise."""
