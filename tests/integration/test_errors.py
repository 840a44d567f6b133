"""Every row of the error table: what a client is told, that the server goes on, and that no run is harmed.

The cases are in `refusals`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from tests.integration.refusals import messages, missing, payloads, requests
from tests.integration.refusals import runs as _runs
from tests.integration.refusals import schedules as _schedules
from tests.integration.refusals import snapshots as _snapshots
from tests.integration.refusals.table import CASES, World, publish, set_state
from tests.integration.rpc_flows import SECRET, AskAgain
from tests.integration.rpc_serving import (
    Rpc,
    event,
    payload,
    plain,
    refused,
    registry_of,
    serving,
)

from stepwire.server.rpc.errors import CODES
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types

assert all((messages, missing, payloads, requests, _runs, _schedules, _snapshots))  # each fills the table


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rpc]:
    """The one server of all cases: it must be up after each."""
    async with serving(data=str(tmp_path_factory.mktemp("data"))) as rpc:
        yield rpc


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared: Rpc) -> AsyncIterator[World]:
    """What the cases try their luck on; afterwards the open run goes on as if nothing had been."""
    rpc = shared
    opened = await rpc.asking("tea")
    done = await rpc.start("echo", {"value": 1}, wait=Duration(seconds=10))
    assert done.status == types.RUN_STATUS_COMPLETED
    before = await rpc.log(opened.run_id)
    yield World(rpc, opened.run_id, done.run_id)
    assert await rpc.log(opened.run_id) == before
    run = await rpc.answer(opened.run_id)
    assert run.status == types.RUN_STATUS_COMPLETED
    assert plain(run.outcome.result) == {"yes": True, "note": None}
    assert (await rpc.get(done.run_id)).status == types.RUN_STATUS_COMPLETED


ELSEWHERE = {
    "RUN_BLOCKED": "test_a_blocked_run_takes_nothing_and_says_so",
    "DRAINING": "test_a_draining_server_starts_nothing",
    "RUN_ELSEWHERE": "cluster/test_routing.py",
    "UNAUTHENTICATED": "security/test_access.py",
    "PERMISSION_DENIED": "security/test_access.py",
}
"""Reasons that need another server than the cases share."""


async def _attempt(name: str, world: World) -> None:
    found = CASES[name]
    refusal = await found.attempt(world)
    assert refusal.reason == found.reason
    assert refusal.code == CODES[found.reason]
    assert refusal.message
    assert set(refusal.fields) == set(found.fields)
    assert all(refusal.fields.values())
    if refusal.reason == "INVALID_REQUEST":  # callers that see only the message learn the same
        for field, why in list(refusal.fields.items())[:3]:
            assert f"{field}: {why}" in refusal.message


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CASES)
async def test_refusal_of(name: str, world: World) -> None:
    await _attempt(name, world)


def test_every_reason_of_the_table_has_a_case() -> None:
    produced = {found.reason for found in CASES.values()}
    assert not produced & set(ELSEWHERE)
    assert produced | set(ELSEWHERE) == set(CODES)


@pytest.mark.parametrize(
    ("labels", "which"),
    [({"team": "a\x00b"}, "the value of 'team'"), ({"te\x00am": "a"}, r"the key 'te\x00am'")],
)
async def test_a_character_that_a_label_must_not_hold(rpc: Rpc, labels: dict[str, str], which: str) -> None:
    refusal = await refused(rpc.start("ask", {"item": "tea"}, labels=labels))
    assert refusal.message == (
        f"The request is not valid: labels: {which} must not hold the character U+0000"
        " (NUL): not every store can keep it"
    )


async def test_a_draining_server_starts_nothing() -> None:
    async with serving() as rpc:
        run = await rpc.asking()
        await rpc.keeper.drain(0.0)
        refusal = await refused(rpc.start("ask", {"item": "tea"}))
        assert (refusal.reason, refusal.code) == ("DRAINING", grpc.StatusCode.UNAVAILABLE)
        assert (await rpc.get(run.run_id)).status == types.RUN_STATUS_WAITING


async def test_a_blocked_run_takes_nothing_and_says_so(tmp_path: Any) -> None:
    async with serving(data=str(tmp_path)) as rpc:
        run_id = (await rpc.asking()).run_id
    async with serving(registry_of(ask=AskAgain), str(tmp_path)) as rpc:
        w = World(rpc, run_id, "")
        for call in (
            rpc.send(run_id, event("Answer", order="7", yes=True)),
            publish(w, run_id, 1),
            set_state(w, run_id, "a", SECRET),
            rpc.states.GetState(states.GetStateRequest(run_id=run_id)),
            rpc.runs.WaitForEvent(
                runs.WaitForEventRequest(
                    run_id=run_id, event_type="Note", waiter_event=event("Question", text="anyone?")
                )
            ),
        ):
            assert (await refused(call)).reason == "RUN_BLOCKED"
    async with serving(data=str(tmp_path)) as rpc:
        assert (await rpc.answer(run_id)).status == types.RUN_STATUS_COMPLETED


async def test_a_message_far_beyond_the_limit_is_refused_by_grpc_itself(rpc: Rpc) -> None:
    """It never reaches this code, so it has no details; the code is the same."""
    request = runs.StartRunRequest(workflow="ask", input=types.Payload(json=b" " * (20 << 20)))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await rpc.runs.StartRun(request)
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await rpc.start("count", {"n": 1}, wait=Duration(seconds=20))).status == types.RUN_STATUS_COMPLETED


async def test_a_method_that_is_not_there_is_unimplemented(rpc: Rpc) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await rpc.channel.unary_unary("/stepwire.v1.RunService/Nothing")(b"")
    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_long_list_of_violations_stays_below_8_kilobytes(rpc: Rpc) -> None:
    shop = await rpc.start("shop", {})
    lines = [{"name": n, "price": "x" * 50} for n in range(500)]
    request = states.ReplaceStateRequest(run_id=shop.run_id, value=payload({"lines": lines}))
    refusal = await refused(rpc.states.ReplaceState(request))
    assert refusal.reason == "INVALID_STATE"
    assert "lines.0.name" in refusal.fields
