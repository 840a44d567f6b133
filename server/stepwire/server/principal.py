"""Principals: the authenticated callers."""

from __future__ import annotations

from typing import NamedTuple

from stepwire.server.scopes import ALL, Scopes
from stepwire.server.store import RunKey

DEFAULT_NAMESPACE = "default"


class Principal(NamedTuple):
    """An authenticated caller.

    Attributes:
        name: Identifies the caller in the log, in quotas and in the records of its runs.
        namespace: The namespace that all of its runs live in.
        scopes: What it may do in that namespace.
        expires: When its credential expires, in seconds since the epoch; None for never.
    """

    name: str
    namespace: str
    scopes: Scopes = ALL
    expires: float | None = None

    def key(self, run_id: str) -> RunKey:
        """Return the key of a run in this caller's namespace."""
        return RunKey(self.namespace, run_id)


ANONYMOUS = Principal("anonymous", DEFAULT_NAMESPACE)
"""Every caller of a server without authentication."""
