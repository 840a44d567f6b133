"""API keys: `swk_<id>_<secret>`, kept as the id and a hash.

The secret is 256 random bits, so a plain SHA-256 is as good as a slow password hash and costs a microsecond.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

PREFIX = "swk"
_MAX_LENGTH = 256


class NewKey(NamedTuple):
    """A key that was just made: what the client gets, and what the file keeps."""

    key: str
    id: str
    hash: str


def new_key() -> NewKey:
    """Make a key."""
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    return NewKey(key, key_id, hash_of(key))


def hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def id_of(token: str) -> str | None:
    """Return the id of what looks like a key; None for anything else."""
    if len(token) > _MAX_LENGTH:
        return None
    parts = token.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else None
