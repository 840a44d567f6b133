"""Who calls."""

from __future__ import annotations

from typing import NamedTuple

from stepwire.server.store import RunKey

DEFAULT_NAMESPACE = "default"


class Principal(NamedTuple):
    """The caller: a name for the log, and the namespace that its runs live in."""

    name: str
    namespace: str

    def key(self, run_id: str) -> RunKey:
        """Return the key of a run of this caller's namespace."""
        return RunKey(self.namespace, run_id)


ANONYMOUS = Principal("anonymous", DEFAULT_NAMESPACE)
"""The caller while there is no access control."""
