"""Ports that a test names before something listens there, or that must still be free when a server starts again."""

from __future__ import annotations

import os
import socket
from itertools import count
from pathlib import Path

__all__ = ["free_port"]

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 12_000
_picks = count(os.getpid() * 1009)
"""Processes that test side by side begin at different places."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on now.

    The system gives ports of its own range to whoever asks for any, connections included, so none of those stays free.
    This is one below them, and another one at each call.
    """
    lowest_given = int(_RANGE.read_text(encoding="utf-8").split()[0]) if _RANGE.exists() else 32_768
    room = max(lowest_given, _LOWEST + 1_000) - _LOWEST
    for pick in _picks:
        port = _LOWEST + pick % room
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("never")
