"""The exit codes of the command line."""

from __future__ import annotations

__all__ = ["ERROR", "INTERRUPTED", "RUN_ENDED_BADLY", "TERMINATED", "USAGE"]

ERROR = 1
USAGE = 2
RUN_ENDED_BADLY = 3
"""The run failed, was cancelled or timed out."""
INTERRUPTED = 130
"""Ended by Ctrl-C: 128 and the number of SIGINT, as shells have it."""
TERMINATED = 143
"""Ended by SIGTERM, likewise."""
