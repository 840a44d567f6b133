"""The state of a run, read and written from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import (
    EtagMismatchError,
    InvalidError,
    LimitError,
    PathNotFoundError,
    RunBlockedError,
    RunFinishedError,
    StoreDownError,
    Violation,
)
from stepwire.server.runs.events import RunEvents, same
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.payloads import digest, state_from_json, value_to_json, violations_of
from stepwire.server.runs.requests import check_request_id
from stepwire.server.runs.snapshots import RunSnapshots
from stepwire.server.store import RequestRecord
from stepwire.workflow.hosting import (
    DictState,
    InMemoryStateStore,
    SerializationError,
    StateNotFoundError,
    StatePathError,
)

MAX_PATHS = 1000


class Value(NamedTuple):
    """A value as JSON, and the etag of the state that it was read from."""

    data: bytes
    etag: str


class RunState:
    """Read and write the states of runs."""

    def __init__(self, pool: RunPool, snapshots: RunSnapshots, events: RunEvents) -> None:
        self._pool = pool
        self._snapshots = snapshots
        self._events = events
        self._sizes: WeakKeyDictionary[InMemoryStateStore[Any], int] = WeakKeyDictionary()

    async def get(self, caller: Principal, run_id: str, path: str) -> Value:
        """Return the value at a path, once everything that led to it is durable; of an ended run its last."""
        try:
            run = await self._pool.live(caller, run_id)
        except RunFinishedError:
            return await self._get_ended(caller, run_id, path)
        value = _read(run.context.store, path)
        if not run.clean:
            await run.committed()
        return value

    async def _get_ended(self, caller: Principal, run_id: str, path: str) -> Value:
        snapshot = await self._snapshots.get(caller, run_id, 0)
        served = self._pool.registry.get(snapshot.workflow)
        if served is None:
            raise RunBlockedError("The run's workflow is not served here", workflow=snapshot.workflow)
        context = self._snapshots.context_of(served, snapshot)
        return _read(context.store, path)

    async def set(
        self,
        caller: Principal,
        run_id: str,
        values: Sequence[tuple[str, Any]],
        etag: str = "",
        request_id: str = "",
        size: int = 0,
    ) -> str:
        """Set values at paths, all or none; return the new etag. `size` is that of the values in bytes."""
        _check_count(len(values), "values")
        if any(not path for path, _ in values):
            raise InvalidError("INVALID_PATH", "Use ReplaceState for the whole state", [Violation("path", "is empty")])
        fingerprint = digest("set", [list(item) for item in values], etag) if request_id else ""

        def change(store: InMemoryStateStore[Any]) -> None:
            self._check_size(store, size)
            store.apply(values)

        return await self._write(caller, run_id, change, etag, request_id, fingerprint)

    async def unset(
        self, caller: Principal, run_id: str, paths: Sequence[str], etag: str = "", request_id: str = ""
    ) -> str:
        """Remove the values at paths, all or none; return the new etag."""
        _check_count(len(paths), "paths")
        fingerprint = digest("unset", list(paths), etag) if request_id else ""

        def change(store: InMemoryStateStore[Any]) -> None:
            store.apply([], paths)

        return await self._write(caller, run_id, change, etag, request_id, fingerprint)

    async def replace(self, caller: Principal, run_id: str, value: Any, etag: str = "", request_id: str = "") -> str:
        """Replace the whole state; return the new etag."""
        fingerprint = digest("replace", value, etag) if request_id else ""

        def change(store: InMemoryStateStore[Any]) -> None:
            dynamic = store.state_type is DictState
            store.replace(state_from_json(store.state_type, value, dynamic=dynamic))

        return await self._write(caller, run_id, change, etag, request_id, fingerprint)

    def _check_size(self, store: InMemoryStateStore[Any], size: int) -> None:
        """Refuse values that would make the state too big. LimitError.

        The size is what it was when it was last measured and what was written since: measured again only when that
        is too much.
        """
        limit = self._pool.limits.state_bytes
        known = self._sizes.get(store)
        if known is None or known + size > limit:
            known = _size(store)
        if known + size > limit:
            raise LimitError(f"The state of a run may have at most {limit} bytes", limit="state_bytes")
        self._sizes[store] = known + size

    async def _write(
        self,
        caller: Principal,
        run_id: str,
        change: Callable[[InMemoryStateStore[Any]], None],
        etag: str,
        request_id: str,
        fingerprint: str,
    ) -> str:
        if violations := check_request_id(request_id):
            raise InvalidError("INVALID_REQUEST", "The request is not valid", violations)
        try:
            run = await self._pool.live(caller, run_id)
        except RunFinishedError:
            if request_id:
                known = await self._events.answered(caller.key(run_id), request_id, fingerprint)
                if known is not None:
                    return str(known["etag"])
            raise
        store = run.context.store
        # A step's edit_state() holds the lock; two outside writes never interleave either.
        async with store.lock:
            run.raise_if_gone()
            if request_id and (record := run.answered.get(request_id)) is not None:
                answer = str(same(record, fingerprint)["etag"])
            else:
                answer = self._change(run, change, etag)
                if request_id:
                    now = run.broker.clock.now()
                    run.remember(RequestRecord(request_id, fingerprint, {"etag": answer}, now))
        await run.committed()
        return answer

    def _change(self, run: LiveRun, change: Callable[[InMemoryStateStore[Any]], None], etag: str) -> str:
        store = run.context.store
        if run.broker.outcome is not None:
            raise RunFinishedError("The run has ended", run_id=run.key.run_id)
        if run.broker.frozen:
            # It left memory between the look-up and now; a repeat loads it again.
            raise StoreDownError("The run is not in memory any more; retry")
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
        return _etag(store)


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


def _size(store: InMemoryStateStore[Any]) -> int:
    try:
        return len(value_to_json(store.values() if store.state_type is DictState else store.peek("")))
    except SerializationError:  # a value without a JSON form: what clients wrote since is counted alone
        return 0


def _path_error(error: Exception) -> Exception:
    path = getattr(error, "path", "")[:256]
    if isinstance(error, StateNotFoundError):
        return PathNotFoundError("Nothing is at this path", path=path)
    return InvalidError("INVALID_PATH", "The path is not valid", [Violation("path", str(error)[:300])], path=path)


def _etag(store: InMemoryStateStore[Any]) -> str:
    return f"v{store.version}"


def _check_count(count: int, name: str) -> None:
    if not 1 <= count <= MAX_PATHS:
        raise InvalidError(
            "INVALID_REQUEST", "The request is not valid", [Violation(name, f"must be 1 to {MAX_PATHS}")]
        )
