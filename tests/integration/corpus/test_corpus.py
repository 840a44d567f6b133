"""What earlier versions saved opens: every folder of the corpus, in this version."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.integration.corpus import make
from tests.integration.corpus.flows import EXACT, Gather, Item, Line
from tests.integration.corpus.make import registry

from stepwire.client import AlreadyExistsError, Client, EntryKind, RunStatus
from stepwire.client import Snapshot as ClientSnapshot
from stepwire.server.app import Server, Settings
from stepwire.server.runs import ANONYMOUS
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import Context
from stepwire.workflow.broker.timing.clock import CLOCK

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.glob("v*"))


@pytest.fixture(params=VERSIONS)
def folder(request: pytest.FixtureRequest) -> Path:
    return HERE / str(request.param)


@pytest.fixture
async def server(folder: Path, tmp_path: Path) -> AsyncIterator[Server]:
    """Serve a copy of the folder's database."""
    for name in ("stepwire.db", "snapshot.key"):
        shutil.copy(folder / name, tmp_path / name)
    server = Server(registry(), Settings(address="127.0.0.1:0", data=str(tmp_path)))
    offset = CLOCK._offset
    CLOCK._offset += 4000  # those that slept for an hour have slept enough, however young the corpus is
    await server.start()
    yield server
    await server.stop()
    CLOCK._offset = offset


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client(server.address) as client:
        yield client


def test_there_is_a_corpus() -> None:
    assert "v0.1.0" in VERSIONS


async def test_an_ended_run_has_its_result_its_log_and_its_request_id(client: Client) -> None:
    run = client.run("ended")
    assert await run.result(60) == 4
    sequences = [event.type async for event in run.events(internal=True)]
    assert sequences == ["StartEvent", "Note", "Question", "Answer", "StopEvent"]
    assert (await client.start_run("exact", run_id="ended", request_id="start-ended")).run_id == "ended"
    with pytest.raises(AlreadyExistsError):
        await client.start_run("exact", {"other": 1}, run_id="ended", request_id="start-ended")


async def test_values_of_every_kind_are_what_they_were(server: Server, client: Client) -> None:
    await client.run("waiting-exact").context.store.set("loaded", True)  # reading does not load a run
    assert server.runs is not None
    run = await server.runs.pool.live(ANONYMOUS, "waiting-exact")
    for key, value in EXACT.items():
        found = run.store.peek(key)
        assert found == value
        assert type(found) is type(value)


async def test_a_run_that_waits_takes_its_answer(client: Client) -> None:
    run = client.run("waiting-shop")
    info = await run.info()
    assert info.status == RunStatus.WAITING
    assert info.labels == {"corpus": "yes"}
    (waiter,) = info.pending_waiters
    assert (waiter.waiter_id, waiter.requirements) == ("q", {"n": 1})
    await run.context.send_event(("Answer", {"n": 1, "line": {"name": "milk", "price": "0.75"}}))
    assert await run.result(60) == "3.25"
    assert [event.type async for event in run.events(types=["Question"])] == ["Question", "StopEvent"]


async def test_its_questions_are_kept_apart_from_the_next_commit_on(server: Server, client: Client) -> None:
    assert server.runs is not None
    store, key = server.runs.pool.store, ANONYMOUS.key("waiting-shop")
    before = await store.get(key)
    await client.run("waiting-shop").context.store.set("owner", "Ada")
    after = await store.get(key)
    assert before is not None
    assert after is not None
    assert "pending" not in after.info
    assert list(after.pending.values()) == list(before.pending.values())
    assert [question["waiter_id"] for question in after.pending.values()] == ["q"]


async def test_a_collection_goes_on(client: Client) -> None:
    run = client.run("waiting-gather")
    assert await run.context.store.get("mine") == [1, 2]
    await run.context.send_event(("Item", {"n": 3}))
    assert await run.result(60) == [1, 2, 3]


async def test_a_sleep_ends_and_a_retry_keeps_its_count(client: Client) -> None:
    assert await client.run("waiting-nap").result(60) == 2
    retrying = client.run("retrying-nap")
    async with asyncio.timeout(60):
        # Its second attempt is on its way to sleep for its hour: it passes through RUNNING.
        while (await retrying.info()).status != RunStatus.WAITING:  # noqa: ASYNC110 - seen only from here
            await asyncio.sleep(0.01)
    found = [event.meta async for event in retrying.events(internal=True, follow=False) if event.meta is not None]
    assert [entry.type for entry in found if entry.kind != EntryKind.EXECUTION] == ["StartEvent"]
    assert [entry.execution.attempt for entry in found if entry.execution is not None] == [2]


async def test_snapshots_are_listed_and_forked(client: Client) -> None:
    kept = [info.sequence async for info in client.run("ended").snapshots()]
    assert kept
    assert kept[0] == 5
    fork = await client.start_run("exact", from_run=("ended", 3))
    await fork.context.send_event(("Answer", {"n": 9}))
    assert await fork.result(60) == 9


async def test_a_snapshot_that_a_client_kept_starts_a_run(folder: Path, client: Client) -> None:
    message = types.ContextSnapshot.FromString((folder / "context_snapshot.bin").read_bytes())
    run = await client.start_run("shop", snapshot=ClientSnapshot(message))
    await run.context.send_event(("Answer", {"n": 1}))
    assert await run.result(60) == "2.50"


async def test_a_context_that_the_library_saved_goes_on(folder: Path) -> None:
    workflow = Gather()
    data = json.loads((folder / "context.json").read_text(encoding="utf-8"))
    context: Context[Any] = Context.from_dict(workflow, data)
    assert await context.store.get("mine") == [1, 2]
    handler = workflow.run(ctx=context)
    context.send_event(Item(n=3))
    assert await handler == [1, 2, 3]


async def test_a_context_of_1x_goes_on(folder: Path) -> None:
    workflow = Gather()
    data = json.loads((folder / "context_1x.json").read_text(encoding="utf-8"))
    context: Context[Any] = Context.from_dict(workflow, data)
    assert await context.store.get("mine") == [1, 2]
    assert await context.store.get("line") == Line(name="tea", price=Decimal("2.50"))
    assert sorted(await workflow.run(ctx=context)) == [1, 2, 3]


def test_a_released_folder_is_never_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.integration.corpus.make.version", lambda name: "0.1.0")
    before = {path: path.read_bytes() for path in (HERE / "v0.1.0").iterdir()}
    with pytest.raises(SystemExit, match="stays as it is"):
        make.main()
    assert {path: path.read_bytes() for path in (HERE / "v0.1.0").iterdir()} == before
