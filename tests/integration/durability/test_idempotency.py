"""Idempotency: a repeat gets the first answer, whatever happened between; another body is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Flow, ask
from tests.integration.durability.support import (
    asked,
    crash,
    held,
    life,
    publish,
    result,
    set_state,
    settle,
    state_of,
    status,
)
from tests.integration.rpc_serving import Rpc, event, payload, refused

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states

Call = Callable[[Rpc, str, int], Awaitable[Any]]


async def send(rpc: Rpc, run_id: str, n: int) -> Any:
    answer = await rpc.send(run_id, event("Item", n=n), request_id="same")
    return answer.sequence, answer.delivered


async def write(rpc: Rpc, run_id: str, n: int) -> Any:
    return await publish(rpc, run_id, str(n), "same")


async def set_(rpc: Rpc, run_id: str, n: int) -> Any:
    return await set_state(rpc, run_id, "k", n, "same")


async def unset(rpc: Rpc, run_id: str, n: int) -> Any:
    request = states.UnsetStateRequest(run_id=run_id, paths=[f"k{n}"], request_id="same")
    return (await rpc.states.UnsetState(request)).etag


async def replace(rpc: Rpc, run_id: str, n: int) -> Any:
    request = states.ReplaceStateRequest(run_id=run_id, value=payload({"k": n}), request_id="same")
    return (await rpc.states.ReplaceState(request)).etag


CALLS: dict[str, Call] = {
    "SendEvent": send,
    "PublishEvent": write,
    "SetState": set_,
    "UnsetState": unset,
    "ReplaceState": replace,
}


async def effects(rpc: Rpc, run_id: str) -> tuple[int, str, Any]:
    """Return what a request can change: the length of the log, the etag, the state."""
    state = await rpc.states.GetState(states.GetStateRequest(run_id=run_id))
    return len(await rpc.log(run_id)), state.etag, await state_of(rpc, run_id)


@pytest.mark.parametrize("name", CALLS)
async def test_idempotency_a_repeat_gets_the_first_answer_over_restarts_and_after_the_end(
    tmp_path: Path, name: str
) -> None:
    call = CALLS[name]
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await set_state(rpc, run_id, "k1", 1)
        await set_state(rpc, run_id, "k2", 2)
        first = await call(rpc, run_id, 1)
        after = await effects(rpc, run_id)
        assert await call(rpc, run_id, 1) == first
        assert await effects(rpc, run_id) == after
        refusal = await refused(call(rpc, run_id, 2))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        await crash(rpc)
    async with life(tmp_path, Flow(ask)) as rpc:
        assert await call(rpc, run_id, 1) == first
        assert (await refused(call(rpc, run_id, 2))).reason == "REQUEST_ID_REUSED"
        assert await effects(rpc, run_id) == after
        await rpc.send(run_id, event("Answer", n=1))
        await rpc.ended(run_id)
        ended = await effects(rpc, run_id)
        assert await call(rpc, run_id, 1) == first
    async with life(tmp_path, Flow(ask)) as rpc:
        assert await call(rpc, run_id, 1) == first
        assert (await refused(call(rpc, run_id, 2))).reason == "REQUEST_ID_REUSED"
        assert await effects(rpc, run_id) == ended
        assert status(await rpc.get(run_id)) == "COMPLETED"


@pytest.mark.parametrize("name", CALLS)
async def test_idempotency_repeats_at_the_same_time_have_one_effect(tmp_path: Path, name: str) -> None:
    call = CALLS[name]
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await set_state(rpc, run_id, "k1", 1)
        before = (await effects(rpc, run_id))[0]
        answers = await asyncio.gather(*(call(rpc, run_id, 1) for _ in range(10)))
        assert all(answer == answers[0] for answer in answers)
        assert (await effects(rpc, run_id))[0] - before <= 1


async def test_idempotency_of_a_start_over_restarts_and_after_the_end(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {"a": 1}, request_id="s", labels={"x": "y"})).run_id
        assert (await rpc.start("flow", {"a": 1}, request_id="s", labels={"x": "y"})).run_id == run_id
        for other in ({"input": {"a": 2}}, {"labels": {"x": "z"}}, {"run_id": "another"}):
            fields: dict[str, Any] = {"input": {"a": 1}, "labels": {"x": "y"}, **other}
            refusal = await refused(rpc.start("flow", fields.pop("input"), request_id="s", **fields))
            assert refusal.reason == "REQUEST_ID_REUSED"
        await asked(rpc, run_id)
        await crash(rpc)
    async with life(tmp_path, Flow(ask)) as rpc:
        assert (await rpc.start("flow", {"a": 1}, request_id="s", labels={"x": "y"})).run_id == run_id
        await rpc.send(run_id, event("Answer", n=4))
        await rpc.ended(run_id)
        again = await rpc.start("flow", {"a": 1}, request_id="s", labels={"x": "y"})
        assert (again.run_id, result(again)) == (run_id, 4)
        assert len((await rpc.runs.ListRuns(runs.ListRunsRequest())).runs) == 1


async def test_idempotency_of_starts_at_the_same_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        started = await asyncio.gather(*(rpc.start("flow", {}, request_id="s") for _ in range(10)))
        assert len({run.run_id for run in started}) == 1
        await asked(rpc, started[0].run_id)
        assert flow.attempts == 1
        assert len((await rpc.runs.ListRuns(runs.ListRunsRequest())).runs) == 1
    assert "failed" not in caplog.text  # a repeat is no failure of the store


async def test_idempotency_of_starts_at_the_same_time_with_a_chosen_run_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        # Whatever the conflict policy is, a repeat is a repeat, also while the first is under way.
        started = await asyncio.gather(*(rpc.start("flow", {}, run_id="mine", request_id="s") for _ in range(50)))
        assert {run.run_id for run in started} == {"mine"}
        await asked(rpc, "mine")
        assert flow.attempts == 1
        assert (await refused(rpc.start("flow", {}, run_id="mine", request_id="other"))).reason == "RUN_EXISTS"
        with held(rpc.store) as hold:
            first = asyncio.ensure_future(rpc.start("flow", {}, run_id="next", request_id="t"))
            await hold.arrived(1)
            again = asyncio.ensure_future(rpc.start("flow", {}, run_id="next", request_id="t"))
            another = asyncio.ensure_future(rpc.start("flow", {"n": 1}, run_id="next", request_id="t"))
            await settle(rpc)
            await hold.pass_all()
            assert (await first).run_id == (await again).run_id == "next"
            assert (await refused(another)).reason == "REQUEST_ID_REUSED"
    assert "failed" not in caplog.text


async def test_idempotency_of_a_chosen_run_id(tmp_path: Path) -> None:
    use = runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING
    flow = Flow(ask)
    async with life(tmp_path, flow) as rpc:
        started = await asyncio.gather(
            *(rpc.start("flow", {"n": n}, run_id="mine", run_id_conflict_policy=use) for n in range(10))
        )
        assert {run.run_id for run in started} == {"mine"}
        await asked(rpc, "mine")
        assert flow.attempts == 1
        refusal = await refused(rpc.start("flow", {}, run_id="mine"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS")
        await crash(rpc)
    async with life(tmp_path, flow) as rpc:
        assert (await rpc.start("flow", {}, run_id="mine", run_id_conflict_policy=use)).run_id == "mine"
        assert (await refused(rpc.start("flow", {}, run_id="mine"))).reason == "RUN_EXISTS"
        assert flow.attempts == 1
        await rpc.send("mine", event("Answer", n=1))
        await rpc.ended("mine")
        assert result(await rpc.start("flow", {}, run_id="mine", run_id_conflict_policy=use)) == 1
        assert (await refused(rpc.start("flow", {}, run_id="mine"))).reason == "RUN_EXISTS"


async def test_idempotency_the_body_is_compared_after_parsing(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        item = event("Item", n=1)
        first = await rpc.send(run_id, item, request_id="r")
        item.payload.json = b'{ "n" : 1 }'
        assert await rpc.send(run_id, item, request_id="r") == first
        item.payload.value.struct_value["n"] = 1
        assert await rpc.send(run_id, item, request_id="r") == first
