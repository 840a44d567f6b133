"""Make and recognize API keys, `swk_<id>_<secret>`. The server keeps only the id and a hash.

The secret is 256 random bits, so a plain SHA-256 protects it as well as a slow password hash does.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

PREFIX = "swk"
_MAX_LENGTH = 256


class NewKey(NamedTuple):
    """A new key: `key` is for the client, `id` and `hash` are for the access file."""

    key: str
    id: str
    hash: str


def new_key() -> NewKey:
    """Make a key."""
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    return NewKey(key, key_id, hash_of(key))


def hash_of(key: str) -> str:
    """Return the hash of a key as the access file holds it."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def id_of(token: str) -> str | None:
    """Return the id of a text that has the form of a key; None for any other text."""
    if len(token) > _MAX_LENGTH:
        return None
    parts = token.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else None
