"""Say which headers of an HTTP request a call takes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwire.server.rpc import CLIENT

__all__ = ["FORWARDED", "metadata_of"]

FORWARDED: Final = ("authorization", "traceparent", "tracestate", CLIENT)
"""The caller's credential, its trace, and its address as this process saw it."""


def metadata_of(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call from HTTP headers (lower-case names)."""
    return tuple((name, value) for name in FORWARDED if (value := headers.get(name)))
