"""Whatever the server's own code raises, a client gets a status and the server goes on: no hang, no dead loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.rpc_serving import Rpc, event, refusal_of_status, refused

from stepwire.server.rpc.run_actions import RunActions
from stepwire.server.runs.hosting.commits.committed_records import CommittedRecords
from stepwire.server.runs.log.feed import Feeds
from stepwire.v1 import run_service_pb2 as runs


class Panic(BaseException):
    """As an extension module raises it."""


KINDS: dict[str, BaseException] = {
    "panic": Panic("boom"),
    "generator_exit": GeneratorExit(),
    "keyboard_interrupt": KeyboardInterrupt(),
    "system_exit": SystemExit(3),
    "group": BaseExceptionGroup("several", [Panic("one"), ValueError("two")]),
    "exception": ValueError("boom"),
    "stop_async_iteration": StopAsyncIteration(),
}


def _raising(error: BaseException) -> Any:
    async def fail(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        raise error

    return fail


@pytest.fixture(params=KINDS)
def error(request: pytest.FixtureRequest) -> BaseException:
    return KINDS[request.param]


async def test_in_a_unary_handler(rpc: Rpc, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await rpc.start("ask", {"item": "tea"})
    with monkeypatch.context() as patched:
        patched.setattr(CommittedRecords, "get", _raising(error))
        refusal = await refused(rpc.runs.GetRun(runs.GetRunRequest(run_id=run.run_id), timeout=60))
    assert refusal.reason == "INTERNAL"
    assert refusal.facts["reference_id"]
    assert (await rpc.get(run.run_id)).run_id == run.run_id


async def test_in_the_iterator_of_a_stream(rpc: Rpc, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await rpc.start("ask", {"item": "tea"})
    with monkeypatch.context() as patched:
        patched.setattr(Feeds, "ready", _raising(error))
        stream = rpc.runs.StreamEvents(runs.StreamEventsRequest(run_id=run.run_id), timeout=60)
        refusal = await refused(stream.read())
    assert refusal.reason == "INTERNAL"
    assert rpc.server.calls.streams == 0
    assert (await rpc.get(run.run_id)).run_id == run.run_id


async def _attached(rpc: Rpc, run_id: str) -> Any:
    call = rpc.runs.Converse(timeout=60)
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id)))
    assert (await call.read()).WhichOneof("frame") == "opened"
    return call


async def _result(call: Any) -> Any:
    while True:
        frame = await call.read()
        if frame.WhichOneof("frame") == "send_result":
            return frame.send_result


async def test_in_a_send_of_a_conversation(rpc: Rpc, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    # It fails the frame, and the conversation goes on.
    run = await rpc.start("ask", {"item": "tea"})
    call = await _attached(rpc, run.run_id)
    send = runs.ConverseRequest(send=runs.ConverseSend(request_id="1", event=event("Note", n=1)))
    with monkeypatch.context() as patched:
        patched.setattr(RunActions, "send", _raising(error))
        await call.write(send)
        assert refusal_of_status((await _result(call)).error).reason == "INTERNAL"
    await call.write(send)
    assert (await _result(call)).sequence > 0
    call.cancel()


async def test_in_a_cancel_of_a_conversation(rpc: Rpc, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await rpc.start("ask", {"item": "tea"})
    call = await _attached(rpc, run.run_id)
    with monkeypatch.context() as patched:
        patched.setattr(RunActions, "cancel", _raising(error))
        await call.write(runs.ConverseRequest(cancel=runs.ConverseCancel()))

        async def read_out() -> None:
            while True:
                assert (await call.read()).WhichOneof("frame") == "events"

        refusal = await refused(read_out())
    assert refusal.reason == "INTERNAL"
    assert (await rpc.get(run.run_id)).run_id == run.run_id


async def test_a_cancellation_by_the_servers_own_code(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not the client's, so gRPC would answer nothing at all.
    run = await rpc.start("ask", {"item": "tea"})
    call = await _attached(rpc, run.run_id)
    with monkeypatch.context() as patched:
        patched.setattr(CommittedRecords, "get", _raising(asyncio.CancelledError()))
        patched.setattr(RunActions, "send", _raising(asyncio.CancelledError()))
        refusal = await refused(rpc.runs.GetRun(runs.GetRunRequest(run_id=run.run_id), timeout=60))
        assert refusal.reason == "DRAINING"
        await call.write(runs.ConverseRequest(send=runs.ConverseSend(request_id="1", event=event("Note", n=1))))
        assert refusal_of_status((await _result(call)).error).reason == "DRAINING"
    call.cancel()
