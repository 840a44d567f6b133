"""Cancel: an acknowledged cancel is durable, also when others cancel too, and whatever the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.durability.flows import Flow, ask, stay
from tests.integration.durability.support import (
    asked,
    crash,
    fork,
    held,
    life,
    publish,
    set_state,
    settle,
    state_of,
    status,
)
from tests.integration.rpc_serving import Rpc, event, payload, refusal_of, refusal_of_status

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states


async def cancel(rpc: Rpc, run_id: str) -> str:
    answer = await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id, reason="enough"), timeout=60)
    return status(answer.run)


async def test_cancel_twice_at_once_answers_both_only_when_it_is_durable(tmp_path: Path) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        with held(rpc.store) as hold:
            first = asyncio.ensure_future(cancel(rpc, run_id))
            await hold.arrived(1)
            second = asyncio.ensure_future(cancel(rpc, run_id))
            await settle(rpc)
            assert not first.done()
            assert not second.done()
            await hold.pass_all()
            assert [await first, await second] == ["CANCELLED", "CANCELLED"]
        await crash(rpc)
    async with life(tmp_path, Flow(ask)) as rpc:
        assert status(await rpc.get(run_id)) == "CANCELLED"


async def test_cancel_of_a_run_whose_end_is_not_durable_waits_for_it(tmp_path: Path) -> None:
    flow = Flow(stay)
    async with life(tmp_path, flow) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await flow.gate.arrived(1)
        with held(rpc.store) as hold:
            flow.gate.opened.set()
            await hold.arrived(1)
            cancelling = asyncio.ensure_future(cancel(rpc, run_id))
            await settle(rpc)
            assert not cancelling.done()
            await hold.pass_all()
            assert await cancelling == "COMPLETED"


Call = Callable[[Rpc, str], Awaitable[Any]]


async def converse(rpc: Rpc, run_id: str, *frames: runs.ConverseRequest) -> None:
    """Attach to a run and send frames; raise what either is refused with."""
    call = rpc.runs.Converse(timeout=20)
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id)))
    for frame in frames:
        await call.write(frame)
    async for answer in call:
        if answer.send_result.HasField("error"):
            raise RuntimeError(refusal_of_status(answer.send_result.error).reason)
        if answer.HasField("send_result") or answer.HasField("finished"):
            break
    call.cancel()


async def cancel_all(rpc: Rpc, run_id: str) -> None:
    """Cancel by a filter; raise what the run is refused with."""
    chosen = runs.RunFilter(run_id_prefix=run_id)
    request = runs.ApplyToRunsRequest(filter=chosen, cancel=runs.CancelRuns())
    async for answer in rpc.runs.ApplyToRuns(request, timeout=20):
        assert answer.done == 0


async def ask_for_me(rpc: Rpc, run_id: str) -> Any:
    """Write a question of the caller's own and wait for its answer."""
    question = event("Note", text="yes?")
    request = runs.WaitForEventRequest(run_id=run_id, event_type="Answer", waiter_id="mine", waiter_event=question)
    return await rpc.runs.WaitForEvent(request, timeout=20)


WRITES: dict[str, Call] = {
    "CancelRun": cancel,
    "PauseRun": lambda rpc, run_id: rpc.runs.PauseRun(runs.PauseRunRequest(run_id=run_id)),
    "ApplyToRuns": cancel_all,
    "SendEvent": lambda rpc, run_id: rpc.send(run_id, event("Answer", n=1)),
    "PublishEvent": lambda rpc, run_id: publish(rpc, run_id, "x"),
    "WaitForEvent": ask_for_me,
    "Converse, sending": lambda rpc, run_id: converse(
        rpc, run_id, runs.ConverseRequest(send=runs.ConverseSend(event=event("Answer", n=1), request_id="r"))
    ),
    "Converse, cancelling": lambda rpc, run_id: converse(
        rpc, run_id, runs.ConverseRequest(cancel=runs.ConverseCancel())
    ),
    "SetState": lambda rpc, run_id: set_state(rpc, run_id, "k", 1),
    "UnsetState": lambda rpc, run_id: rpc.states.UnsetState(states.UnsetStateRequest(run_id=run_id, paths=["kept"])),
    "ReplaceState": lambda rpc, run_id: rpc.states.ReplaceState(
        states.ReplaceStateRequest(run_id=run_id, value=payload({"k": 1}))
    ),
    "StartRun": lambda rpc, _: rpc.start("flow", {}),
    "StartRun from a run": lambda rpc, run_id: fork(rpc, run_id),
}


async def refusal(call: Awaitable[Any]) -> str:
    """Return why a call, or a frame, was refused; an empty text if it was not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("where", ["in memory", "in the store"])
async def test_a_server_that_is_stopping_refuses_what_it_would_ignore(tmp_path: Path, where: str) -> None:
    async with life(tmp_path, Flow(ask)) as rpc:
        targets = {f"run{number}": name for number, name in enumerate(WRITES)}
        for run_id in targets:
            await rpc.start("flow", {}, run_id=run_id)
            await asked(rpc, run_id)
            await set_state(rpc, run_id, "kept", 1)
        before = {run_id: (await rpc.get(run_id)).last_sequence for run_id in targets}
        if where == "in the store":
            assert [run.release() for run in rpc.pool] == [True] * len(targets)
        await rpc.keeper.drain(0.0)
        told = {name: await refusal(WRITES[name](rpc, run_id)) for run_id, name in targets.items()}
        assert {name: reason for name, reason in told.items() if reason != "DRAINING"} == {}
    async with life(tmp_path, Flow(ask)) as rpc:
        assert len((await rpc.runs.ListRuns(runs.ListRunsRequest())).runs) == len(targets)
        for run_id, last in before.items():
            run = await rpc.get(run_id)
            assert (status(run), run.last_sequence, await state_of(rpc, run_id)) == ("WAITING", last, {"kept": 1})
        assert await cancel(rpc, "run0") == "CANCELLED"
