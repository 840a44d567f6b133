"""Parents and children at two replicas of one process, so that a test can hold up what one does for the other."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.children.family import (
    BEGUN,
    GATE,
    Answer,
    Finish,
    Given,
    Inner,
    Measure,
    Outer,
    children_of,
    runs_of,
    until,
)
from tests.integration.cluster.support import Database, alive
from tests.postgres import PostgresServer

from stepwire.client import RunStatus, SyncClient
from stepwire.server.principal import Principal
from stepwire.server.store import RunKey, RunRecord
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context, Event, InputRequiredEvent, StopEvent, Workflow, step

pytestmark = pytest.mark.slow

_numbers = itertools.count()


class Faint(Event):
    """Of a class that the parents' workflow does not know."""

    text: str


class Wonder(InputRequiredEvent):
    """Such a question."""

    text: str


class Gone(StopEvent):
    """Such an end."""

    words: list[str]


class Far(Workflow):
    """Writes, asks and ends with events of its own."""

    @step
    async def go(self, ctx: Context, ev: Given) -> Gone:
        """Do it."""
        ctx.write_event_to_stream(Faint(text=ev.text))
        answer = await ctx.wait_for_event(Answer, Wonder(text=ev.text), timeout=None)
        return Gone(words=[ev.text, answer.text])


@pytest.fixture(autouse=True)
def _afresh() -> None:
    BEGUN.clear()
    GATE.clear()


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    found = Database(postgres, f"near_{next(_numbers)}").create()
    yield found
    found.close()


class Two:
    """A replica that serves the parents, and one that serves the children."""

    def __init__(self, above: RunningServer, below: RunningServer, client: SyncClient) -> None:
        self.above = above
        self.below = below
        self.client = client


@pytest.fixture
def two(database: Database) -> Iterator[Two]:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await GATE["act"](outer, ctx, ev)

    settings = {"lease": 2.0}
    with (
        serve(Outer(act), data=database.dsn, settings=settings) as above,
        serve(Inner, Measure, Far, data=database.dsn, settings=settings) as below,
        above.client() as client,
    ):
        alive(database, 2)
        until(lambda: runs_of(above).pool.routes.serves("Inner"), "the news of the other replica")
        yield Two(above, below, client)


# -- starts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["cancel", "complete"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_child_that_is_started_late_does_not_outlive_its_parent(
    two: Two, monkeypatch: pytest.MonkeyPatch, end: str, lost: bool
) -> None:
    """The start is under way at the other replica while the parent ends; `lost`: nobody here waits for it any more."""

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="late", how="ask")
        await ctx.wait_for_event(Finish, timeout=None)
        return "done"

    GATE["act"] = act
    begun: list[str] = []
    held = two.below._call(_make_event())
    local = runs_of(two.below).family.local
    start = local.start

    async def hold(caller: Principal, request: Any) -> None:
        begun.append(request.run_id)
        await held.wait()
        await start(caller, request)

    monkeypatch.setattr(local, "start", hold)
    if lost:
        monkeypatch.setattr("stepwire.server.rpc.peers.acting._SECONDS", 0.2)
    run = two.client.start_run("Outer")
    until(lambda: begun, "the start at the other replica")
    if end == "cancel":
        run.cancel()
    else:
        until(lambda: run.info().pending_waiters or run.info().status is RunStatus.RUNNING)
        until(lambda: _sent(run))
    until(lambda: run.info().ended_at, "the end of the parent")
    if lost:
        until(lambda: not _undone(two.above, run.run_id), "the close")
    two.below._call(_set(held))
    monkeypatch.undo()  # from here on nothing is to be lost
    child = begun[0]
    until(lambda: [each for each in children_of(two.client, run.run_id) if each.ended_at], "the end of the child")
    assert [each.run_id for each in children_of(two.client, run.run_id)] == [child]
    assert two.client.run(child).info().status is RunStatus.CANCELLED
    outcome = two.client.run(child).info().outcome
    assert outcome is not None
    assert outcome.reason == f"its parent {run.run_id} has ended"
    until(lambda: not _undone(two.above, run.run_id), "the close")
    if lost:
        assert [event.type for event in two.client.run(child).events()] == ["WorkflowCancelledEvent"]
        assert BEGUN["inner late"] == 0
        two.client.run(child).snapshot()
        two.client.run(child).delete()


def _sent(run: Any) -> bool:
    try:
        run.context.send_event(("Finish", {}))
    except Exception:  # noqa: BLE001 - it does not wait for it yet
        return False
    return True


def _undone(server: RunningServer, run_id: str) -> tuple[str, ...]:
    record = server._call(runs_of(server).pool.store.get(RunKey("default", run_id)))
    return tuple(each for each in record.terms if each.startswith("undone="))


async def _make_event() -> asyncio.Event:
    return asyncio.Event()


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_children_that_are_left_to_themselves_start_elsewhere(two: Two) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="on", parent_close="abandon")
        return "fired"

    GATE["act"] = act
    run = two.client.start_run("Outer")
    assert run.result(timeout=60) == "fired"
    until(lambda: [each for each in children_of(two.client, run.run_id) if each.status is RunStatus.COMPLETED])
    assert BEGUN["inner on"] == 1


def test_a_replica_that_is_behind_starts_no_child_a_second_time(database: Database) -> None:
    """Both close the same parent; the second knows what was true before the first began."""

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        for number in range(4):
            ctx.start_run("Inner", text=f"t{number}", how="ask", parent_close="abandon")
        return "fired"

    with (
        serve(Outer(act), Inner(timeout=None), data=database.dsn, settings={"max_children": 1}) as first,
        serve(Measure, data=database.dsn, settings={"max_children": 8}) as second,
        first.client() as client,
    ):
        alive(database, 2)
        until(lambda: runs_of(second).pool.routes.serves("Inner"), "the news of the other replica")
        run_id = client.start_run("Outer").run_id
        assert client.run(run_id).result(timeout=60) == "fired"

        def answer(number: int) -> str:
            """Answer a child once it asks, and wait for its end."""
            text = f"t{number}"
            child = until(
                lambda: next(
                    (
                        each.run_id
                        for each in children_of(client, run_id)
                        if any(waiter.requirements["text"] == text for waiter in each.pending_waiters)
                    ),
                    None,
                )
            )
            client.run(child).context.send_event(("Answer", {"text": text}))
            client.run(child).result(timeout=60)
            return str(child)

        def record() -> RunRecord:
            found = first._call(runs_of(first).pool.store.get(RunKey("default", run_id)))
            assert isinstance(found, RunRecord)
            return found

        until(lambda: record().info["children"].get("begun") == 1, "the start of the first one")
        behind = record()
        answer(0)
        gone = answer(1)
        until(lambda: record().info["children"]["begun"] == 3, "the start of the third one")
        client.run(gone).delete()
        assert second._call(runs_of(second).family.ends.close(behind)) is not None
        answer(2)
        answer(3)
        until(lambda: not _undone(first, run_id), "the close")
        assert [BEGUN[f"inner t{number}"] for number in range(4)] == [1] * 4
        assert gone not in [each.run_id for each in children_of(client, run_id)]


# -- streams --------------------------------------------------------------------------------------------------------


def test_the_stream_of_a_child_elsewhere_is_that_of_the_child(two: Two) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        found = []
        for name, fields in (("Inner", {"text": "a", "how": "note", "n": 2}), ("Measure", {"text": "so it is"})):
            handler = ctx.start_run(name, **fields)
            found += [[type(event).__name__, event.model_dump(mode="json")] async for event in handler.stream_events()]
        return found

    GATE["act"] = act
    found = two.client.start_run("Outer").result(timeout=60)
    assert [name for name, _ in found] == ["Note", "Note", "StopEvent", "Measured"]
    assert [fields["text"] for _, fields in found[:2]] == ["a 0", "a 1"]
    assert (found[2][1]["result"], found[3][1]["length"]) == ("A", 8)


def test_events_of_classes_that_are_not_here_come_with_their_fields_as_they_come(two: Two) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler = ctx.start_run("Far", text="a")
        found = []
        async for event in handler.stream_events():
            found.append([type(event).__name__, event.words if isinstance(event, StopEvent) else event.text])
            if isinstance(event, InputRequiredEvent):
                GATE["asked"] = handler.run_id
        return found

    GATE["act"] = act
    run = two.client.start_run("Outer")
    child = until(lambda: GATE.get("asked"), "the question in the stream")
    with two.below.client() as client:
        client.run(child).context.send_event(("Answer", {"text": "b"}))
    assert run.result(timeout=60) == [["Event", "a"], ["InputRequiredEvent", "a"], ["StopEvent", ["a", "b"]]]


# -- restarts -------------------------------------------------------------------------------------------------------


def test_a_start_waits_for_the_replica_that_serves_the_workflow(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        first = ctx.start_run("Inner", text="first", how="ask")
        GATE["second"] = ctx.start_run("Inner", text="second").run_id
        return [await first, await ctx.start_run("Inner", text="second")]

    GATE["act"] = act
    refused: list[str] = []
    calls = runs_of(two.above).family.starts.calls
    start = calls.start

    async def stop_first(caller: Principal, request: Any) -> None:
        if request.run_id == GATE.get("second") and not refused:
            refused.append(request.run_id)
            await asyncio.to_thread(two.below.stop)
            while runs_of(two.above).pool.routes.serves("Inner"):  # noqa: ASYNC110 - the news of another replica
                await asyncio.sleep(0.01)
        await start(caller, request)

    monkeypatch.setattr(calls, "start", stop_first)
    run = two.client.start_run("Outer")
    until(lambda: refused and not runs_of(two.above).pool.routes.serves("Inner"), "the stop")
    two.below.start()
    first = until(
        lambda: [each for each in children_of(two.client, run.run_id) if each.pending_waiters], "the question"
    )[0]
    two.client.run(first.run_id).context.send_event(("Answer", {"text": "first"}))
    assert run.result(timeout=60) == ["first first", "SECOND"]


# -- places ---------------------------------------------------------------------------------------------------------


def test_a_workflow_of_one_run_at_a_time_may_start_itself(database: Database) -> None:
    class Deep(Workflow):
        @step
        async def go(self, ctx: Context, ev: Given) -> StopEvent:
            if ev.n:
                return StopEvent(result=[ev.text, await ctx.start_run("Deep", text=ev.text, n=ev.n - 1)])
            answer = await ctx.wait_for_event(Answer, Wonder(text=ev.text), timeout=None)
            return StopEvent(result=answer.text)

    deep = Deep(num_concurrent_runs=1, timeout=None)
    settings = {"lease": 2.0}
    with (
        serve(deep, data=database.dsn, settings=settings) as one,
        serve(deep, data=database.dsn, settings=settings) as other,
        one.client() as client,
    ):
        alive(database, 2)
        run = client.start_run("Deep", text="a", n=2)

        def lowest() -> Any:
            return next((each for each in client.list_runs(waiting_for="Answer")), None)

        child = until(lowest, "the question")
        queued = client.start_run("Deep", text="b", n=0)
        other.restart()
        until(lambda: queued.info().status is RunStatus.QUEUED, "the place in the queue")
        client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
        assert run.result(timeout=60) == ["a", ["a", "a"]]
        until(lambda: queued.info().pending_waiters, "the slot")
