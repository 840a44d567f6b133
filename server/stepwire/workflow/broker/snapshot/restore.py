"""Fill a new broker from the parts of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec

from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.snapshot import parts as keys
from stepwire.workflow.broker.snapshot.reader import CountLost, DecodeValue, PartsReader, one_more
from stepwire.workflow.codec.decoder import from_tagged
from stepwire.workflow.codec.names import Names
from stepwire.workflow.errors import SnapshotError

__all__ = ["restore", "restore_in_slices"]

_KEYS_AT_ONCE = 10_000
"""Keys that are sorted by kind before other work gets its turn: about 2 ms."""

P = ParamSpec("P")


def restore_in_slices(
    broker: Broker,
    parts: Mapping[str, Any],
    names: Names,
    *,
    saved_at: float,
    fork: bool,
    decode_value: DecodeValue | None = None,
    validate: bool = True,
    with_state: bool = True,
    count_lost: CountLost = one_more,
    fresh: bool = False,
    retry_of: str = "",
) -> Iterator[None]:
    """Fill a new broker from parts (parsed JSON), in slices: the broker is whole once the iterator is exhausted.

    The same run goes on with its due times, and what ran when it was saved was lost to a crash; a fork gets the time
    that was left, and loses nothing. What a run that had ended left in progress is passed over, except by a retry.

    Args:
        broker: A new broker.
        parts: The parts.
        names: Names the types.
        saved_at: When the parts were committed, in seconds since the epoch.
        fork: Whether this is another run.
        decode_value: Decodes tagged values; None for the default.
        validate: Whether values pass the validators of their fields.
        with_state: Whether to read the state.
        count_lost: Counts executions that were lost to a crash.
        fresh: Whether a fork has its whole retry budgets and its whole time limit again.
        retry_of: The run that a fork retries, so that its deliveries keep their keys; implies `fresh`.

    Raises:
        SnapshotError: And its kinds, naming the part.
    """

    def decode_default(value: Any) -> Any:
        return from_tagged(value, names, validate=validate)

    reader = PartsReader(broker, parts, names, decode_value or decode_default)
    reader.fresh = fresh or bool(retry_of)
    key = keys.HEAD
    try:
        reader.head(parts.get(keys.HEAD), saved_at, fork, retry_of)
        if with_state:
            key = keys.STATE
            reader.state(validate)
        kinds = (keys.BUFFERED, keys.DELIVERY, keys.WAITER, keys.STREAM, keys.CHILD)
        numbers: dict[str, list[int]] = {kind: [] for kind in kinds}
        for count, key in enumerate(parts, 1):
            kind, _, rest = key.partition("/")
            if kind in numbers:
                numbers[kind].append(int(rest))
            if count % _KEYS_AT_ONCE == 0:
                yield
        for found in numbers.values():
            found.sort()
        for number in numbers[keys.BUFFERED]:
            key = keys.buffered(number)
            reader.buffered(number, parts[key])
            yield from reader.pause()
        for number in numbers[keys.DELIVERY]:
            key = keys.delivery(number)
            if broker.outcome is None:
                reader.delivery(number, parts[key], saved_at, None if fork else count_lost)
            else:
                reader.pass_over(parts[key])
            yield from reader.pause()
        for item in reader.loose.values():
            broker.buffers.add(item)
            yield from reader.pause()
        for number in numbers[keys.STREAM] if broker.outcome is None else ():
            key = keys.stream(number)
            reader.stream(number, parts[key])
        for number in numbers[keys.WAITER] if broker.outcome is None else ():
            key = keys.waiter(number)
            reader.waiter(number, parts[key], saved_at, fork)
            yield from reader.pause()
        for number in numbers[keys.CHILD] if broker.outcome is None else ():
            key = keys.child(number)
            reader.child(number, parts[key], fork)
            yield from reader.pause()
    except SnapshotError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SnapshotError(f"The snapshot is malformed at part '{key[:40]}'") from error
    yield from reader.place()


def _at_once(slices: Callable[P, Iterator[None]]) -> Callable[P, None]:
    def call(*args: P.args, **options: P.kwargs) -> None:
        for _ in slices(*args, **options):
            pass

    return call


restore = _at_once(restore_in_slices)
"""Fill a new broker from parts at once; arguments and contract of `restore_in_slices`."""
