"""Read and write the states of runs from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from stepwire.server.principal import Principal
from stepwire.server.registry import Served
from stepwire.server.runs.errors import (
    EtagMismatchError,
    InvalidError,
    PathNotFoundError,
    RunFinishedError,
    RunLeftError,
    Violation,
    too_large,
)
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.idempotency import Fingerprint, Repeats
from stepwire.server.runs.limits import check_count, check_length, refuse
from stepwire.server.runs.payloads import state_from_json, value_to_json, violations_of, weight
from stepwire.server.runs.snapshots import RunSnapshots
from stepwire.server.store import RequestRecord
from stepwire.workflow.hosting import (
    DictState,
    InMemoryStateStore,
    SerializationError,
    StateNotFoundError,
    StatePathError,
    encode_keys,
)

__all__ = ["RunState", "StateChange", "Value"]


_INLINE_BYTES = 64 * 1024
"""What values count for that are encoded on the event loop: they take about 5 ms."""

_NONE: Mapping[str, Any] = MappingProxyType({})


class Value(NamedTuple):
    """A value as JSON, and the etag of the state that it was read from."""

    data: bytes
    etag: str


class StateChange(NamedTuple):
    """A change of a state that a caller asks for.

    Attributes:
        caller: Who asks.
        run_id: The run.
        etag: The change is made only while the state has this etag; empty for always.
        request_id: A repeat under this id gets the first answer.
    """

    caller: Principal
    run_id: str
    etag: str = ""
    request_id: str = ""


class RunState:
    """Read and write the states of runs."""

    def __init__(self, pool: RunPool, snapshots: RunSnapshots, repeats: Repeats) -> None:
        """Work on the runs of a pool.

        Args:
            pool: The runs in memory.
            snapshots: The states of runs that have ended.
            repeats: Finds the answers to requests that come again.
        """
        self._pool = pool
        self._snapshots = snapshots
        self._repeats = repeats
        self._sizes: WeakKeyDictionary[InMemoryStateStore[Any], int] = WeakKeyDictionary()
        """The size of each state when it was last measured, and what was written to it since."""

    async def get(self, caller: Principal, run_id: str, path: str) -> Value:
        """Return the value at a path once everything that led to it is durable; of an ended run its last one.

        A run that is not in memory is not loaded: its last committed snapshot is read.

        Raises:
            RunElsewhereError: This replica has learnt that another one has the run, which can answer from memory.
            PathNotFoundError: Nothing is at the path.
            InvalidError: The path is not valid, or the value has no JSON form.
        """
        key = caller.key(run_id)
        if (run := self._pool.in_memory(key)) is None or run.gone:
            self._pool.routes.follow(key)
        if run is None or run.gone or not run.commits.created or not caller.scopes.sees(run.record.workflow):
            record = await self._pool.records.get(caller, run_id)
            run = self._pool.in_memory(key)
            if run is None or run.gone:
                context = await self._snapshots.last_context(record)
                return _read(context.store, path)
        return await run.commits.answer(partial(_read_live, run, path))

    async def set(self, asked: StateChange, values: Sequence[tuple[str, Any]], size: int = 0) -> str:
        """Set values at paths, all or none, and return the new etag.

        Args:
            asked: Who asks for the change, of which run, and when it may be made.
            values: Paths with their values.
            size: What the values as JSON count for, in bytes, or more (`payloads.weight`).
        """
        refuse(check_count("values", len(values)))
        if any(not path for path, _ in values):
            raise InvalidError("INVALID_PATH", "Use ReplaceState for the whole state", [Violation("path", "is empty")])

        def change(store: InMemoryStateStore[Any]) -> None:
            self._check_size(store, size, values)
            store.apply(values)

        says = ("set", [list(item) for item in values], asked.etag)
        whole = {path: value for path, value in values if "." not in path} if size > _INLINE_BYTES else {}
        return await self._write(asked, change, says, whole)

    async def unset(self, asked: StateChange, paths: Sequence[str]) -> str:
        """Remove the values at paths, all or none, and return the new etag."""
        refuse(check_count("paths", len(paths)))

        def change(store: InMemoryStateStore[Any]) -> None:
            store.apply([], paths)

        return await self._write(asked, change, ("unset", list(paths), asked.etag))

    async def replace(self, asked: StateChange, value: dict[str, Any], size: int = 0) -> str:
        """Replace the whole state, and return the new etag. `size` is that of the value, as in `set`."""

        def change(store: InMemoryStateStore[Any]) -> None:
            dynamic = store.state_type is DictState
            store.replace(state_from_json(store.state_type, value, dynamic=dynamic), owned=True)

        says = ("replace", value, asked.etag)
        return await self._write(asked, change, says, value if size > _INLINE_BYTES else {})

    def _check_size(self, store: InMemoryStateStore[Any], size: int, values: Sequence[tuple[str, Any]]) -> None:
        """Refuse values that would make the state too big.

        Measuring encodes the whole state. So the size is what was last measured plus what was written since, and both
        are measured, and measured exactly, only when that is too much.

        Args:
            store: The state.
            size: What the values count for, or more.
            values: Paths with their values.

        Raises:
            LimitError: The state would be too big.
        """
        limit = self._pool.limits.state_bytes
        known = self._sizes.get(store)
        if known is None or known + size > limit:
            known = _size(store, limit)
        if known + size > limit:
            size = sum(weight(value_to_json(value)) for _, value in values)
        if known + size > limit:
            raise too_large("The state of the run", known + size, limit, "state_bytes")
        self._sizes[store] = known + size

    async def _write(
        self,
        asked: StateChange,
        change: Callable[[InMemoryStateStore[Any]], None],
        says: tuple[Any, ...],
        large: Mapping[str, Any] = _NONE,
    ) -> str:
        """Change a state, or return the first answer if the request is a repeat.

        Args:
            asked: Who asks for the change, of which run, and when it may be made.
            change: Change the state, all or nothing.
            says: What makes two requests with one request_id the same request.
            large: Top-level values that take long to encode, by name.
        """
        request_id = asked.request_id
        if request_id:
            refuse(check_length("request_id", request_id))
        fingerprint = Fingerprint(says)
        try:
            run = await self._pool.live(asked.caller, asked.run_id)
        except RunFinishedError:
            if request_id:
                key = asked.caller.key(asked.run_id)
                if (known := await self._repeats.of_ended_run(key, request_id)) is not None:
                    return str((await self._repeats.response(key, known, fingerprint))["etag"])
            raise
        encoded: dict[str, bytes] = {}
        if large and run.store.state_type is DictState:
            encoded = await _encode(large, run.served)
            run = await self._pool.live(asked.caller, asked.run_id)  # it may have left memory meanwhile
        async with run.store.lock:
            pass  # a step's edit_state() holds it; what follows is made without a pause

        def act() -> str | RequestRecord:
            run.take_values(large, encoded)
            return self._change_once(run, asked, change, fingerprint)

        answer = await run.commits.answer(act)
        if isinstance(answer, RequestRecord):
            return str((await self._repeats.response(run.key, answer, fingerprint))["etag"])
        return answer

    def _change_once(
        self,
        run: LiveRun,
        asked: StateChange,
        change: Callable[[InMemoryStateStore[Any]], None],
        fingerprint: Fingerprint,
    ) -> str | RequestRecord:
        """Change the state and return its etag, or return what the run remembers of the same request."""
        if asked.request_id and (known := run.commits.answers.get(asked.request_id)) is not None:
            return known
        etag = _change(run, change, asked.etag)
        if asked.request_id:
            now = run.broker.clock.now()
            run.commits.remember(RequestRecord(asked.request_id, fingerprint.text, {"etag": etag}, now))
        return etag


async def _encode(values: Mapping[str, Any], served: Served) -> dict[str, bytes]:
    """Encode values as a snapshot holds them, in a thread: that takes up to half a second.

    Nothing if one of them cannot be saved: setting them says which.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(None, encode_keys, values, served.names)
    except SerializationError:
        return {}


def _change(run: LiveRun, change: Callable[[InMemoryStateStore[Any]], None], etag: str) -> str:
    """Change the state of a run, and return its new etag."""
    store = run.store
    if run.broker.outcome is not None:
        raise RunFinishedError("The run has ended", run_id=run.key.run_id)
    if run.broker.frozen:
        raise RunLeftError
    run.find_changes_in_place()
    if etag and etag != _etag(store):
        raise EtagMismatchError("The state has changed since this etag was read", etag=_etag(store))
    try:
        change(store)
    except ValidationError as error:
        raise InvalidError("INVALID_STATE", "The value does not fit the state", violations_of(error)) from error
    except SerializationError as error:
        violations = [Violation(key, "cannot be saved") for key in error.keys]
        raise InvalidError("INVALID_STATE", "The value cannot be saved", violations) from error
    except (StatePathError, RecursionError) as error:
        raise _path_error(error) from error
    run.find_changes_in_place()  # from here on a change makes the etag that is returned an old one
    return _etag(store)


def _read_live(run: LiveRun, path: str) -> Value:
    run.find_changes_in_place()
    return _read(run.store, path)


def _read(store: InMemoryStateStore[Any], path: str) -> Value:
    try:
        value = store.peek(path)
        if path == "" and store.state_type is DictState:
            value = store.values()
        return Value(value_to_json(value), _etag(store))
    except StatePathError as error:
        raise _path_error(error) from error
    except SerializationError as error:
        raise InvalidError("INVALID_STATE", "The value has no JSON form") from error


def _size(store: InMemoryStateStore[Any], limit: int) -> int:
    try:
        return weight(value_to_json(store.values() if store.state_type is DictState else store.peek("")), limit // 2)
    except SerializationError:  # a value without a JSON form: only what clients write from now on is counted
        return 0


def _path_error(error: Exception) -> Exception:
    path = getattr(error, "path", "")[:256]
    if isinstance(error, StateNotFoundError):
        return PathNotFoundError("Nothing is at this path", path=path)
    return InvalidError("INVALID_PATH", "The path is not valid", [Violation("path", str(error)[:300])], path=path)


def _etag(store: InMemoryStateStore[Any]) -> str:
    return f"v{store.version}"
