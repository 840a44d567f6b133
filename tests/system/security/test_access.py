"""Every method, as its descriptor names it, with every kind of credential."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.system.security.support import (
    METHODS,
    Method,
    call,
    channel_to,
    frames,
    requests_for,
    serving,
    start_run,
)
from tests.system.security.worlds import World, made

from stepwire.server.auth import new_key
from stepwire.server.rpc import RULES
from stepwire.server.scopes import ADMIN, ANSWER, READ, SCHEDULE, SEE, WRITE
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

Code = grpc.StatusCode


ENDED_ONLY = ("RUN_NOT_ENDED", "RUN_NOT_RETRYABLE")
"""What methods for ended runs answer for one that waits: the caller was let in."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with made(tmp_path_factory.mktemp("access")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared: World) -> World:
    """Return the world with a new run that waits for an answer."""
    await shared.new_run()
    return shared


async def test_every_method_has_a_rule():
    contract = {method.name for method in METHODS.values()}
    assert contract == {name for name in RULES if name.startswith("/stepwire.v1.")}
    opened = {name for name, rule in RULES.items() if rule.action is None}
    assert {name.rpartition("/")[0] for name in opened} == {"/grpc.health.v1.Health"}


@pytest.mark.parametrize("name", METHODS)
async def test_without_a_good_credential_no_method_answers(world: World, name: str):
    unknown = [("authorization", f"Bearer {new_key().key}")]
    known_id = world.admin[0][1].rpartition("_")[0]
    bad: list[Any] = [
        [],
        unknown,
        [("authorization", f"{known_id}_{'A' * 43}")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer swk__")],
        [("authorization", "Bearer " + "x" * 5000)],
        [("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.")],
        [("authorization", "Basic YTpi")],
        [("authorization", world.admin[0][1].removeprefix("Bearer "))],
        [*world.admin, *world.admin],
        world.expired,
    ]
    for metadata in bad:
        answer = await world.call(name, metadata)
        assert (answer.code, answer.reason, answer.messages) == (Code.UNAUTHENTICATED, "UNAUTHENTICATED", []), metadata


@pytest.mark.parametrize("name", METHODS)
async def test_who_may_not_call_is_refused_before_a_message_is_received(world: World, name: str):
    # Else anyone could fill the server's memory with large messages.
    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    for metadata, code in (
        ((), Code.UNAUTHENTICATED),
        (world.expired, Code.UNAUTHENTICATED),
        (
            world.nobody,
            Code.PERMISSION_DENIED,
        ),
    ):
        stream = world.channel.stream_stream(METHODS[name].name)(never(), metadata=metadata, timeout=60)
        assert await stream.code() is code
    # What no method of the contract is may be called by nobody at all.
    stream = world.channel.stream_stream("/stepwire.v1.RunService/Nothing")(never(), timeout=60)
    assert await stream.code() is Code.UNIMPLEMENTED


@pytest.mark.parametrize("name", METHODS)
async def test_each_method_needs_its_scope(world: World, name: str):
    needed = RULES[METHODS[name].name].action
    granted = {
        SEE: [world.answerer, world.reader, world.writer, world.admin],
        ANSWER: [world.writer, world.admin],  # of the answerer is asked more: test_answer
        READ: [world.reader, world.writer, world.admin],
        WRITE: [world.writer, world.admin],
        SCHEDULE: [world.admin],
        ADMIN: [world.admin],
    }
    assert needed is not None
    for metadata in (world.nobody, world.answerer, world.reader, world.writer):
        if metadata in granted[needed]:
            continue
        answer = await world.call(name, metadata)
        assert (answer.code, answer.reason, answer.messages) == (Code.PERMISSION_DENIED, "PERMISSION_DENIED", [])
    for metadata in granted[needed][:1]:
        answer = await world.call(name, metadata)
        # DeleteRun of a run that has not ended, and calls on a schedule that is not there.
        admitted = (*ENDED_ONLY, "SCHEDULE_NOT_FOUND")
        assert answer.code in (Code.OK, Code.CANCELLED) or answer.reason in admitted, (name, answer)


WITH_A_RUN = [
    name for name, method in METHODS.items() if "run_id" in method.request.fields_by_name and name != "StartRun"
] + ["Converse"]


@pytest.mark.parametrize("name", WITH_A_RUN)
async def test_a_run_of_another_namespace_or_hidden_workflow_never_was(world: World, name: str):
    # Byte for byte: the same status and details as for a run that never was, but for the id that was asked for.
    never = "0" * len(world.run_id)
    for metadata in (world.stranger, world.other_workflow):
        hidden = await world.call(name, metadata)
        absent = await world.call(name, metadata, never)
        assert hidden.code is Code.NOT_FOUND, (name, hidden)
        assert hidden.reason == "RUN_NOT_FOUND"
        assert hidden.messages == absent.messages == []
        assert hidden.status.replace(world.run_id.encode(), never.encode()) == absent.status
        assert (hidden.code, hidden.details) == (absent.code, absent.details)


@pytest.mark.parametrize("name", [name for name in WITH_A_RUN if name != "Converse"])
async def test_what_is_wrong_with_the_rest_of_a_request_tells_nothing_of_a_hidden_run(world: World, name: str):
    never = "0" * len(world.run_id)
    ended = await start_run(world.channel, metadata=world.admin)
    await call(
        world.channel, METHODS["CancelRun"], [runs.CancelRunRequest(run_id=ended).SerializeToString()], world.admin
    )
    for field in METHODS[name].request.fields:
        if field.name == "run_id" or field.is_repeated or field.message_type is not None:
            continue
        for run_id in (world.run_id, ended):
            answers = []
            for target in (run_id, never):
                request = requests_for(target)[name]
                setattr(request, field.name, "\x01." * 200 if field.type == field.TYPE_STRING else 1)
                answers.append(await call(world.channel, METHODS[name], frames(request), world.other_workflow))
            hidden, absent = answers
            assert hidden.code is absent.code
            assert hidden.status.replace(run_id.encode(), never.encode()) == absent.status


async def test_a_workflow_that_one_may_not_see_is_not_served(world: World):
    for name in ("GetWorkflow", "StartRun"):
        hidden = await world.call(name, world.other_workflow)
        request = requests_for("", workflow="askinX")[name]
        absent = await call(world.channel, METHODS[name], frames(request), world.other_workflow)
        assert hidden.code is Code.NOT_FOUND
        assert hidden.reason == "WORKFLOW_NOT_FOUND"
        assert hidden.status.replace(b"asking", b"askinX") == absent.status
    listed = await world.call("ListWorkflows", world.other_workflow)
    assert b"other" in listed.messages[0]
    assert b"asking" not in listed.messages[0]


async def test_listing_runs_shows_what_one_may_see(world: World):
    await start_run(world.channel, "other", world.admin)
    request = runs.ListRunsRequest().SerializeToString()
    for metadata, workflows in (
        (world.admin, {"asking", "other"}),
        (world.asking_reader, {"asking"}),
        (world.other_workflow, {"other"}),
        (world.stranger, set()),
    ):
        answer = await call(world.channel, METHODS["ListRuns"], [request], metadata)
        found = runs.ListRunsResponse.FromString(answer.messages[0]).runs
        assert {run.workflow for run in found} == workflows
    asked = runs.ListRunsRequest(workflow="asking").SerializeToString()
    answer = await call(world.channel, METHODS["ListRuns"], [asked], world.other_workflow)
    assert not runs.ListRunsResponse.FromString(answer.messages[0]).runs


@pytest.mark.parametrize("name", [name for name in WITH_A_RUN if name != "Converse"])
async def test_scopes_of_one_workflow(world: World, name: str):
    needed = RULES[METHODS[name].name].action
    for metadata, allowed in (
        (world.asking_reader, {SEE, READ}),
        (world.asking_answerer, {SEE}),
        (world.asking_writer, {SEE, ANSWER, READ, WRITE}),
    ):
        answer = await world.call(name, metadata)
        if needed in allowed:
            assert answer.code in (Code.OK, Code.CANCELLED) or answer.reason in ENDED_ONLY, (name, answer)
        else:
            assert answer.reason == "PERMISSION_DENIED", (name, answer)


async def test_starting_needs_write_for_the_workflow(world: World):
    for metadata, code in ((world.asking_writer, Code.OK), (world.asking_reader, Code.PERMISSION_DENIED)):
        assert (await world.call("StartRun", metadata)).code is code
        frame = runs.ConverseRequest()
        frame.start.request.CopyFrom(requests_for("")["StartRun"])
        answer = await call(world.channel, METHODS["Converse"], [frame.SerializeToString()], metadata, most=1)
        assert answer.code is (Code.CANCELLED if code is Code.OK else code)


async def test_a_run_id_of_a_hidden_workflow_is_taken_and_no_more(world: World):
    request = runs.StartRunRequest(workflow="other", run_id=world.run_id)
    request.run_id_conflict_policy = runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING
    answer = await call(world.channel, METHODS["StartRun"], frames(request), world.other_workflow)
    assert (answer.code, answer.reason) == (Code.ALREADY_EXISTS, "RUN_EXISTS")


async def test_forking_a_hidden_run_finds_nothing(world: World):
    request = runs.StartRunRequest(workflow="other")
    getattr(request, "from").run_id = world.run_id
    for metadata in (world.other_workflow, world.stranger):
        answer = await call(world.channel, METHODS["StartRun"], frames(request), metadata)
        assert (answer.code, answer.reason) == (Code.NOT_FOUND, "RUN_NOT_FOUND")


async def test_each_message_of_a_conversation_is_checked(world: World):
    attach, send = requests_for(world.run_id)["Converse"]
    cancel = runs.ConverseRequest()
    cancel.cancel.reason = "r"
    answer = await call(world.channel, METHODS["Converse"], frames([attach, send]), world.asking_reader, most=3)
    results = [runs.ConverseResponse.FromString(message) for message in answer.messages]
    (result,) = (item.send_result for item in results if item.HasField("send_result"))
    assert result.error.code == Code.PERMISSION_DENIED.value[0]
    answer = await call(world.channel, METHODS["Converse"], frames([attach, cancel]), world.reader, most=9)
    assert (answer.code, answer.reason) == (Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    run = await world.call("GetRun", world.admin)
    assert runs.GetRunResponse.FromString(run.messages[0]).run.status == types_pb2.RUN_STATUS_WAITING


async def test_asking_a_question_for_others_needs_write(world: World):
    request = requests_for(world.run_id)["WaitForEvent"]
    request.waiter_event.type = "Question"
    request.waiter_event.payload.json = b'{"text": "q"}'
    for metadata in (world.reader, world.asking_reader):
        answer = await call(world.channel, METHODS["WaitForEvent"], frames(request), metadata)
        assert answer.code is Code.PERMISSION_DENIED
    answer = await call(world.channel, METHODS["WaitForEvent"], frames(request), world.asking_writer)
    assert answer.code is Code.OK


async def test_health_is_open_and_reflection_needs_read(world: World):
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    check = world.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health_pb2.HealthCheckResponse.FromString(await check(b"")).status == health_pb2.HealthCheckResponse.SERVING
    watch = world.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    assert health_pb2.HealthCheckResponse.FromString(await watch.read()).status == 1
    watch.cancel()
    question = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    for metadata, code in (([], Code.UNAUTHENTICATED), (world.nobody, Code.PERMISSION_DENIED), (world.reader, Code.OK)):
        name = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        answer = await call(world.channel, Method(name, None, True, True), [question], metadata)
        assert answer.code is code


async def test_without_access_control_everyone_is_the_same(tmp_path: Path):
    async with serving() as server, channel_to(server) as channel:
        run_id = await start_run(channel)
        for metadata in ([], [("authorization", "Bearer x")]):
            answer = await call(channel, METHODS["GetRun"], frames(requests_for(run_id)["GetRun"]), metadata)
            assert answer.code is Code.OK
