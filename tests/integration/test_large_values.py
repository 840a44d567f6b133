"""Large protobuf values are read and made off the event loop, in every request, answer and frame."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format, struct_pb2
from google.protobuf.duration_pb2 import Duration
from pydantic import Field
from tests.integration.rpc_serving import VALUE, Rpc, registry_of, serving

from stepwire.server.rpc import payloads
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import snapshot_service_pb2 as snapshots
from stepwire.v1 import state_service_pb2 as states
from stepwire.v1 import types_pb2 as types
from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step

MANY = 20_000
"""Values: more than are converted on the event loop."""


class Numbers(StartEvent):
    numbers: list[int] = Field(default_factory=list)


class More(HumanResponseEvent):
    numbers: list[int] = Field(default_factory=list)


class Lists(Workflow):
    """Keep what is sent, and end with it."""

    @step
    async def begin(self, ctx: Context, ev: Numbers) -> StopEvent:
        found = await ctx.wait_for_event(More, waiter_event=InputRequiredEvent())
        return StopEvent(result=found.numbers)


def numbers(count: int) -> types.Payload:
    value = struct_pb2.Value()
    items = value.struct_value.fields["numbers"].list_value
    items.values.extend([struct_pb2.Value(number_value=1)] * count)
    return types.Payload(value=value)


@pytest_asyncio.fixture
async def rpc() -> AsyncIterator[Rpc]:
    async with serving(registry_of(lists=Lists(timeout=None))) as found:
        yield found


@pytest.fixture
def on_the_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note what is done with a large value in the thread of the event loop."""
    here, found = threading.get_ident(), []

    def watch(owner: Any, name: str, size: Any) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if size(*args) > MANY and threading.get_ident() == here:
                found.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    watch(json_format, "MessageToDict", lambda message, *_: message.ByteSize())
    watch(payloads, "_fill", lambda _, value, __: len(value) if isinstance(value, list) else 0)
    yield found
    assert found == []


async def test_what_is_read_and_what_is_made(rpc: Rpc, on_the_loop: list[str]) -> None:
    started = await rpc.runs.StartRun(runs.StartRunRequest(workflow="lists", input=numbers(MANY), encoding=VALUE))
    run_id = started.run.run_id
    event = types.Event(type="More", payload=numbers(MANY + 1))
    await rpc.runs.PublishEvent(runs.PublishEventRequest(run_id=run_id, event=event))
    call = rpc.runs.Converse(timeout=60)
    await call.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id)))
    seen: list[int] = []
    while not any(size > MANY for size in seen):
        frame = await call.read()
        seen += [len(entry.payload.value.struct_value["numbers"]) for entry in frame.events.entries[1:]]
    found = await rpc.runs.WaitForEvent(
        runs.WaitForEventRequest(run_id=run_id, event_type="More", after_sequence=0, requirements=numbers(MANY + 1))
    )
    assert len(found.entry.payload.value.struct_value["numbers"]) == MANY + 1
    state = states.SetStateRequest(run_id=run_id)
    state.values.add(path="big", value=numbers(MANY + 2))
    await rpc.states.SetState(state)
    got = await rpc.states.GetState(states.GetStateRequest(run_id=run_id, path="big.numbers"))
    assert len(got.value.value.list_value.values) == MANY + 2
    await rpc.states.ReplaceState(states.ReplaceStateRequest(run_id=run_id, value=numbers(MANY + 3)))
    await rpc.snapshots.GetSnapshot(snapshots.GetSnapshotRequest(run_id=run_id, include_context_dict=True))
    await call.write(runs.ConverseRequest(send=runs.ConverseSend(request_id="1", event=event)))
    while not (await call.read()).HasField("finished"):
        pass
    ended = await rpc.runs.WaitRun(runs.WaitRunRequest(run_id=run_id, timeout=Duration(seconds=20)))
    assert len(ended.run.outcome.result.value.list_value.values) == MANY + 1
    await rpc.runs.GetRun(runs.GetRunRequest(run_id=run_id))
    await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id))
    await rpc.runs.ListRuns(runs.ListRunsRequest(view=runs.RUN_VIEW_FULL))
    again = rpc.runs.Converse(timeout=60)
    await again.write(runs.ConverseRequest(attach=runs.ConverseAttach(run_id=run_id)))
    assert (await again.read()).opened.run.outcome.HasField("result")
    again.cancel()
    assert [entry async for entry in rpc.runs.StreamEvents(runs.StreamEventsRequest(run_id=run_id))]
