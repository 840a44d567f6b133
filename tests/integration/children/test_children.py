"""Durable children: started once, awaited without memory, told once, closed with their parents."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
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
    Measured,
    Outer,
    Point,
    Question,
    children_of,
    in_memory,
    runs_of,
    until,
)

from stepwire.client import RunFailedError, RunStatus, SyncClient
from stepwire.server.registry import Registry
from stepwire.server.runs.errors import InvalidError, LimitError, Violation
from stepwire.server.runs.family.ends import Ends
from stepwire.server.runs.hosting.live_run import LiveRun
from stepwire.server.store import RunKey, RunQuery, StoreCorruptError
from stepwire.server.store.terms import CLOSE, TELL
from stepwire.server.testing import RunningServer, serve
from stepwire.workflow import Context, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.errors import (
    ChildRunError,
    StepError,
    WorkflowCancelledByUser,
    WorkflowConfigurationError,
    WorkflowError,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
)


@pytest.fixture(autouse=True)
def _afresh() -> None:
    BEGUN.clear()
    GATE.clear()


def outcome_of(act: Callable[..., Any], *others: Any, **options: Any) -> Any:
    with serve(Outer(act, **options), Inner, *others) as server, server.client() as client:
        return client.start_run("Outer").result()


# -- the face of a run in process -----------------------------------------------------------------------------------


def test_a_workflow_that_is_served_runs_as_a_child_with_the_result_of_a_run_in_process() -> None:
    seen = []

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        seen.append(await outer.inner.run(text="a", how="point"))
        seen.append(await ctx.start_run("Measure", text="so it is"))
        return await outer.inner.run(start_event=Given(text="b"))

    with serve(Outer(act), Inner, Measure) as server, server.client() as client:
        run = client.start_run("Outer")
        assert run.result() == "B"
        assert seen == [(Point(x=1, y=2), {"a"}), Measured(length=8, words={"so", "it", "is"})]
        children = children_of(client, run.run_id)
        assert [child.workflow for child in children] == ["Inner", "Measure", "Inner"]
        assert all(child.status is RunStatus.COMPLETED for child in children)


def test_a_workflow_that_is_not_served_runs_nested_as_before() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await Measure().run(text="so")

    with serve(Outer(act)) as server, server.client() as client:
        run = client.start_run("Outer")
        assert run.result() == {"length": 2, "words": ["so"], "result": None}
        assert children_of(client, run.run_id) == []


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("fail", StepError, "Error in step 'go': no x"),
        ("late", WorkflowTimeoutError, "timed out after 0.05 seconds"),
        ("cancelled", WorkflowCancelledByUser, "cancelled"),
        ("input", WorkflowRuntimeError, "n"),
    ],
)
def test_what_a_child_fails_with_is_what_a_run_in_process_raises(how: str, kind: type[Exception], text: str) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        try:
            if how == "late":
                await ctx.start_run("Inner", text="x", how="hang", timeout=0.05)
            elif how == "input":
                await outer.inner.run(text="x", n="many")
            else:
                handler = outer.inner.run(text="x", how="fail" if how == "fail" else "hang")
                if how == "cancelled":
                    await handler.cancel_run()
                await handler
        except WorkflowError as error:
            return [type(error).__name__, str(error)]

    name, message = outcome_of(act)
    assert name == kind.__name__
    assert text in message
    assert message.count("Error in step") == (how == "fail")


def test_a_workflow_that_nobody_serves_is_refused_at_the_call() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match="no workflow 'nope' is served"):
            ctx.start_run("nope")
        with pytest.raises(WorkflowRuntimeError, match="does not fit the workflow Inner: n"):
            ctx.start_run("Inner", n="many")
        return "told"

    assert outcome_of(act) == "told"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"run_id": "a b"}, "run_id: must be 1 to 128 of letters"),
        ({"run_id": 7}, "run_id must be a str, not int"),
        ({"labels": {"a": 1}}, "labels must be a dict of str to str, one holds int"),
        ({"labels": "ab"}, "labels must be a dict of str to str, not str"),
        ({"labels": {"a": "x" * 256}}, "labels: keys are 1 to 63, values at most 255 characters"),
        ({"labels": {str(number): "" for number in range(33)}}, "labels: must be at most 32"),
        ({"timeout": "soon"}, "timeout must be a number of seconds or None, not str"),
        ({"timeout": 0}, "timeout: must be positive"),
        ({"timeout": -1.0}, "timeout: must be positive"),
        ({"timeout": 1e12}, "timeout: must be positive and at most 315576000000 seconds"),
    ],
)
def test_wrong_arguments_of_a_start_are_refused_at_the_call(options: dict[str, Any], text: str) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(WorkflowRuntimeError) as raised:
            ctx.start_run("Inner", **options)
        return [str(raised.value), await ctx.start_run("Inner", text="a", labels={"a": "b"}, timeout=math.inf)]

    message, result = outcome_of(act)
    assert text in message
    assert result == "A"


def test_whatever_prevents_a_start_fails_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match=f"Inner: {GATE['says']}"):
            await outer.inner.run(text="a")
        return "told"

    def fail(error: Exception) -> Any:
        async def start(*_: Any) -> None:
            raise error

        return start

    with serve(Outer(act), Inner) as server, server.client() as client:
        violations = [Violation("labels", "are wrong"), Violation("run_id", "is wrong")]
        for error, says in (
            (KeyError("secret"), "it could not be started; the log of the server says why"),
            (InvalidError("INVALID_REQUEST", "No", violations), r"No \(labels: are wrong; run_id: is wrong\)"),
        ):
            GATE["says"] = says
            monkeypatch.setattr(runs_of(server).family.starts.calls, "start", fail(error))
            assert client.start_run("Outer").result() == "told"


def test_a_workflow_whose_max_children_is_no_number_of_runs_is_not_served() -> None:
    for most in (0, -1, True, 2.5):
        wrong: Any = type("Wrong", (Inner,), {"max_children": most})
        with pytest.raises(WorkflowConfigurationError, match="max_children must be an int of 1 or more, or None"):
            Registry().add("wrong", wrong)


def test_the_stream_of_a_child_can_be_read() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler = outer.inner.run(text="a", how="note", n=3)
        told = [type(event).__name__ async for event in handler.stream_events()]
        assert handler.run_id
        return [told, await handler, handler.done(), handler.result()]

    assert outcome_of(act) == [["Note", "Note", "Note", "StopEvent"], "A", True, "A"]


def test_a_step_in_a_thread_awaits_children_too() -> None:
    class Sync(Workflow):
        @step
        def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=[ctx.blocking.start_run("Inner", text=text) for text in ("a", "b")])

    with serve(Sync, Inner) as server, server.client() as client:
        run = client.start_run("Sync")
        assert run.result() == ["A", "B"]
        assert len(children_of(client, run.run_id)) == 2


def test_without_a_server_a_workflow_of_the_name_runs_nested() -> None:
    class Alone(Workflow):
        @step
        async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(ChildRunError, match="no server runs this"):
                ctx.start_run("other")
            return StopEvent(result=await ctx.start_run("inner", text="a"))

    async def run() -> Any:
        alone = Alone()
        alone.add_workflows(inner=Inner())
        return await alone.run()

    assert asyncio.run(run()) == "A"


# -- once -----------------------------------------------------------------------------------------------------------


def test_a_child_is_started_once_however_often_its_step_begins(tmp_path: Path) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        first = await outer.inner.run(text="first")
        second = await outer.inner.run(text="second", how="ask")
        same = await asyncio.gather(*(outer.inner.run(text="same") for _ in range(3)))
        return [first, second, same]

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        for _ in range(3):
            until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")
            server.restart(kill=True)
        child = children_of(client, run_id)[-1]
        client.run(child.run_id).context.send_event(("Answer", {"text": "second"}))
        assert client.run(run_id).result() == ["FIRST", "second second", ["SAME", "SAME", "SAME"]]
        assert len(children_of(client, run_id)) == 5
        assert (BEGUN["inner first"], BEGUN["inner same"]) == (1, 3)
        assert BEGUN["outer"] == 2, "a run that waits for a child is not begun again by a restart"


def test_a_start_that_a_crash_prevented_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a")

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "carry_out", lambda *_: None)
            run_id = client.start_run("Outer").run_id
            until(lambda: server.history(run_id)[-1].kind.endswith("child"), "the start in the ledger")
            assert children_of(client, run_id) == []
            server.kill()
        server.start()
        assert client.run(run_id).result() == "A"
        assert len(children_of(client, run_id)) == 1


def test_an_end_that_a_crash_kept_from_the_parent_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
        until(lambda: client.run(run_id).info().status is RunStatus.WAITING)
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
            client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
            assert client.run(child.run_id).result() == "a a"
            server.kill()
        server.start()
        assert client.run(run_id).result() == "a a"
        assert BEGUN["inner a"] == 1 or BEGUN["inner a"] == 2  # the kill may have lost the attempt that was answered


def test_an_end_is_told_though_the_parent_left_memory_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        family = runs_of(server).family
        find = family.ends.outcome

        async def release_first(record: Any) -> Any:
            outcome = await find(record)
            if (parent := runs_of(server).pool.in_memory(RunKey("default", run_id))) is not None:
                assert parent.release()
            return outcome

        monkeypatch.setattr(family.ends, "outcome", release_first)
        server._call(family.ends.take_end(RunKey("default", run_id), child))
        assert client.run(run_id).result() == "a a"


def test_a_parent_is_told_of_a_child_that_was_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match="was deleted before its parent heard of its end"):
            await outer.inner.run(text="a", how="ask")
        return "told"

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        server._call(runs_of(server).pool.store.delete(RunKey("default", child)))
        server._call(runs_of(server).family.ends.take_end(RunKey("default", run_id), child))
        assert client.run(run_id).result() == "told"


def test_an_end_counts_as_told_only_once_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        text = await outer.inner.run(text="a", how="ask")
        await ctx.wait_for_event(Finish, timeout=None)
        return text

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        take_end = runs_of(server).family.ends.take_end
        server._call(take_end(RunKey("default", run_id), child))
        waited = []
        committed = LiveRun.committed

        async def noted(run: LiveRun) -> None:
            waited.append(run.key.run_id)
            await committed(run)

        with monkeypatch.context() as patched:
            patched.setattr(LiveRun, "committed", noted)
            server._call(take_end(RunKey("default", run_id), child))
        assert run_id in waited
        client.run(run_id).context.send_event(("Finish", {}))
        assert client.run(run_id).result() == "a a"


def test_a_record_that_cannot_be_told_keeps_no_other_one_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    async def fails_once(ends: Ends, record: Any, outcome: Any = None) -> bool:
        if record.key.run_id == failing and not failed:
            failed.append(record.key.run_id)
            raise ValueError("no telling")
        return await tell(ends, record, outcome)

    failed: list[str] = []
    tell = Ends.tell
    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        with monkeypatch.context() as patched:
            pairs = [_untold(server, client, patched) for _ in range(3)]
            server.kill()
        failing = pairs[1][1]
        monkeypatch.setattr(Ends, "tell", fails_once)
        monkeypatch.setattr("stepwire.server.runs.family.undone._SWEEP_SECONDS", 0.2)
        server.start()
        until(lambda: not _undone(server), "the next look at what is to be done")
        assert failed == [failing]
        assert [client.run(run_id).result() for run_id, _ in pairs] == ["a a"] * 3


def test_the_end_of_a_child_whose_snapshot_is_damaged_is_told_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        with pytest.raises(ChildRunError, match="what it came to is damaged"):
            await outer.inner.run(text="a", how="ask")
        return "told"

    with serve(Outer(act), Inner) as server, server.client() as client:
        run_id, child = _untold(server, client, monkeypatch)
        store = runs_of(server).pool.store
        load = type(store).load

        def damaged(self: Any, key: RunKey, *rest: Any) -> Any:
            if key.run_id == child:
                raise StoreCorruptError("its snapshot is damaged")
            return load(self, key, *rest)

        monkeypatch.setattr(type(store), "load", damaged)
        server._call(runs_of(server).family.ends.take_end(RunKey("default", run_id), child))
        assert client.run(run_id).result() == "told"


def test_a_refusal_that_passes_is_no_end_of_a_start_a_cancel_or_a_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="closed", how="ask")
        return await outer.inner.run(text="a")

    refused: list[str] = []

    def refuse_once(what: str, at: Any) -> None:
        do = getattr(at, what)

        async def refuse(*args: Any) -> Any:
            if what not in refused:
                refused.append(what)
                raise LimitError("The server's storage is full", retry_after=0.01)
            return await do(*args)

        monkeypatch.setattr(at, what, refuse)

    with serve(Outer(act), Inner) as server, server.client() as client:
        family = runs_of(server).family
        refuse_once("start", family.local)
        refuse_once("cancel", family.local)
        refuse_once("_take", family.ends)
        run = client.start_run("Outer")
        assert run.result() == "A"
        until(lambda: not _undone(server), "the end of what is to be done")
        assert sorted(refused) == ["_take", "cancel", "start"]
        assert {child.status for child in children_of(client, run.run_id)} == {
            RunStatus.COMPLETED,
            RunStatus.CANCELLED,
        }


def test_children_count_as_cancelled_only_once_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        for number in range(3):
            ctx.start_run("Inner", text=str(number), how="ask")
        await ctx.wait_for_event(Finish, timeout=None)
        return "done"

    refused: list[str] = []
    monkeypatch.setattr("stepwire.server.runs.family.undone._SWEEP_SECONDS", 0.2)
    with serve(Outer(act), Inner) as server, server.client() as client:
        calls = runs_of(server).family.local
        cancel = calls.cancel

        async def refuse_first(caller: Any, run_id: str, reason: str) -> None:
            if not refused:
                refused.append(run_id)
                raise InvalidError("INVALID_REQUEST", "No")
            await cancel(caller, run_id, reason)

        monkeypatch.setattr(calls, "cancel", refuse_first)
        run = client.start_run("Outer")
        until(lambda: len([each for each in children_of(client, run.run_id) if each.pending_waiters]) == 3)
        run.context.send_event(("Finish", {}))
        assert run.result() == "done"
        until(lambda: not _undone(server), "the end of what is to be done")
        assert {child.status for child in children_of(client, run.run_id)} == {RunStatus.CANCELLED}


def _untold(server: RunningServer, client: SyncClient, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Start a run whose child ends, which nobody tells it from then on; return the ids of both."""
    monkeypatch.setattr(type(runs_of(server).family), "ended", lambda *_: None)
    run_id: str = client.start_run("Outer").run_id
    child = until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")[0]
    until(lambda: client.run(run_id).info().status is RunStatus.WAITING)
    client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
    assert client.run(child.run_id).result() == "a a"
    return run_id, child.run_id


# -- waiting --------------------------------------------------------------------------------------------------------


def test_a_parent_that_waits_a_week_for_a_childs_question_holds_no_memory(tmp_path: Path) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        return await outer.inner.run(text="a", how="ask")

    outer = Outer(act, Inner(timeout=30.0), timeout=30.0)
    with (
        serve(outer, Inner(timeout=30.0), data=tmp_path, settings={"idle_after": 0.1}) as server,
        server.client() as client,
    ):
        run_id = client.start_run("Outer").run_id
        until(lambda: [each for each in children_of(client, run_id) if each.pending_waiters], "the question")
        until(lambda: not in_memory(server), "the release")
        server.skip(days=7)
        assert not in_memory(server)
        assert client.run(run_id).info().status is RunStatus.WAITING
        child = children_of(client, run_id)[0]
        client.run(child.run_id).context.send_event(("Answer", {"text": "a"}))
        assert client.run(run_id).result() == "a a"


# -- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("end", ["cancel", "complete"])
def test_children_end_with_their_parent_unless_they_are_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, killed: bool
) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        ctx.start_run("Inner", text="kept", how="ask", parent_close="abandon")
        handler = ctx.start_run("Inner", text="closed", how="ask", labels={"of": "closed"})
        if end == "cancel":
            await handler
        await ctx.wait_for_event(Finish, timeout=None)
        return "done"

    with serve(Outer(act), Inner, data=tmp_path) as server, server.client() as client:
        run_id = client.start_run("Outer").run_id
        until(lambda: len([each for each in children_of(client, run_id) if each.pending_waiters]) == 2)
        with monkeypatch.context() as patched:
            if killed:
                patched.setattr(type(runs_of(server).family), "ended", lambda *_: None)
            if end == "cancel":
                client.run(run_id).cancel()
            else:
                client.run(run_id).context.send_event(("Finish", {}))
            until(lambda: client.run(run_id).info().ended_at)
            if killed:
                server.kill()
                server.start()
        child = next(each for each in children_of(client, run_id) if each.labels)
        until(lambda: client.run(child.run_id).info().status is RunStatus.CANCELLED, "the cancel")
        outcome = client.run(child.run_id).info().outcome
        assert outcome is not None
        assert "has ended" in outcome.reason
        kept = next(each for each in children_of(client, run_id) if not each.labels)
        assert kept.status is RunStatus.WAITING
        client.run(kept.run_id).context.send_event(("Answer", {"text": "kept"}))
        assert client.run(kept.run_id).result() == "kept kept"
        until(lambda: not _undone(server), "the end of what is to be done")


def _undone(server: Any) -> list[str]:
    """Return the runs of which something is to be done still."""
    runs = runs_of(server)

    async def find() -> list[str]:
        found: list[str] = []
        for what in (CLOSE, TELL):
            records = await runs.pool.store.list(RunQuery(namespace="default", terms=(what,)))
            found += [record.key.run_id for record in records]
        return found

    left: list[str] = server._call(find())
    return left


# -- retries --------------------------------------------------------------------------------------------------------


def test_a_retry_by_policy_keeps_children_that_completed_and_starts_others_anew() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        good = await outer.inner.run(text="good")
        if ctx.step_info().attempt == 2:
            GATE["mended"] = True
        return [good, await outer.inner.run(text="bad", how="fail")]

    assert outcome_of(act) == ["GOOD", "BAD"]
    assert (BEGUN["inner good"], BEGUN["inner bad"]) == (1, 2)


def test_a_retry_of_the_run_keeps_children_that_completed() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        good = await outer.inner.run(text="good")
        return [good, await outer.inner.run(text="bad", how="fail")]

    with serve(Outer(act), Inner) as server, server.client() as client:
        run = client.start_run("Outer")
        with pytest.raises(RunFailedError):
            run.result()
        GATE["mended"] = True
        again = run.retry()
        assert again.result() == ["GOOD", "BAD"]
        assert (BEGUN["inner good"], BEGUN["inner bad"]) == (1, 4)
        assert [child.status for child in children_of(client, again.run_id)] == [RunStatus.COMPLETED]


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_a_workflow_that_starts_itself_without_end_is_told_the_chain() -> None:
    class Endless(Workflow):
        @step
        async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await ctx.start_run("Endless"))

    with serve(Endless, settings={"max_child_depth": 3}) as server, server.client() as client:
        with pytest.raises(RunFailedError, match="Endless -> Endless -> Endless -> Endless -> Endless"):
            client.start_run("Endless").result()
        assert len(list(client.list_runs())) == 4


def test_at_most_max_children_are_under_way_and_the_others_wait_in_order() -> None:
    most = 0

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        nonlocal most
        handlers = [outer.inner.run(text=str(number)) for number in range(10)]
        children = runs_of(server).pool.in_memory(("default", ctx.run_id)).broker.children
        for handler in handlers:
            most = max(most, sum(child.state in ("starting", "living") for child in children))
            await handler
        return [await handler for handler in handlers]

    with serve(Outer(act), Inner, settings={"max_children": 3}) as server, server.client() as client:
        run = client.start_run("Outer")
        assert run.result() == [str(number) for number in range(10)]
        assert most == 3


def test_a_run_starts_no_more_than_its_bound() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        for number in range(5):
            await outer.inner.run(text=str(number))
        with pytest.raises(ChildRunError, match="at most 5 runs"):
            outer.inner.run(text="more")
        return "told"

    with serve(Outer(act), Inner, settings={"max_children_total": 5}) as server, server.client() as client:
        assert client.start_run("Outer").result() == "told"


@pytest.mark.parametrize("kill", [False, True])
def test_a_workflow_of_one_run_at_a_time_may_start_itself(tmp_path: Path, kill: bool) -> None:
    """The outer run keeps its slot while it waits, so a child of the same workflow would wait for it for ever."""

    class Deep(Workflow):
        @step
        async def go(self, ctx: Context, ev: Given) -> StopEvent:
            if ev.n:
                return StopEvent(result=[ev.text, await ctx.start_run("Deep", text=ev.text, n=ev.n - 1, how=ev.how)])
            if ev.how == "ask":
                answer = await ctx.wait_for_event(Answer, Question(text=ev.text), timeout=None)
                return StopEvent(result=answer.text)
            return StopEvent(result="bottom")

    deep = Deep(num_concurrent_runs=1, timeout=None)
    with serve(deep, data=tmp_path) as server, server.client() as client:
        assert client.start_run("Deep", text="a", n=2).result(timeout=60) == ["a", ["a", "bottom"]]
        asks = client.start_run("Deep", text="b", n=1, how="ask")
        child = until(lambda: [each for each in children_of(client, asks.run_id) if each.pending_waiters])[0]
        next_one = client.start_run("Deep", text="c", n=0)
        server.restart(kill=kill)
        until(lambda: next_one.info().status is RunStatus.QUEUED, "the place in the queue")
        client.run(child.run_id).context.send_event(("Answer", {"text": "b"}))
        assert client.run(asks.run_id).result(timeout=60) == ["b", "b"]
        assert next_one.result(timeout=60) == "bottom"
