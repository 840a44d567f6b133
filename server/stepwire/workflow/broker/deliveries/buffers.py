"""Collect buffers: events that wait until a set is complete."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence

from stepwire.workflow.broker.deliveries.delivery import Execution
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.ledger import Buffered
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.waits.default_names import default_buffer_id
from stepwire.workflow.checks import check_expected
from stepwire.workflow.events import Event

_NOTHING: tuple[Sequence[type[Event]], Counter[type[Event]]] = ((), Counter())


class Buffers:
    """Events by buffer id and type, in the order of arrival; by number also those that ledgers hold.

    Args:
        work: Whose deliveries collect: their ledgers keep what each call took.
    """

    __slots__ = ("_counted", "_events", "_numbered", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work
        self._counted = _NOTHING
        self._events: dict[str, dict[type[Event], deque[Buffered]]] = {}
        self._numbered: dict[int, Buffered] = {}

    # -- collecting ---------------------------------------------------------------------------------------------------

    def collect(
        self, event: Event, expected: Sequence[type[Event]], buffer_id: str | None, execution: Execution | None
    ) -> list[Event] | None:
        """Add an event to a buffer; return the expected ones once all are there (S8).

        Args:
            event: The event.
            expected: The types to collect, one for each event.
            buffer_id: The buffer; None for the one of this step and these types.
            execution: The attempt that collects; None outside the steps, where no ledger keeps what was taken.
        """
        step = "" if execution is None else execution.delivery.step
        counted = self.count(expected)
        key = buffer_id if buffer_id is not None else default_buffer_id(step, counted)
        known = None
        if execution is not None:
            nth = execution.next_collect(key)
            known = execution.delivery.ensure_ledger().collects.setdefault(key, [])
            if nth < len(known):
                taken = known[nth]
                if taken is None:
                    return None
                if [item.type for item in taken] == list(expected):
                    return [item.give() for item in taken]
                # A call that differs is new: what this and later calls took is there again.
                self.put_back(item for items in known[nth:] for item in items or ())
                del known[nth:]
        work = self._work
        encoded = None if work.journal is None else work.journal.encode(event)
        work.numbers += 1
        item = Buffered(work.numbers, key, event, encoded)
        self.add(item)
        taken = self.take(key, expected)
        if work.journal is not None:
            work.journal.touch(parts.buffered(item.number))
        if known is not None and execution is not None:
            known.append(taken)
            execution.delivery.lost = 0  # it has made progress since its last crash
            work.touch(execution.delivery)
        elif taken:
            self.consume(taken)
        return None if taken is None else [item.give() for item in taken]

    def consume(self, items: Sequence[Buffered]) -> None:
        """Forget collected events for good, in the snapshot too."""
        self.drop(items)
        if (journal := self._work.journal) is not None:
            for item in items:
                journal.touch(parts.buffered(item.number))

    # -- the events ---------------------------------------------------------------------------------------------------

    def count(self, expected: Sequence[type[Event]]) -> Counter[type[Event]]:
        """Count the expected types. A tuple that comes again is not looked at again, however long it is."""
        if type(expected) is not tuple or self._counted[0] is not expected:
            try:
                counted = Counter(expected)
            except TypeError:  # a class by itself; events, which have no hash
                check_expected(expected)
                raise
            check_expected(counted)
            self._counted = expected, counted
        return self._counted[1]

    def all_of(self, buffer_id: str) -> list[Buffered]:
        """Return the events of a buffer, in the order of arrival."""
        by_type = self._events.get(buffer_id)
        if not by_type:
            return []
        return sorted((item for items in by_type.values() for item in items), key=lambda item: item.number)

    def pull(self, buffer_id: str, items: Collection[Buffered]) -> None:
        """Take events out of a buffer, and forget them for good."""
        gone = {item.number for item in items}
        by_type = self._events.get(buffer_id, {})
        for cls in list(by_type):
            by_type[cls] = deque(item for item in by_type[cls] if item.number not in gone)
            if not by_type[cls]:
                del by_type[cls]
        if not by_type:
            self._events.pop(buffer_id, None)
        self.consume(list(items))

    def count_of(self, buffer_id: str) -> int:
        """Return how many events a buffer has."""
        return sum(map(len, self._events.get(buffer_id, {}).values()))

    def add(self, item: Buffered) -> None:
        """Append an event to its buffer."""
        self.hold(item)
        by_type = self._events.setdefault(item.buffer_id, {})
        by_type.setdefault(item.type, deque()).append(item)

    def take(self, buffer_id: str, expected: Sequence[type[Event]]) -> list[Buffered] | None:
        """Take the oldest events of the expected types, in the order of `expected`; None when one is missing.

        They can be found by number until they are dropped.
        """
        by_type = self._events.get(buffer_id)
        if by_type is None:
            return None if expected else []
        counted = self._counted[1] if self._counted[0] is expected else self.count(expected)
        for cls, count in counted.items():
            if len(by_type.get(cls, ())) < count:
                return None
        taken: list[Buffered] = []
        for cls in expected:
            taken.append(by_type[cls].popleft())
        for cls in counted:
            if not by_type[cls]:
                del by_type[cls]
        if not by_type:
            del self._events[buffer_id]
        return taken

    def put_back(self, items: Iterable[Buffered]) -> None:
        """Undo a `take`: the events are the oldest of their buffer again."""
        for item in sorted(items, key=lambda each: each.number, reverse=True):
            by_type = self._events.setdefault(item.buffer_id, {})
            by_type.setdefault(item.type, deque()).appendleft(item)

    def hold(self, item: Buffered) -> None:
        """Make an event that a ledger holds findable by its number."""
        self._numbered[item.number] = item

    def drop(self, items: Iterable[Buffered]) -> None:
        """Forget events that were taken."""
        for item in items:
            self._numbered.pop(item.number, None)

    def get(self, number: int) -> Buffered | None:
        """Return the event of this number, also one that a ledger holds."""
        return self._numbered.get(number)

    def numbers(self) -> list[int]:
        """Return the numbers of all events, also of those that ledgers hold."""
        return list(self._numbered)

    def __iter__(self) -> Iterator[Buffered]:
        for by_type in self._events.values():
            for items in by_type.values():
                yield from items

    def __len__(self) -> int:
        return sum(len(items) for by_type in self._events.values() for items in by_type.values())
