"""Events that steps send to the runs that they have started: each once, whatever becomes of the step.

A send is an effect like a start: the part of the child in the snapshot keeps it, and the host makes it once that is
durable. When the body of a step runs again, its n-th send of an event to a child is the same one. That holds for a
retry by policy, too: it goes on with the same child, which has taken the event already.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from stepwire.workflow.broker.deliveries.delivery import Execution

__all__ = ["ChildSend", "SentEvents"]

_DIGEST_BYTES: Final = 12


class ChildSend(NamedTuple):
    """An event for a child.

    Attributes:
        number: Its number among the events that were sent to the child, from 1.
        type: The name of its type.
        data: Its fields, as plain JSON.
        step: The only step that gets it; empty for all steps and waits that take it.
    """

    number: int
    type: str
    data: bytes
    step: str = ""


class SentEvents:
    """What steps have sent to one child.

    Attributes:
        pending: What the host is to send still, or has not said yet that it has sent.
    """

    __slots__ = ("_known", "_last", "pending")

    def __init__(self) -> None:
        self.pending: list[ChildSend] = []
        self._known: Counter[bytes] = Counter()
        """How often an event was sent, by the digest of the call."""
        self._last = 0

    def add(
        self, execution: Execution | None, run_id: str, own: bool, type_name: str, data: bytes, step: str
    ) -> ChildSend | None:
        """Note a send; return None if an earlier execution has made it.

        Args:
            execution: The attempt that sends; None outside the steps, where every send is a new one.
            run_id: The id of the child.
            own: Whether it is an attempt at the delivery that has started the child.
            type_name: The name of the type of the event.
            data: Its fields, as plain JSON.
            step: The only step that gets it; empty for all.
        """
        if execution is not None:
            sender = 0 if own else execution.delivery.id
            digest = _digest(run_id.encode(), b"%d" % sender, type_name.encode(), step.encode(), data)
            if execution.next_call(digest) < self._known[digest]:
                return None
            self._known[digest] += 1
        self._last += 1
        send = ChildSend(self._last, type_name, data, step)
        self.pending.append(send)
        return send

    def done(self, number: int) -> None:
        """Note that the host has sent an event, or that the child does not take it."""
        self.pending = [each for each in self.pending if each.number != number]

    # -- the snapshot -------------------------------------------------------------------------------------------------

    def saved(self) -> list[Any]:
        """Return it as a snapshot holds it."""
        known = {digest.hex(): times for digest, times in self._known.items()}
        return [self._last, known, [[each.number, each.type, each.step] for each in self.pending]]

    def saved_events(self) -> bytes:
        """Return the fields of the events that are to be sent, as a JSON list."""
        return b"[%b]" % b",".join(each.data for each in self.pending)

    @classmethod
    def read(cls, saved: Any, events: Iterable[Any]) -> SentEvents:
        """Return what `saved` and `saved_events` have written."""
        made = cls()
        last, known, pending = saved
        made._last = int(last)
        made._known.update({bytes.fromhex(digest): int(times) for digest, times in known.items()})
        made.pending = [
            ChildSend(int(number), str(name), to_json(data), str(step))
            for (number, name, step), data in zip(pending, events, strict=True)
        ]
        return made


def _digest(*parts: bytes) -> bytes:
    hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        hasher.update(b"%d " % len(part))
        hasher.update(part)
    return hasher.digest()
