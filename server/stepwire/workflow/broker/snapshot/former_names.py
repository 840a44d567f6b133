"""The names that events and steps had when a step made its sends and writes, where they have others now.

The ledger keeps only digests of sends and writes, and the names are in the digests: nothing can be renamed there. So a
delivery that has effects keeps which names were given up, and a call that is not found under the names of today is
looked for under those. They stay in the snapshot: an alias may go once a run is written under the new names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stepwire.workflow.broker.ledger import digest_of, digest_under
from stepwire.workflow.events import Event

__all__ = ["FormerNames", "known_digest", "with_former_step", "with_former_type"]


class FormerNames(NamedTuple):
    """Names that were given up, with those that replace them.

    Attributes:
        types: Of events, as their classes are called.
        steps: Of steps.
    """

    types: Mapping[str, str]
    steps: Mapping[str, str]

    @classmethod
    def of(cls, types: Mapping[str, str], steps: Mapping[str, str]) -> FormerNames | None:
        """Return the earlier names that the served code declares; None if it declares none."""
        own = _without_same({_class_name(old): _class_name(new) for old, new in types.items()})
        return cls(own, steps) if own or steps else None

    @classmethod
    def joined(cls, saved: Any, declared: FormerNames | None) -> FormerNames | None:
        """Return what a snapshot holds, with the earlier names that the served code declares."""
        if saved is None:
            return declared
        both = [
            {**later, **{str(old): later.get(str(new), str(new)) for old, new in earlier.items()}}
            for earlier, later in zip(saved, declared or ({}, {}), strict=True)
        ]
        types, steps = map(_without_same, both)
        return cls(types, steps) if types or steps else None

    def digests(self, call: str, event: Event, data: bytes) -> Iterator[bytes]:
        """Yield the digests that a send or write had under earlier names."""
        name = type(event).__name__
        kind, space, step = call.partition(" ")
        calls = [call, *(f"{kind} {old}" for old, new in self.steps.items() if space and new == step)]
        names = [name, *(old for old, new in self.types.items() if new == name)]
        for each in calls:
            for other in names:
                yield digest_under(each, other, data)


def known_digest(
    former: FormerNames | None, replay: Counter[bytes] | None, call: str, event: Event, data: bytes | None
) -> bytes:
    """Return the digest of a send or write: the one of an earlier execution, if it made the same under earlier names.

    Args:
        former: The earlier names; None for none.
        replay: What is left of the effects of the earlier execution.
        call: What is called, with the step that an event is sent to.
        event: The event.
        data: Its content; None without a journal.
    """
    digest = digest_of(call, event, data)
    if former is None or not replay or data is None or replay[digest] > 0:
        return digest
    for each in former.digests(call, event, data):
        if replay[each] > 0:
            return each
    return digest


def with_former_type(saved: Any, old: str, new: str) -> Any:
    """Return the earlier names in a snapshot, for a type that gets another name now."""
    types, steps = saved or ({}, {})
    return [_renamed(types, _class_name(old), _class_name(new)), steps]


def with_former_step(saved: Any, old: str, new: str) -> Any:
    """Return the earlier names in a snapshot, for a step that gets another name now."""
    types, steps = saved or ({}, {})
    return [types, _renamed(steps, old, new)]


def _renamed(names: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    return _without_same({**{name: new if now == old else now for name, now in names.items()}, old: new})


def _without_same(names: Mapping[str, str]) -> dict[str, str]:
    return {old: new for old, new in names.items() if old != new}


def _class_name(name: str) -> str:
    """Return the name of a class, from the name of a type: that may be a qualified one."""
    return name.rpartition(".")[2]
