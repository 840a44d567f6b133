"""Servers that live and die on one data directory, and a store that is held back or fails."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from grpc_health.v1 import health_pb2
from tests.integration.rpc_serving import Rpc, refused, registry_of, serving
from tests.serving import ServerProcess

from stepwire.server.app import Server
from stepwire.server.registry import Registry
from stepwire.server.store import Claim, Commit, RunKey, RunStore, SqliteStore
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import Workflow
from stepwire.workflow.broker.timing.clock import CLOCK

DATABASE = "stepwire.db"
"""The file of the runs, in a data directory."""


def life(data: Path, served: Registry | Workflow | type[Workflow], **settings: Any) -> Any:
    """Serve on a data directory until the block ends; a workflow is served as `flow`."""
    registry = served if isinstance(served, Registry) else registry_of(flow=served)
    return serving(registry, str(data), **{"grace": 0.0, **settings})


async def crash(rpc: Rpc) -> None:
    """End a server as SIGKILL does: what is not handed to the store by now is lost, nobody hears a word."""
    pool, server = rpc.pool, rpc.server
    rpc.keeper.stop()
    for run in pool:
        run.vanish()
    pool._live.clear()
    await rpc.channel.close()
    server.calls.stop()
    await server._listener.stop(0.0)
    await server._store.close()


def advance(seconds: float) -> None:
    """Let time pass, for everything that is not waiting already. The fixture `time_passes` sets it back."""
    CLOCK._offset += seconds


async def settle(rpc: Rpc) -> None:
    """Give the server a few turns: what is asserted after it must not have happened."""
    for _ in range(5):
        await rpc.health.Check(health_pb2.HealthCheckRequest(service=""), timeout=60)


async def until(true: Callable[[], object]) -> None:
    """Wait until something, or what awaiting it gives, is true; the test's timeout bounds it."""
    while not (await found if inspect.isawaitable(found := true()) else found):  # noqa: ASYNC110 - seen only from here
        await asyncio.sleep(0.01)


class Hold:
    """Holds back what a store is given to commit, in order."""

    def __init__(self, commit: Callable[[Commit], asyncio.Future[Claim]]) -> None:
        self.commits: list[Commit] = []
        self._commit = commit
        self._futures: list[asyncio.Future[Claim]] = []
        self._passed = 0

    def take(self, commit: Commit) -> asyncio.Future[Claim]:
        future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        self.commits.append(commit)
        self._futures.append(future)
        return future

    async def arrived(self, count: int) -> None:
        """Wait until so many commits came in all."""
        await until(lambda: len(self.commits) >= count)

    async def pass_one(self) -> None:
        """Commit the first that is held, durably."""
        number, self._passed = self._passed, self._passed + 1
        claim = await self._commit(self.commits[number])
        self._futures[number].set_result(claim)

    def fail_one(self, error: Exception) -> None:
        """Fail the first that is held: nothing of it is kept."""
        number, self._passed = self._passed, self._passed + 1
        self._futures[number].set_exception(error)

    async def pass_all(self) -> None:
        """Commit everything that is held."""
        while self._passed < len(self.commits):
            await self.pass_one()

    def let_go(self) -> None:
        """Hand on what is held."""
        start, self._passed = self._passed, len(self.commits)
        for given, future in zip(self.commits[start:], self._futures[start:], strict=True):
            self._commit(given).add_done_callback(partial(_hand_on, future))


def _hand_on(future: asyncio.Future[Claim], done: asyncio.Future[Claim]) -> None:
    if (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())


@contextmanager
def held(store: RunStore) -> Iterator[Hold]:
    """Hold the commits of a store back while the block lasts; what is left then is committed."""
    commit = store.commit
    hold = Hold(commit)
    _replace(store, hold.take)
    try:
        yield hold
    finally:
        _replace(store, commit)
        hold.let_go()


@contextmanager
def failing(
    store: RunStore,
    error: Exception,
    *,
    run_id: str | None = None,
    after: bool = False,
    times: int = 1 << 30,
    delay: float = 0.0,
) -> Iterator[list[Commit]]:
    """Fail commits while the block lasts, those of a run or all; `after` they were made durable, or after a delay."""
    commit = store.commit
    failed: list[Commit] = []

    def fail(given: Commit) -> asyncio.Future[Claim]:
        if run_id not in (None, given.record.key.run_id) or len(failed) >= times:
            return commit(given)
        failed.append(given)
        future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        if after:
            commit(given).add_done_callback(lambda _: future.set_exception(error))
        else:
            asyncio.get_running_loop().call_later(delay, future.set_exception, error)
        return future

    _replace(store, fail)
    try:
        yield failed
    finally:
        _replace(store, commit)


def _replace(store: RunStore, commit: Callable[[Commit], asyncio.Future[Claim]]) -> None:
    setattr(store, "commit", commit)  # noqa: B010 - for mypy it is a method


async def refused_reason(call: Awaitable[Any]) -> str:
    """Await a call that must fail, and give the reason."""
    return (await refused(call)).reason


def parts_of(commit: Commit) -> dict[str, Any]:
    """Return the parts that a commit sets."""
    parts: dict[str, Any] = json.loads(commit.delta)["set"]
    return parts


def key_of(run_id: str) -> RunKey:
    """Return the key of a run of the default namespace."""
    return RunKey("default", run_id)


def status(run: types.Run) -> str:
    """Return a run's status as a word."""
    return types.RunStatus.Name(run.status).removeprefix("RUN_STATUS_")


def result(run: types.Run) -> Any:
    """Return the result of a completed run."""
    assert status(run) == "COMPLETED", run
    return json.loads(run.outcome.result.json)


async def state_of(rpc: Rpc, run_id: str, path: str = "") -> Any:
    """Return a run's state."""
    request = states.GetStateRequest(run_id=run_id, path=path, encoding=types.PAYLOAD_ENCODING_JSON)
    return json.loads((await rpc.states.GetState(request, timeout=60)).value.json)


async def set_state(rpc: Rpc, run_id: str, path: str, value: Any, request_id: str = "") -> str:
    """Set a value of a run's state; return the etag."""
    item = states.PathValue(path=path, value=types.Payload(json=json.dumps(value).encode()))
    request = states.SetStateRequest(run_id=run_id, values=[item], request_id=request_id)
    return str((await rpc.states.SetState(request, timeout=60)).etag)


async def publish(rpc: Rpc, run_id: str, text: str, request_id: str = "") -> int:
    """Write a note to a run's stream; return its sequence."""
    event = types.Event(type="Note", payload=types.Payload(json=json.dumps({"text": text}).encode()))
    request = runs.PublishEventRequest(run_id=run_id, event=event, request_id=request_id)
    return int((await rpc.runs.PublishEvent(request, timeout=60)).sequence)


async def snapshot_of(rpc: Rpc, run_id: str, sequence: int = 0) -> types.ContextSnapshot:
    """Return a snapshot."""
    request = snapshots.GetSnapshotRequest(run_id=run_id, sequence=sequence)
    found: types.ContextSnapshot = (await rpc.snapshots.GetSnapshot(request, timeout=60)).snapshot
    return found


async def kept_snapshots(rpc: Rpc, run_id: str) -> list[int]:
    """Return the sequences of the kept snapshots, newest first, from pages of three."""
    found: list[int] = []
    token = ""
    while True:
        request = snapshots.ListSnapshotsRequest(run_id=run_id, page_size=3, page_token=token)
        page = await rpc.snapshots.ListSnapshots(request, timeout=60)
        found += [info.sequence for info in page.snapshots]
        token = page.next_page_token
        if not token:
            return found


async def fork(rpc: Rpc, run_id: str, sequence: int = 0, workflow: str = "flow", **fields: Any) -> types.Run:
    """Start a run from a snapshot that the server keeps."""
    source: dict[str, Any] = {"from": types.SnapshotRef(run_id=run_id, sequence=sequence)}
    request = runs.StartRunRequest(workflow=workflow, encoding=types.PAYLOAD_ENCODING_JSON, **source, **fields)
    found: types.Run = (await rpc.runs.StartRun(request, timeout=60)).run
    return found


async def rows_of(store: RunStore, run_id: str) -> list[tuple[Any, ...]]:
    """Return every byte that the database holds of a run."""
    assert isinstance(store, SqliteStore)

    def read(connection: Any) -> list[tuple[Any, ...]]:
        (pk,) = connection.execute("SELECT pk FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        rows = connection.execute("SELECT * FROM runs WHERE pk = ?", (pk,)).fetchall()
        for table in ("commits", "log", "requests"):
            rows += connection.execute(f"SELECT * FROM {table} WHERE run = ? ORDER BY id", (pk,)).fetchall()
        return list(rows)

    return await store._writer.run(read)


@asynccontextmanager
async def reaching(process: ServerProcess) -> AsyncIterator[Rpc]:
    """Call a server in another process."""
    rpc = Rpc(cast("Server", process))  # it has an address too, which is all that the calls need
    try:
        yield rpc
    finally:
        await rpc.channel.close()


async def asked(rpc: Rpc, run_id: str, prompt: str = "Prompt") -> types.Run:
    """Return a run once its question is in the log: its waiter is open in the same commit."""
    options = runs.StreamOptions(event_types=[prompt])
    call = rpc.runs.StreamEvents(runs.StreamEventsRequest(run_id=run_id, options=options), timeout=60)
    async for frame in call:
        if frame.WhichOneof("frame") == "events" and frame.events.entries:
            break
    call.cancel()
    return await rpc.get(run_id)


async def parked(rpc: Rpc, run_id: str) -> None:
    """Wait until a run only waits, durably."""

    async def waits() -> bool:
        return status(await rpc.get(run_id)) == "WAITING"

    await until(waits)


async def waiting(rpc: Rpc, run_id: str, waiter_id: str) -> None:
    """Wait until a run has this open waiter."""

    async def is_open() -> bool:
        return any(waiter.waiter_id == waiter_id for waiter in (await rpc.get(run_id)).pending_waiters)

    await until(is_open)


async def apply_retention(rpc: Rpc) -> int:
    """Apply the rules now, as the server does now and then; return how many runs went."""
    return await rpc.keeper.retention.apply(rpc.pool)
