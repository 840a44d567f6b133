"""The scope `answer`: what it sees, and that it can say nothing but answers to open questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.system.security.support import METHODS, Answer, Keys, call, channel_to, frames, serving, start_run, waiting
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.server.app import Server, Settings
from stepwire.server.registry import Registry
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types
from stepwire.v1 import workflow_service_pb2 as workflows
from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

Code = grpc.StatusCode


class Question(InputRequiredEvent):
    """Ask."""

    text: str = ""


class Approval(HumanResponseEvent):
    """Answer the wait."""

    order: str
    yes: bool = True


class Comment(HumanResponseEvent):
    """Answer a question that no wait asks."""

    text: str = ""


class Shipped(HumanResponseEvent):
    """Say what no question is about."""


class Paid(Event, internal=True):
    """Be sent by steps only."""

    amount: int = 0


class Booked(Event):
    """Be listed as internal."""


class Nudge(Event):
    """Only a caller with the scope `write` may send it."""


class Order(Workflow):
    """Wait for an approval; ask for comments without a wait."""

    internal_events = (Booked,)

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def approve(self, ctx: Context, ev: StartEvent) -> Paid | Booked | Nudge:
        """Wait for an answer."""
        ctx.write_event_to_stream(Question(text="any comment?"))
        ctx.write_event_to_stream(Question(text="another?"))
        answer = await ctx.wait_for_event(
            Approval, waiter_event=Question(text="ship?"), requirements={"order": "a"}, timeout=None
        )
        return Paid(amount=3) if answer.yes else Booked()

    @step
    async def commented(self, ctx: Context, ev: Comment) -> None:
        """Take a comment."""
        await ctx.store.set("comments", await ctx.store.get("comments", default=0) + 1)

    @step
    async def shipped(self, ev: Shipped) -> StopEvent:
        """End the run."""
        return StopEvent(result="shipped unasked")

    @step
    async def nudged(self, ev: Nudge) -> None:
        """Take a nudge."""

    @step
    async def paid(self, ctx: Context, ev: Paid | Booked) -> StopEvent:
        """End the run."""
        return StopEvent(result=await ctx.store.get("comments", default=0))


class Quiet(Workflow):
    """Wait without a question."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Wait."""
        await ctx.wait_for_event(Approval, waiter_event=Question(), timeout=None)
        return StopEvent()


class World:
    """A server with keys, and one run of `order`."""

    channel: grpc.aio.Channel
    run_id: str

    def __init__(self, keys: Keys) -> None:
        self.admin = keys.add("admin", ["admin"])
        self.answerer = keys.add("staff", ["answer:order"])
        self.mixed = keys.add("mixed", ["answer:order", "read:quiet"])

    async def ask(self, method: str, request: Any, metadata: Any = None) -> Answer:
        """Call a method as the answerer."""
        requests = frames(request)
        return await call(self.channel, METHODS[method], requests, metadata or self.answerer, timeout=60, most=100)

    async def send(self, name: str, fields: dict[str, Any] | None = None, metadata: Any = None, **more: Any) -> Answer:
        """Send an event."""
        payload = types.Payload(json=json.dumps(fields or {}).encode())
        sent = types.Event(type=name, payload=payload)
        return await self.ask("SendEvent", runs.SendEventRequest(run_id=self.run_id, event=sent, **more), metadata)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    access = tmp_path_factory.mktemp("answer") / "access.toml"
    world = World(Keys(access))
    registry = Registry()
    registry.add("order", Order)
    registry.add("quiet", Quiet)
    settings = Settings.load(None, address="127.0.0.1:0", data=":memory:", grace=0.0, api_keys=access)
    server = Server(registry, settings)
    await server.start()
    try:
        async with channel_to(server) as channel:
            world.channel = channel
            yield world
    finally:
        await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared: World) -> World:
    """Return the world with a run that asks."""
    shared.run_id = await start_run(shared.channel, "order", shared.admin)
    await waiting(shared.channel, shared.run_id, shared.admin)
    request = runs.GetRunRequest(run_id=shared.run_id)
    while True:
        answer = await shared.ask("GetRun", request)
        if len(runs.GetRunResponse.FromString(answer.messages[0]).run.pending_waiters) == 1:
            return shared


def denied(answer: Answer) -> bool:
    return (answer.code, answer.reason) == (Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_it_sees_the_run_its_questions_and_its_public_stream(world: World):
    run = runs.GetRunResponse.FromString(
        (await world.ask("GetRun", runs.GetRunRequest(run_id=world.run_id))).messages[0]
    )
    assert [waiter.event_type for waiter in run.run.pending_waiters] == ["Approval"]
    listed = await world.ask("ListRuns", runs.ListRunsRequest())
    assert {each.workflow for each in runs.ListRunsResponse.FromString(listed.messages[0]).runs} == {"order"}
    assert (await world.ask("GetWorkflow", workflows.GetWorkflowRequest(name="order"))).code is Code.OK
    assert (await world.ask("GetWorkflow", workflows.GetWorkflowRequest(name="quiet"))).code is Code.NOT_FOUND
    request = runs.StreamEventsRequest(run_id=world.run_id, no_follow=True)
    streamed = await world.ask("StreamEvents", request)
    assert streamed.code is Code.OK
    batches = [runs.StreamEventsResponse.FromString(message).events.entries for message in streamed.messages]
    assert {entry.type for batch in batches for entry in batch} == {"Question"}


@pytest.mark.parametrize("who", ["answerer", "mixed"])
async def test_it_reads_nothing_else_of_the_run(world: World, who: str):
    metadata = getattr(world, who)
    internal = runs.StreamEventsRequest(run_id=world.run_id, no_follow=True)
    internal.options.include_internal = True
    attach = runs.ConverseRequest()
    attach.attach.run_id = world.run_id
    attach.attach.options.include_internal = True
    for name, request in (
        ("StreamEvents", internal),
        ("Converse", attach),
        ("WaitForEvent", runs.WaitForEventRequest(run_id=world.run_id, event_type="Comment")),
    ):
        assert denied(await world.ask(name, request, metadata)), name
    for name in ("GetState", "GetSnapshot", "ListSnapshots"):
        method = METHODS[name]
        request = method.make()
        request.run_id = world.run_id
        assert denied(await world.ask(name, request, metadata)), name


async def test_it_answers_an_open_wait_and_nothing_else(world: World):
    for name, fields, more in (
        ("Nudge", {}, {}),
        ("Approval", {"order": "b"}, {}),  # no wait asks for this order
        ("Approval", {"order": "a"}, {"step": "nudged"}),
        ("Question", {}, {}),
    ):
        assert denied(await world.send(name, fields, **more)), name
    assert (await world.send("Approval", {"order": "a"}, request_id="r1")).code is Code.OK
    # The repeat of an answer gets the first answer, although no question is open any more.
    assert (await world.send("Approval", {"order": "a"}, request_id="r1")).code is Code.OK
    ended = await world.ask("WaitRun", runs.WaitRunRequest(run_id=world.run_id))
    assert runs.WaitRunResponse.FromString(ended.messages[0]).run.status == types.RUN_STATUS_COMPLETED
    assert (await world.send("Approval", {"order": "a"})).reason == "RUN_ENDED"


async def test_it_answers_as_many_questions_without_a_wait_as_were_asked(world: World):
    assert (await world.send("Comment", step="commented")).code is Code.OK
    assert (await world.send("Comment")).code is Code.OK
    for name in ("Comment", "Shipped"):
        assert denied(await world.send(name)), name
    assert (await world.send("Comment", metadata=world.admin)).code is Code.OK
    await world.send("Approval", {"order": "a"})
    ended = await world.ask("WaitRun", runs.WaitRunRequest(run_id=world.run_id, encoding=2))
    assert runs.WaitRunResponse.FromString(ended.messages[0]).run.outcome.result.json == b"3"


async def test_it_answers_in_a_conversation_and_does_nothing_else_there(world: World):
    attach, nudge, answer, cancel = (runs.ConverseRequest() for _ in range(4))
    attach.attach.run_id = world.run_id
    nudge.send.request_id, nudge.send.event.type = "n", "Nudge"
    answer.send.request_id, answer.send.event.type = "a", "Approval"
    answer.send.event.payload.json = b'{"order": "a"}'
    cancel.cancel.reason = "no"
    assert denied(await world.ask("Converse", [attach, cancel]))
    told = await world.ask("Converse", [attach, nudge, answer])
    results = [runs.ConverseResponse.FromString(message) for message in told.messages]
    codes = {
        item.send_result.request_id: item.send_result.error.code for item in results if item.HasField("send_result")
    }
    assert codes == {"n": Code.PERMISSION_DENIED.value[0], "a": 0}


async def test_methods_that_change_a_run_are_not_for_it(world: World):
    for name in ("StartRun", "CancelRun", "DeleteRun", "PublishEvent", "SetState", "UnsetState", "ReplaceState"):
        request = METHODS[name].make()
        if name == "StartRun":
            request.workflow = "order"
        else:
            request.run_id = world.run_id
        assert denied(await world.ask(name, request)), name


async def test_internal_events_come_from_steps_only(world: World):
    for name in ("Paid", "Booked"):
        answer = await world.send(name, metadata=world.admin)
        assert (answer.code, answer.reason) == (Code.INVALID_ARGUMENT, "INTERNAL_EVENT")
        published = runs.PublishEventRequest(run_id=world.run_id, event=types.Event(type=name))
        assert (await world.ask("PublishEvent", published, world.admin)).reason == "INTERNAL_EVENT"
        prompt = runs.WaitForEventRequest(run_id=world.run_id, event_type="Comment")
        prompt.waiter_event.type = name
        assert (await world.ask("WaitForEvent", prompt, world.admin)).reason == "INTERNAL_EVENT"
    answer = await world.ask("GetWorkflow", workflows.GetWorkflowRequest(name="order"))
    told = workflows.GetWorkflowResponse.FromString(answer.messages[0]).workflow.types
    assert {each.name for each in told if each.internal} == {"Paid", "Booked"}
    assert {"Approval", "Comment", "Nudge"} < {each.name for each in told if each.sendable}
    assert not [each for each in told if each.internal and each.sendable]


async def test_a_key_that_the_command_revokes_ends_its_streams_without_a_restart(tmp_path: Path):
    file, runner = tmp_path / "access.toml", CliRunner()
    made = runner.invoke(app, ["keys", "new", "desk", "--scope", "write", "--file", str(file)])
    assert made.exit_code == 0, made.output
    kept = runner.invoke(app, ["keys", "new", "other", "--scope", "write", "--file", str(file)])
    desk, other = ([("authorization", f"Bearer {each.stdout.strip()}")] for each in (made, kept))
    async with serving(api_keys=file) as server, channel_to(server) as channel:
        run_id = await start_run(channel, "asking", desk)
        request = frames(runs.StreamEventsRequest(run_id=run_id))
        followed = asyncio.create_task(call(channel, METHODS["StreamEvents"], request, desk, timeout=60, most=100))
        await waiting(channel, run_id, desk)
        revoked = await asyncio.to_thread(runner.invoke, app, ["keys", "revoke", "--name", "desk", "--file", str(file)])
        assert revoked.exit_code == 0, revoked.output
        assert (await followed).code is Code.UNAUTHENTICATED
        request = frames(runs.GetRunRequest(run_id=run_id))
        assert (await call(channel, METHODS["GetRun"], request, desk)).code is Code.UNAUTHENTICATED
        assert (await call(channel, METHODS["GetRun"], request, other)).code is Code.OK
