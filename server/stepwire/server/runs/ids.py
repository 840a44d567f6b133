"""Ids that cannot be guessed."""

from __future__ import annotations

import os

_ID_BYTES = 16
_POOL_IDS = 256

_pool = b""


def new_id() -> str:
    """Return 32 hexadecimal digits from the system's randomness, asked for in bulk: a system call costs more."""
    global _pool
    if not _pool:
        _pool = os.urandom(_ID_BYTES * _POOL_IDS)
    taken, _pool = _pool[:_ID_BYTES], _pool[_ID_BYTES:]
    return taken.hex()
