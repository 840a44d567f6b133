"""Find out which values of the state were changed in place by steps that hold them.

A step that gets a mutable value from the store can change it without a call that the run sees. So such a value is
compared with how it was encoded before: at each commit while an attempt holds it, when the attempt ends, and before
the state is told to the outside. A change counts as one of the state's version, from which the etag is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from stepwire.workflow.broker.deliveries.delivery import Execution

__all__ = ["LentValues"]

_KEPT: Final = 65_536
"""Values of up to so many bytes as JSON are kept, because the next step that gets one needs it (see `undo`)."""


def _kept(encoded: bytes) -> bytes | int:
    return encoded if len(encoded) <= _KEPT else hash(encoded)


class LentValues:
    """Remember each value of the state that was lent as a mutable object.

    Attributes:
        returned: Names of values whose holder has ended since the last commit; it may have changed them.
    """

    __slots__ = ("_seen", "returned")

    def __init__(self) -> None:
        self.returned: set[str] = set()
        self._seen: dict[str, bytes | int | None] = {}
        """How values were encoded last: a small one whole, of another its hash; None if it was set since then."""

    def __contains__(self, name: str) -> bool:
        return name in self._seen

    def lend(self, name: str, encoded: bytes | None) -> None:
        """Remember a value that is lent; `encoded` is None if the next commit writes it anyway."""
        self._seen[name] = None if encoded is None else _kept(encoded)

    def encoded(self, name: str) -> bytes | None:
        """Return how a value was encoded last, if that is kept."""
        known = self._seen.get(name)
        return known if isinstance(known, bytes) else None

    def may_differ(self, name: str, executions: Iterable[Execution]) -> bool:
        """Tell whether a step may have changed a value in place since it was encoded last.

        Args:
            name: The name of the value.
            executions: Those that may hold it.
        """
        return name in self.returned or any(each.lent is not None and name in each.lent for each in executions)

    def replaced(self, names: Iterable[str]) -> None:
        """Note that values were set or removed by a call, which the state's version counts."""
        for name in names:
            if name in self._seen:
                self._seen[name] = None

    def changed(self, encoded: Mapping[str, bytes]) -> list[str]:
        """Return which of these values were changed in place since they were encoded last, and remember them."""
        found: list[str] = []
        for name, data in encoded.items():
            if name in self._seen:
                before, now = self._seen[name], _kept(data)
                if before is not None and before != now:
                    found.append(name)
                self._seen[name] = now
        return found
