"""Which address a call goes to, when a service has several replicas.

Any replica answers any call. The client stays with one until it fails, then takes the next. A server may say at which
address a run lives, in the metadata of an answer. That is a hint: it only chooses among the addresses that the caller
gave, so that no credential goes to an address that a server named.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

# The metadata that names the replica that has the run.
OWNER = "stepwire-owner"
# What a client remembers of where runs live, at most.
MOST_OWNERS = 10_000


class Replicas:
    """The addresses of a service. Safe for threads.

    Args:
        addresses: Those that the caller gave, in the order of preference.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)
        self._lock = threading.Lock()
        self._current = 0
        self._owners: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def pick(self, run_id: str = "") -> int:
        """Return the number of the address for a run; "" is a call about no run that is known."""
        with self._lock:
            return self._owners.get(run_id, self._current)

    def prefer(self, index: int) -> None:
        """Use an address from now on."""
        with self._lock:
            self._current = index

    def heard(self, run_id: str, metadata: Iterable[tuple[str, Any]] | None) -> None:
        """Learn from the metadata of an answer where a run lives."""
        for key, value in metadata or ():
            if key == OWNER and run_id and value in self._addresses:
                with self._lock:
                    if len(self._owners) >= MOST_OWNERS:
                        self._owners.clear()
                    self._owners[run_id] = self._addresses.index(value)

    def failed(self, run_id: str, index: int) -> None:
        """Turn away from an address that did not answer."""
        with self._lock:
            self._owners.pop(run_id, None)
            # The next call about another run there should not find it out again.
            self._owners = {run: owner for run, owner in self._owners.items() if owner != index}
            if self._current == index:
                self._current = (index + 1) % len(self._addresses)


def run_of(*messages: Any) -> str:
    """Return the run that a request, or else its response, is about; "" for none."""
    for message in messages:
        found = getattr(message, "run_id", "") or getattr(getattr(message, "run", None), "run_id", "")
        if found:
            return str(found)
    return ""
