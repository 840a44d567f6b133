"""request_id: a repeat gets the first answer, whatever happened since."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_serving import JSON, Rpc, event, payload, raw, refused, serving

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types

Call = Callable[[Rpc, str], Awaitable[Any]]


def _send(rpc: Rpc, run_id: str) -> Awaitable[Any]:
    return rpc.send(run_id, event("Note", n=1), request_id="r")


def _publish(rpc: Rpc, run_id: str) -> Awaitable[Any]:
    request = runs.PublishEventRequest(run_id=run_id, event=event("Pong", n=1), request_id="r")
    answer: Awaitable[Any] = rpc.runs.PublishEvent(request)
    return answer


def _set(rpc: Rpc, run_id: str) -> Awaitable[Any]:
    values = [states.PathValue(path="a", value=payload(1))]
    answer: Awaitable[Any] = rpc.states.SetState(states.SetStateRequest(run_id=run_id, values=values, request_id="r"))
    return answer


def _unset(rpc: Rpc, run_id: str) -> Awaitable[Any]:
    request = states.UnsetStateRequest(run_id=run_id, paths=["count"], request_id="r")
    answer: Awaitable[Any] = rpc.states.UnsetState(request)
    return answer


def _replace(rpc: Rpc, run_id: str) -> Awaitable[Any]:
    request = states.ReplaceStateRequest(run_id=run_id, value=payload({"item": "x"}), request_id="r")
    answer: Awaitable[Any] = rpc.states.ReplaceState(request)
    return answer


async def _start(rpc: Rpc, run_id: str) -> Any:
    return (await rpc.start("ask", {"item": "tea"}, request_id="r")).run_id


CALLS: dict[str, Call] = {
    "start": _start,
    "send": _send,
    "publish": _publish,
    "set": _set,
    "unset": _unset,
    "replace": _replace,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_repeat_gets_the_first_answer_and_has_no_effect(tmp_path: Any, call: Call) -> None:
    async def seen(rpc: Rpc) -> Any:
        await rpc.status(run.run_id, "WAITING")
        state = await rpc.states.GetState(states.GetStateRequest(run_id=run.run_id, encoding=JSON))
        listed = await rpc.runs.ListRuns(runs.ListRunsRequest())
        return await rpc.log(run.run_id), state, len(listed.runs)

    async with serving(data=str(tmp_path)) as rpc:
        run = await rpc.asking("tea")
        first = await call(rpc, run.run_id)
        before = await seen(rpc)
        repeats = await asyncio.gather(*(call(rpc, run.run_id) for _ in range(5)))
        assert repeats == [first] * 5
        assert await seen(rpc) == before
    async with serving(data=str(tmp_path)) as rpc:
        assert await call(rpc, run.run_id) == first
        assert await seen(rpc) == before
        await rpc.answer(run.run_id)
        assert await call(rpc, run.run_id) == first
    async with serving(data=str(tmp_path)) as rpc:
        assert await call(rpc, run.run_id) == first
        log = await rpc.log(run.run_id)
        assert log[: len(before[0])] == before[0]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_repeats_at_once_have_one_effect(rpc: Rpc, call: Call) -> None:
    run = await rpc.asking("tea")
    answers = await asyncio.gather(*(call(rpc, run.run_id) for _ in range(8)))
    assert answers == answers[:1] * 8


async def test_a_body_is_compared_by_what_it_says(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    as_value = types.Payload()
    json_format.ParseDict({"n": 1, "text": "ä"}, as_value.value)
    spellings = [raw(b'{"n":1,"text":"\xc3\xa4"}'), raw(b' { "text": "\\u00e4", "n": 1 } '), as_value]
    sent = [await rpc.send(run.run_id, types.Event(type="Note", payload=given), request_id="r") for given in spellings]
    assert sent == sent[:1] * 3
    started = set()
    for given in (raw(b'{"item":"tea","count":2}'), raw(b'{"count" : 2, "item": "tea"}')):
        request = runs.StartRunRequest(workflow="ask", input=given, request_id="start")
        started.add((await rpc.runs.StartRun(request)).run.run_id)
    assert len(started) == 1


async def test_request_ids_belong_to_their_run(rpc: Rpc) -> None:
    first, second = await rpc.asking("tea"), await rpc.asking("coffee")
    await rpc.send(first.run_id, event("Note", n=1), request_id="r")
    sent = await rpc.send(second.run_id, event("Note", n=2), request_id="r")
    assert sent.delivered == 1


async def test_a_refused_request_leaves_its_id_free(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    assert (await refused(rpc.send(run.run_id, event("Note", n="x"), request_id="r"))).reason == "INVALID_EVENT"
    assert (await rpc.send(run.run_id, event("Note", n=1), request_id="r")).delivered == 1
    assert (await refused(rpc.start("ask", {}, request_id="s"))).reason == "INVALID_INPUT"
    assert (await rpc.start("ask", {"item": "tea"}, request_id="s")).run_id


async def test_a_start_is_known_as_long_as_its_run(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 1}, request_id="r", wait=Duration(seconds=20))
    again = await rpc.start("count", {"n": 1}, request_id="r", wait=Duration(seconds=20))
    assert again == run
    await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run.run_id))
    assert (await rpc.start("count", {"n": 1}, request_id="r")).run_id != run.run_id


async def test_request_ids_are_kept_when_the_run_leaves_memory() -> None:
    async with serving(idle_after=0.05) as rpc:
        run = await rpc.asking("tea")
        first = await rpc.send(run.run_id, event("Note", n=1), request_id="r")
        await _released(rpc)
        assert await rpc.send(run.run_id, event("Note", n=1), request_id="r") == first
        assert (await refused(rpc.send(run.run_id, event("Note", n=2), request_id="r"))).reason == "REQUEST_ID_REUSED"


async def _released(rpc: Rpc) -> None:
    """Wait until the server has let go of every run."""
    pool = rpc.pool
    gone = asyncio.Event()
    forget = pool._gone

    def note(run: Any, error: BaseException | None) -> None:
        forget(run, error)
        if not len(pool):
            gone.set()

    pool._around.on_gone = note
    await gone.wait()
