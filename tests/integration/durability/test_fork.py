"""Fork and time travel: snapshots at every kept sequence, and runs from them that never touch the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Answer, Flow, Item, Note, Prompt, ask
from tests.integration.durability.support import (
    asked,
    crash,
    fork,
    kept_snapshots,
    life,
    parked,
    publish,
    result,
    rows_of,
    set_state,
    snapshot_of,
    state_of,
    status,
    waiting,
)
from tests.integration.rpc_serving import Rpc, event, payload, refused, registry_of

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import Context, DictState, StartEvent, StopEvent, Workflow, step


async def two_questions(flow: Flow, ctx: Context[DictState]) -> list[int]:
    await ctx.store.set("stage", "first")
    first = await ctx.wait_for_event(Answer, Prompt(text="first"), waiter_id="first", timeout=None)
    await ctx.store.set("stage", "second")
    ctx.write_event_to_stream(Note(text=f"got {first.n}"))
    second = await ctx.wait_for_event(Answer, Prompt(text="second"), waiter_id="second", timeout=None)
    await ctx.store.set("stage", "done")
    return [first.n, second.n]


async def travelled(rpc: Rpc) -> str:
    """Run a run of two questions to its end, and return its id."""
    run_id = (await rpc.start("flow", {})).run_id
    await waiting(rpc, run_id, "first")
    await rpc.send(run_id, event("Answer", n=1))
    await waiting(rpc, run_id, "second")
    await rpc.send(run_id, event("Answer", n=2))
    assert result(await rpc.ended(run_id)) == [1, 2]
    return run_id


async def test_fork_from_every_kept_snapshot_leaves_the_original_as_it_is(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(two_questions)) as rpc:
        run_id = await travelled(rpc)
        before = await rows_of(rpc.store, run_id)
        log = await rpc.log(run_id)
        answers = [entry.sequence for entry in log if entry.type == "Answer"]
        kept = await kept_snapshots(rpc, run_id)
        assert kept == sorted(kept, reverse=True)
        assert kept[0] == log[-1].sequence
        stages = []
        for sequence in kept:
            snapshot = await snapshot_of(rpc, run_id, sequence)
            assert snapshot.sequence == sequence
            if sequence == log[-1].sequence:
                forked = await fork(rpc, run_id, sequence, input=payload({}))
            else:
                forked = await fork(rpc, run_id, sequence)
            assert (forked.forked_from.run_id, forked.forked_from.sequence) == (run_id, sequence)
            stages.append(dict(snapshot.state_json).get("stage"))
            given = [n for n in (1, 2) if sequence >= answers[n - 1]] if sequence < log[-1].sequence else []
            assert await _finish(rpc, forked.run_id) == [*given, 7, 7][:2]
            entries = await rpc.log(forked.run_id)
            assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        assert set(stages) >= {b'"first"', b'"second"', b'"done"'}
        assert await rows_of(rpc.store, run_id) == before
        assert await rpc.log(run_id) == log


async def _finish(rpc: Rpc, run_id: str) -> Any:
    """Answer 7 to whatever the run asks until it has ended; return its result."""
    for _ in range(2):
        await parked_or_ended(rpc, run_id)
        run = await rpc.get(run_id)
        if status(run) == "COMPLETED":
            break
        await rpc.send(run_id, event("Answer", n=7))
    return result(await rpc.ended(run_id))


async def parked_or_ended(rpc: Rpc, run_id: str) -> None:
    while status(await rpc.get(run_id)) not in ("WAITING", "COMPLETED"):
        request = runs.WaitRunRequest(run_id=run_id)
        request.timeout.FromMilliseconds(10)
        await rpc.runs.WaitRun(request)


async def test_fork_takes_ledger_buffers_and_open_waiters_with_it(tmp_path: Path) -> None:
    class Mixed(Workflow):
        @step
        async def work(self, ctx: Context[DictState], ev: StartEvent) -> None:
            ctx.write_event_to_stream(Note(text="once"))
            answer = await ctx.wait_for_event(Answer, Prompt(text="?"), waiter_id="q", timeout=None)
            await ctx.store.set("answer", answer.n)

        @step(num_workers=1)
        async def gather(self, ctx: Context[DictState], ev: Item) -> StopEvent | None:
            found: list[Any] | None = ctx.collect_events(ev, [Item, Item])
            return StopEvent(result=[item.n for item in found]) if found else None

    registry = registry_of(flow=Mixed(timeout=None, disable_validation=True))
    async with life(tmp_path, registry) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await rpc.send(run_id, event("Item", n=1))
        await parked(rpc, run_id)
        forked = await fork(rpc, run_id)
        assert [waiter.waiter_id for waiter in (await rpc.get(forked.run_id)).pending_waiters] == ["q"]
        await crash(rpc)
    async with life(tmp_path, registry) as rpc:
        for number, each in enumerate((forked.run_id, run_id), start=10):
            await rpc.send(each, event("Answer", n=number))
            await rpc.send(each, event("Item", n=number))
            assert result(await rpc.ended(each)) == [1, number]
            assert await state_of(rpc, each) == {"answer": number}
        # The note is the original's. The question is open, so the fork's log begins with it; nothing comes twice.
        names = [entry.type for entry in await rpc.log(forked.run_id)]
        assert names[0] == "Prompt"
        assert names.count("Prompt") == 1
        assert "Note" not in names


async def test_fork_shows_the_questions_that_are_open_in_its_own_stream(tmp_path: Path) -> None:
    class Questions(Workflow):
        @step
        async def left(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
            answers = [
                (await ctx.wait_for_event(Answer, Prompt(text=text), waiter_id=text, timeout=None)).n
                for text in ("first", "second")
            ]
            return StopEvent(result=answers)

        @step
        async def right(self, ctx: Context[DictState], ev: StartEvent) -> None:
            await ctx.wait_for_event(Item, Prompt(text="other"), waiter_id="other", timeout=None)

    registry = registry_of(flow=Questions(timeout=None, disable_validation=True))
    async with life(tmp_path, registry) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await waiting(rpc, run_id, "first")
        await waiting(rpc, run_id, "other")
        await rpc.send(run_id, event("Answer", n=1))
        await waiting(rpc, run_id, "second")
        forked = await fork(rpc, run_id)
        for kind in (forked, await fork(rpc, forked.run_id)):
            log = await rpc.log(kind.run_id)
            assert [(entry.sequence, entry.kind) for entry in log] == [
                (number, types.ENTRY_KIND_STREAM) for number in (1, 2)
            ]
            assert {json.loads(entry.payload.json)["text"] for entry in log} == {"second", "other"}
            assert kind.last_sequence == 2
            await rpc.send(kind.run_id, event("Answer", n=2))
            assert result(await rpc.ended(kind.run_id)) == [1, 2]


async def test_fork_every_snapshot_of_its_own_that_is_listed_can_be_had_and_forked(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        first = (await fork(rpc, run_id)).run_id
        for n in range(3):
            await publish(rpc, first, str(n))
        kept = await kept_snapshots(rpc, first)
        assert kept == [4, 3, 2, 1]  # its log begins with the question that is open
        for sequence in kept:
            assert (await snapshot_of(rpc, first, sequence)).sequence == sequence
            second = await fork(rpc, first, sequence)
            assert (second.forked_from.run_id, second.forked_from.sequence) == (first, sequence)
            await rpc.send(second.run_id, event("Answer", n=sequence))
            assert result(await rpc.ended(second.run_id)) == sequence


async def test_fork_copies_no_request_ids(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {}, request_id="start")).run_id
        await asked(rpc, run_id)
        await publish(rpc, run_id, "a", "p")
        await set_state(rpc, run_id, "k", 1, "s")
        forked = (await fork(rpc, run_id, request_id="fork")).run_id
        assert forked != run_id
        # The same request_id with another body is new to the fork.
        assert await publish(rpc, forked, "b", "p") == 2
        await set_state(rpc, forked, "k", 2, "s")
        assert (await state_of(rpc, run_id, "k"), await state_of(rpc, forked, "k")) == (1, 2)
        assert (await fork(rpc, run_id, request_id="fork")).run_id == forked


async def test_fork_of_a_run_under_way_takes_no_input_and_an_ended_one_needs_it(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> int:
        await ctx.store.set("times", await ctx.store.get("times", default=0) + 1)
        return await ask(flow, ctx)

    async with life(tmp_path, Flow(body)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        refusal = await refused(fork(rpc, run_id, input=payload({})))
        assert (refusal.code, list(refusal.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["input"])
        await rpc.send(run_id, event("Answer", n=1))
        await rpc.ended(run_id)
        refusal = await refused(fork(rpc, run_id))
        assert (refusal.code, list(refusal.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["input"])
        # It starts anew, with the state that the other left.
        anew = (await fork(rpc, run_id, input=payload({}))).run_id
        await asked(rpc, anew)
        assert await state_of(rpc, anew) == {"times": 2}
        await rpc.send(anew, event("Answer", n=3))
        assert result(await rpc.ended(anew)) == 3
        assert len(await _all_runs(rpc)) == 2


async def _all_runs(rpc: Rpc) -> list[str]:
    return [run.run_id for run in (await rpc.runs.ListRuns(runs.ListRunsRequest())).runs]


async def test_fork_from_a_snapshot_that_a_client_kept(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(two_questions)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await waiting(rpc, run_id, "first")
        kept = (await snapshot_of(rpc, run_id)).SerializeToString()
        await rpc.send(run_id, event("Answer", n=1))
        await waiting(rpc, run_id, "second")
        await rpc.send(run_id, event("Answer", n=2))
        await rpc.ended(run_id)
        await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run_id))
    async with life(tmp_path, Flow(two_questions)) as rpc:
        forked = (await rpc.start("flow", snapshot=types.ContextSnapshot.FromString(kept))).run_id
        await rpc.send(forked, event("Answer", n=5))
        await waiting(rpc, forked, "second")
        await rpc.send(forked, event("Answer", n=6))
        assert result(await rpc.ended(forked)) == [5, 6]


@pytest.mark.parametrize("field", ["sequence", "state_json", "in_progress", "head_json", "workflow", "signature"])
async def test_fork_from_an_altered_snapshot_is_refused(tmp_path: Path, field: str) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await set_state(rpc, run_id, "k", 1)
        snapshot = await snapshot_of(rpc, run_id)
        if field == "sequence":
            snapshot.sequence += 1
        elif field == "state_json":
            snapshot.state_json["k"] = b"2"
        elif field == "in_progress":
            snapshot.in_progress[0].attempt += 1
        elif field == "head_json":
            snapshot.head_json = snapshot.head_json.replace(b'"seq":', b'"seq":1')
        elif field == "workflow":
            snapshot.workflow = "other"
        else:
            snapshot.signature = bytes(32)
        refusal = await refused(rpc.start("flow", snapshot=snapshot))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SNAPSHOT")
        assert await _all_runs(rpc) == [run_id]


async def test_fork_of_a_sequence_that_never_was_is_refused(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        last = (await asked(rpc, run_id)).last_sequence
        before = await rows_of(rpc.store, run_id)
        for attempt in (fork(rpc, run_id, last + 1), snapshot_of(rpc, run_id, last + 1), fork(rpc, run_id, -1)):
            refusal = await refused(attempt)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE")
            assert (refusal.facts["first_available"], refusal.facts["last_available"]) == ("1", str(last))
            assert refusal.message.endswith(f"it has 1 to {last}")
        assert (await refused(fork(rpc, "nobody"))).reason == "RUN_NOT_FOUND"
        assert await _all_runs(rpc) == [run_id]
        assert await rows_of(rpc.store, run_id) == before


async def test_fork_of_another_workflow_is_refused(tmp_path: Path) -> None:
    async with life(tmp_path, registry_of(flow=Flow(ask), other=Flow(ask))) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        assert (await refused(fork(rpc, run_id, workflow="other"))).reason == "SNAPSHOT_WORKFLOW_MISMATCH"


async def test_fork_streams_of_any_sequence_also_of_ended_runs(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(two_questions)) as rpc:
        run_id = await travelled(rpc)
        log = await rpc.log(run_id)
    async with life(tmp_path, Flow(two_questions)) as rpc:
        for after in range(len(log) + 1):
            assert await rpc.log(run_id, after_sequence=after) == log[after:]
        stream = rpc.stream(run_id, len(log) + 1)
        refusal = await refused(stream.read())
        assert (refusal.reason, refusal.facts["last_available"]) == ("SEQUENCE_OUT_OF_RANGE", str(len(log)))
