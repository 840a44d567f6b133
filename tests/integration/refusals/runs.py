"""What a run, or the server, does not allow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from tests.integration.refusals.table import (
    World,
    case,
    publish,
    set_state,
)
from tests.integration.rpc_flows import SECRET
from tests.integration.rpc_serving import (
    JSON,
    Refusal,
    event,
    payload,
    plain,
    refusal_of_status,
    refused,
)

from stepwire.server.store import Commit, StoreCorruptError, StoreUnavailableError
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types

# -- what the run does not allow ----------------------------------------------------------------------------------


def _on_ended(name: str, call: Callable[[World], Awaitable[Any]]) -> None:
    async def attempt(w: World) -> Refusal:
        refusal = await refused(call(w))
        assert refusal.facts["run_id"] == w.ended
        return refusal

    attempt.__name__ = f"ended_run_{name}"
    case("RUN_ENDED")(attempt)


_on_ended("send", lambda w: w.rpc.send(w.ended, event("Note", n=1)))
_on_ended(
    "publish", lambda w: w.rpc.runs.PublishEvent(runs.PublishEventRequest(run_id=w.ended, event=event("Note", n=1)))
)
_on_ended("set", lambda w: set_state(w, w.ended, "a", 1))
_on_ended("unset", lambda w: w.rpc.states.UnsetState(states.UnsetStateRequest(run_id=w.ended, paths=["value"])))
_on_ended("replace", lambda w: w.rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=w.ended, value=payload({}))))


@case("RUN_NOT_RETRYABLE")
async def retry_of_a_living_run(w: World) -> Refusal:
    return await refused(w.rpc.runs.RetryRun(runs.RetryRunRequest(run_id=w.open)))


@case("RUN_NOT_ENDED")
async def delete_of_a_living_run(w: World) -> Refusal:
    return await refused(w.rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=w.open)))


@case("RUN_EXISTS")
async def run_id_that_is_taken(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, run_id=w.open))


@case("RUN_EXISTS")
async def run_id_of_an_ended_run(w: World) -> Refusal:
    return await refused(w.rpc.start("ask", {"item": "tea"}, run_id=w.ended))


@case("ETAG_MISMATCH")
async def write_with_a_stale_etag(w: World) -> Refusal:
    run = await w.rpc.asking("other")
    etag = (await w.rpc.states.GetState(states.GetStateRequest(run_id=run.run_id))).etag
    fresh = (await set_state(w, run.run_id, "a", 1, etag=etag)).etag
    replace = states.ReplaceStateRequest(run_id=run.run_id, value=payload({}), etag=etag)
    unset = states.UnsetStateRequest(run_id=run.run_id, paths=["a"], etag=etag)
    for call in (w.rpc.states.ReplaceState(replace), w.rpc.states.UnsetState(unset)):
        assert (await refused(call)).facts["etag"] == fresh
    refusal = await refused(set_state(w, run.run_id, "a", 2, etag=etag))
    found = await w.rpc.states.GetState(states.GetStateRequest(run_id=run.run_id, path="a", encoding=JSON))
    assert (plain(found.value), found.etag) == (1, fresh)
    return refusal


# -- request_id ---------------------------------------------------------------------------------------------------


def _reused(
    name: str, first: Callable[[World, str], Awaitable[Any]], other: Callable[[World, str], Awaitable[Any]]
) -> None:
    async def attempt(w: World) -> Refusal:
        run = await w.rpc.asking("other")
        await first(w, run.run_id)
        return await refused(other(w, run.run_id))

    attempt.__name__ = f"reused_request_id_{name}"
    case("REQUEST_ID_REUSED")(attempt)


def _set(w: World, run_id: str, value: Any) -> Awaitable[Any]:
    return set_state(w, run_id, "a", value, request_id="r")


def _unset(w: World, run_id: str, path: str) -> Awaitable[Any]:
    answer: Awaitable[Any] = w.rpc.states.UnsetState(
        states.UnsetStateRequest(run_id=run_id, paths=[path], request_id="r")
    )
    return answer


def _replace(w: World, run_id: str, value: Any) -> Awaitable[Any]:
    answer: Awaitable[Any] = w.rpc.states.ReplaceState(
        states.ReplaceStateRequest(run_id=run_id, value=payload(value), request_id="r")
    )
    return answer


def _start(w: World, **fields: Any) -> Awaitable[types.Run]:
    return w.rpc.start("ask", fields.pop("input", {"item": "tea"}), request_id=w.open, **fields)


def _note(w: World, run_id: str, n: int, **fields: Any) -> Awaitable[Any]:
    return w.rpc.send(run_id, event("Note", n=n), request_id="r", **fields)


_reused("start", lambda w, _: _start(w), lambda w, _: _start(w, input={"item": "coffee"}))
_reused("start_with_labels", lambda w, _: _start(w), lambda w, _: _start(w, labels={"a": "b"}))
_reused("start_with_a_timeout", lambda w, _: _start(w), lambda w, _: _start(w, timeout=Duration(seconds=9)))
_reused(
    "start_of_another", lambda w, _: _start(w), lambda w, _: w.rpc.start("echo", {"item": "tea"}, request_id=w.open)
)
_reused("send", lambda w, id: _note(w, id, 1), lambda w, id: _note(w, id, 2))
_reused("send_to_a_step", lambda w, id: _note(w, id, 1), lambda w, id: _note(w, id, 1, step="note"))
_reused("publish", lambda w, id: publish(w, id, 1), lambda w, id: publish(w, id, 2))
_reused("publish_of_what_was_sent", lambda w, id: _note(w, id, 1), lambda w, id: publish(w, id, 1))
_reused(
    "set",
    lambda w, id: _set(w, id, 1),
    lambda w, id: _set(w, id, 2),
)
_reused("unset", lambda w, id: _unset(w, id, "item"), lambda w, id: _unset(w, id, "count"))
_reused("replace", lambda w, id: _replace(w, id, {"a": 1}), lambda w, id: _replace(w, id, {"a": 2}))
_reused("set_of_what_was_sent", lambda w, id: _note(w, id, 1), lambda w, id: _set(w, id, 1))


@case("REQUEST_ID_REUSED")
async def reused_request_id_in_a_conversation(w: World) -> Refusal:
    run = await w.rpc.asking("other")
    call = w.rpc.converse()
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run.run_id)))
    results: list[runs.ConverseSendResult] = []
    for n in (1, 2):
        send = runs.ConverseSend(request_id="r", event=event("Note", n=n))
        await call.write(runs.ConverseRequest(send=send))
    async for frame in call:
        if frame.WhichOneof("frame") == "send_result":
            results.append(frame.send_result)
            if len(results) == 2:
                break
    call.cancel()
    good, bad = sorted(results, key=lambda result: result.WhichOneof("result"), reverse=True)
    assert good.sequence > 0
    return refusal_of_status(bad.error)


# -- the server ---------------------------------------------------------------------------------------------------


@case("INTERNAL")
async def unexpected_error(w: World) -> Refusal:
    pool = w.rpc.pool
    get = pool.records.get

    async def broken(caller: object, run_id: str) -> Any:
        raise RuntimeError(SECRET)

    pool.records.get = broken  # type: ignore[method-assign]
    try:
        refusal = await refused(w.rpc.get(w.open))
    finally:
        pool.records.get = get  # type: ignore[method-assign]
    assert refusal.message == "Internal error"
    assert len(refusal.facts["reference_id"]) == 16
    return refusal


def _failing(w: World, error: Exception) -> Callable[[], None]:
    """Have every commit fail; return what heals the store."""
    store: Any = w.rpc.store
    commit = store.commit

    def fail(found: Commit) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future

    def heal() -> None:
        store.commit = commit

    store.commit = fail
    return heal


@case("STORE_UNAVAILABLE")
async def commit_that_fails(w: World) -> Refusal:
    heal = _failing(w, StoreUnavailableError(SECRET))
    started = await refused(w.rpc.start("ask", {"item": "tea"}, request_id="again"))
    assert started.reason == "STORE_UNAVAILABLE"
    refusal = await refused(w.rpc.send(w.open, event("Note", n=1)))
    heal()
    assert (await w.rpc.start("ask", {"item": "tea"}, request_id="again")).run_id
    return refusal


@case("LIMIT_EXCEEDED")
async def disk_that_is_full(w: World) -> Refusal:
    heal = _failing(w, StoreUnavailableError(SECRET, full=True))
    refusal = await refused(w.rpc.send(w.open, event("Note", n=1)))
    heal()
    assert refusal.retry_after is not None
    assert refusal.retry_after > 0
    return refusal


@case("DATA_DAMAGED")
async def log_that_cannot_be_read(w: World) -> Refusal:
    store: Any = w.rpc.store
    entries = store.entries

    async def damaged(*_: object) -> None:
        raise StoreCorruptError("a chunk of a log cannot be read")

    store.entries = damaged
    try:
        return await refused(w.rpc.stream(w.ended).read())
    finally:
        store.entries = entries
