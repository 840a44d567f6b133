"""Cost: a commit writes the broker's part and the state's keys that changed; what cannot be saved is refused."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.integration.durability.flows import Flow, Note, ask
from tests.integration.durability.support import (
    asked,
    crash,
    held,
    key_of,
    life,
    parts_of,
    publish,
    result,
    set_state,
    state_of,
    status,
    until,
)
from tests.integration.rpc_serving import Rpc, payload

from stepwire.server.runs import state
from stepwire.server.runs.hosting.commits.commit import CommitBuilder
from stepwire.v1 import state_service_pb2 as states
from stepwire.workflow import Context, DictState, Event, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.log import journal
from stepwire.workflow.codec.encoder import encode_keys
from stepwire.workflow.errors import SerializationError


async def test_cost_a_commit_writes_only_the_keys_that_changed(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await set_state(rpc, run_id, "big", "x" * 500_000)
        await set_state(rpc, run_id, "small", 1)
        for n in range(10):
            with held(rpc.store) as hold:
                setting = asyncio.ensure_future(set_state(rpc, run_id, "small", n))
                await hold.arrived(1)
                await hold.pass_all()
                await setting
            assert set(parts_of(hold.commits[0])) == {"s/small", "h"}
            assert len(hold.commits[0].delta) < 1000
            assert not hold.commits[0].full


async def test_cost_what_get_lent_out_is_written_while_its_step_runs(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> list[int]:
        if flow.attempts == 1:
            await ctx.store.set("list", [1])
            await ctx.store.set("other", [1])
        found: list[int] = await ctx.store.get("list")
        if flow.attempts == 1:
            found.append(2)  # in place
        await flow.gate.pass_through("body")
        return found

    flow = Flow(body)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        with held(rpc.store) as hold:
            publishing = asyncio.ensure_future(publish(rpc, run_id, "x"))
            await hold.arrived(1)
            parts = parts_of(hold.commits[0])
            assert parts["s/list"] == [1, 2]
            await hold.pass_all()
            await publishing
        await crash(rpc)
    flow.gate.opened.set()
    async with life(tmp_path, flow) as rpc:
        # It was written, and is undone now that its step has begun again.
        assert result(await rpc.ended(run_id)) == [1]


async def test_cost_what_cannot_be_saved_is_refused_at_the_call(tmp_path: Path) -> None:
    class Secret:
        pass

    async def body(flow: Flow, ctx: Context[DictState]) -> list[str]:
        refused: list[str] = []
        calls: list[Any] = [
            lambda: ctx.store.set("bad", Secret()),
            lambda: ctx.store.set("bad.deeper", {"a": Secret()}),
        ]
        for call in calls:
            try:
                await call()
            except SerializationError as error:
                refused += error.keys
        try:
            ctx.write_event_to_stream(Note.model_construct(text=Secret()))  # type: ignore[arg-type]
        except SerializationError:
            refused.append("event")
        await ctx.store.set("good", 1)
        return refused

    async with life(tmp_path, Flow(body)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        assert result(await rpc.ended(run_id)) == ["bad", "bad.deeper.a", "event"]
        assert await state_of(rpc, run_id) == {"good": 1}


async def test_cost_damage_done_in_place_fails_the_run_and_names_the_keys(tmp_path: Path) -> None:
    async def body(flow: Flow, ctx: Context[DictState]) -> None:
        await ctx.store.set("good", [1])
        await ctx.store.set("bad", [1])
        (await ctx.store.get("good")).append(2)
        (await ctx.store.get("bad")).append(object())
        ctx.write_event_to_stream(Note(text="a commit"))
        await flow.gate.pass_through("body")

    async with life(tmp_path, Flow(body)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        run = await rpc.ended(run_id)
        assert status(run) == "FAILED"
        failure = run.outcome.failure
        assert failure.error_type == "SerializationError"
        assert "bad" in failure.message
        assert "good" not in failure.message
        assert "object" not in failure.message
        # What could be saved last is what is left.
        assert await state_of(rpc, run_id) == {"good": [1, 2]}


async def test_cost_deltas_are_folded_before_they_grow_without_end(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        for n in range(40):
            await set_state(rpc, run_id, "k", str(n) * 8000)
            await publish(rpc, run_id, "tick")
        stored = await rpc.store.load(key_of(run_id))
        assert stored is not None
        assert sum(len(delta) for delta in stored.deltas) < 2 * max(64 * 1024, 4 * len(stored.full))
        assert (await state_of(rpc, run_id, "k")).startswith("39")


async def test_cost_large_values_of_a_client_are_encoded_once_and_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[tuple[str, bool]] = []

    def noting(values: Mapping[str, Any], *rest: Any) -> dict[str, bytes]:
        encoded.extend((name, threading.current_thread() is threading.main_thread()) for name in values)
        return encode_keys(values, *rest)

    for module in (state, journal):
        monkeypatch.setattr(module, "encode_keys", noting)
    large = {"rows": [[n] for n in range(10_000)]}
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await set_state(rpc, run_id, "small", 1)
        await set_state(rpc, run_id, "large", large)
        assert encoded == [("small", True), ("large", False)]
        encoded.clear()
        await set_state(rpc, run_id, "large.rows.0", [7])
        large["rows"][0] = [7]
        assert encoded == [("large", True)]  # once, for the check and the commit
        encoded.clear()
        request = states.ReplaceStateRequest(run_id=run_id, value=payload({"a": large, "b": 2}))
        await rpc.states.ReplaceState(request)
        assert sorted(encoded) == [("a", False), ("b", False)]
        await crash(rpc)
    async with life(tmp_path, Flow(ask)) as rpc:
        assert await state_of(rpc, run_id) == {"a": large, "b": 2}


class Piece(Event):
    n: int = 0


class FanOut(Workflow):
    """Return thousands of events at once, and take each of them."""

    done: ClassVar[list[int]] = []
    going_on: ClassVar[asyncio.Event]

    @step
    async def begin(self, ev: StartEvent) -> list[Piece]:
        return [Piece(n=n) for n in range(ev.count)]

    @step(num_workers=4)
    async def take(self, ctx: Context[DictState], ev: Piece) -> StopEvent | None:
        await FanOut.going_on.wait()
        FanOut.done.append(ev.n)
        return StopEvent(result=len(set(FanOut.done))) if len(set(FanOut.done)) == 5000 else None


@pytest.mark.slow
async def test_cost_of_a_large_commit_is_paid_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FanOut.done.clear()
    FanOut.going_on = asyncio.Event()
    turns = 0
    prepare = CommitBuilder.prepare

    def count(builder: CommitBuilder, broker: Broker) -> bool:
        nonlocal turns
        more = prepare(builder, broker)
        turns += more
        return more

    monkeypatch.setattr(CommitBuilder, "prepare", count)
    async with life(tmp_path, FanOut) as rpc:
        run_id = (await rpc.start("flow", {"count": 5000})).run_id
        beside = (await rpc.start("flow", {"count": 0})).run_id
        await until(lambda: _sequence(rpc, run_id, 5001))
        assert turns >= 5000 // 200
        assert status(await rpc.get(beside)) in ("RUNNING", "WAITING")
        await crash(rpc)
    FanOut.going_on.set()
    async with life(tmp_path, FanOut) as rpc:
        assert result(await rpc.ended(run_id)) == 5000
        log = await rpc.log(run_id)
        assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
        assert sorted(json.loads(entry.payload.json)["n"] for entry in log if entry.type == "Piece") == list(
            range(5000)
        )


async def _sequence(rpc: Rpc, run_id: str, sequence: int) -> bool:
    return (await rpc.get(run_id)).last_sequence >= sequence
