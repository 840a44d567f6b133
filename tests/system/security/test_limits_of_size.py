"""Limits of size: messages, events, state, snapshots, depth."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor
from tests.system.security.limiting import ask, counted, event, limited, refused, serving
from tests.system.security.support import (
    METHODS,
    call,
    frames,
    requests_for,
)

from stepwire.server.rpc.gate.limits import CARRIERS
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2, types_pb2

Code = grpc.StatusCode


def too_long(size: int) -> dict[str, Any]:
    """Return a request of each method that has more than so many bytes; of Converse, frames, of which one has."""
    text = "x" * size
    found = requests_for(text)
    for name in ("ListWorkflows", "ListRuns"):
        found[name].page_token = text
    for name in ("GetWorkflow", "PauseWorkflow", "ResumeWorkflow"):
        found[name].name = text
    for name in found:
        if name.endswith("Schedule"):
            found[name].schedule_id = text
    found["StartRun"].labels["a"] = text
    found["ListSchedules"].page_token = text
    found["ApplyToRuns"].resume_token = text
    return {name: request for name, request in found.items() if isinstance(request, list) or request.DESCRIPTOR.fields}


async def test_message_bytes():
    # Just over, and as much as a client that knows no limit may send: the answer is the same.
    for size in (65 << 10, 1 << 20):
        async with limited(max_message_bytes="64KiB") as (channel, _):
            for name, request in too_long(size).items():
                before = counted("message_bytes")
                answer = await ask(channel, name, request)
                refused(answer, "message_bytes")
                assert counted("message_bytes") == before + answer.calls


async def test_what_carries_no_payload_is_short():
    # Lists of millions of tiny items fit into `max_message_bytes`, and each item would cost time on the event loop.
    long = {name: request for name, request in too_long((1 << 20) + 1).items() if name not in CARRIERS}
    long["ListRuns"] = runs.ListRunsRequest(statuses=[types_pb2.RUN_STATUS_RUNNING] * ((1 << 20) + 1))
    async with limited() as (channel, run_id):
        for name, request in long.items():
            refused(await ask(channel, name, request), "message_bytes")
        # The number of values is looked at before any of them.
        values = [state_service_pb2.PathValue(path="a", value=types_pb2.Payload(json=b"[" * 1000))] * 1001
        answer = await ask(channel, "SetState", state_service_pb2.SetStateRequest(run_id=run_id, values=values))
        assert (answer.code, answer.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST")


def carries(message: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    """Tell whether a message may hold a payload."""
    if message.full_name in ("stepwire.v1.Payload", "stepwire.v1.ContextSnapshot"):
        return True
    inner = [field.message_type for field in message.fields if field.message_type is not None]
    return any(carries(each, seen | {each.full_name}) for each in inner if each.full_name not in seen)


async def test_every_request_that_carries_a_payload_is_looked_at():
    found = {name for name, method in METHODS.items() if method.request is not None and carries(method.request)}
    assert found == CARRIERS | {"Converse"}  # whose frames are looked at one by one


async def test_what_is_held_for_long_is_short():
    # A stream's request, and a wait's, stay in memory as long as they do.
    types = [f"{number:0>100}" for number in range(1000)]
    async with limited() as (channel, run_id):
        good = requests_for(run_id)
        good["StreamEvents"].options.event_types.extend(types)
        good["Converse"][0].attach.options.event_types.extend(types)
        good["WaitRun"].run_id = "x" * (3 << 20)
        good["WaitForEvent"].waiter_id = "x" * (3 << 20)
        for name in ("StreamEvents", "Converse", "WaitRun", "WaitForEvent"):
            refused(await ask(channel, name, good[name]), "message_bytes")
        named = runs.ConverseRequest(attach=runs.ConverseAttach(run_id="x" * (100 << 10)))
        refused(await call(channel, METHODS["Converse"], frames([named])), "message_bytes")
        begin = runs.ConverseRequest()
        begin.start.request.CopyFrom(good["StartRun"])
        begin.start.request.run_id = "never"
        begin.start.options.event_types.extend(types)
        refused(await call(channel, METHODS["Converse"], frames([begin])), "message_bytes")
        answer = await ask(channel, "GetRun", runs.GetRunRequest(run_id="never"))
        assert answer.code is Code.NOT_FOUND


async def test_a_later_frame_that_is_too_long_ends_the_conversation():
    async with limited(max_message_bytes="64KiB") as (channel, run_id):
        attach, send = requests_for(run_id)["Converse"]
        send.send.event.payload.json = b'{"text": "' + b"x" * (200 << 10) + b'"}'
        answer = await call(channel, METHODS["Converse"], frames([attach, send]), most=1000)
        refused(answer, "message_bytes")


async def test_a_compressed_message_counts_as_long_as_it_is():
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        serving(max_message_bytes="64KiB") as server,
        grpc.aio.insecure_channel(server.address, options, compression=grpc.Compression.Gzip) as zipped,
    ):
        refused(await ask(zipped, "GetRun", runs.GetRunRequest(run_id="x" * (200 << 10))), "message_bytes")
        # What would become too much for gRPC is not unpacked.
        answer = await ask(zipped, "GetRun", runs.GetRunRequest(run_id="x" * (64 << 20)))
        assert answer.code is Code.RESOURCE_EXHAUSTED


async def test_messages_beyond_what_grpc_takes():
    async with limited(max_message_bytes="64KiB") as (channel, run_id):
        answer = await ask(channel, "SendEvent", event(run_id, "x" * (3 << 20)))
        assert answer.code is Code.RESOURCE_EXHAUSTED
    async with limited(max_message_bytes="3GiB") as (channel, run_id):  # more than gRPC can count
        assert (await ask(channel, "GetRun", runs.GetRunRequest(run_id=run_id))).code is Code.OK


async def test_event_bytes():
    async with limited(max_event_bytes="1KiB") as (channel, run_id):
        big = b'{"text": "' + b"x" * 1024 + b'"}'
        good = requests_for(run_id)
        good["SendEvent"].event.payload.json = big
        good["PublishEvent"].event.payload.json = big
        good["StartRun"].input.json = big
        good["WaitForEvent"].requirements.json = big
        for name in ("SendEvent", "PublishEvent", "StartRun", "WaitForEvent"):
            refused(await ask(channel, name, good[name]), "event_bytes")
        good["SendEvent"].event.payload.value.struct_value["text"] = "x" * 1024
        refused(await ask(channel, "SendEvent", good["SendEvent"]), "event_bytes")
        assert (await ask(channel, "SendEvent", event(run_id, "x" * 900))).code is Code.OK


async def test_a_frame_that_is_too_big_fails_and_the_conversation_goes_on():
    async with limited(max_event_bytes="1KiB") as (channel, run_id):
        attach, send = requests_for(run_id)["Converse"]
        big = runs.ConverseRequest()
        big.CopyFrom(send)
        big.send.request_id = "big"
        big.send.event.payload.json = b'{"text": "' + b"x" * 1024 + b'"}'
        stream = channel.stream_stream(METHODS["Converse"].name)(timeout=60)
        for frame in frames([attach, big, send]):
            await stream.write(frame)
        results = {}
        while len(results) < 2:
            message = runs.ConverseResponse.FromString(await stream.read())
            if message.HasField("send_result"):
                results[message.send_result.request_id] = message.send_result
        stream.cancel()
        assert results["big"].error.code == Code.RESOURCE_EXHAUSTED.value[0]
        assert results["c1"].sequence > 0


async def test_state_bytes():
    async with limited(max_state_bytes="4KiB") as (channel, run_id):
        write = state_service_pb2.SetStateRequest(run_id=run_id)
        write.values.add(path="extra.a", value=types_pb2.Payload(json=b'"' + b"x" * 5000 + b'"'))
        refused(await ask(channel, "SetState", write), "state_bytes")
        replace = state_service_pb2.ReplaceStateRequest(run_id=run_id)
        replace.value.json = b'{"text": "' + b"x" * 5000 + b'"}'
        refused(await ask(channel, "ReplaceState", replace), "state_bytes")
        # Small writes add up; what is overwritten does not count for ever.
        answers = []
        for number in range(8):
            write.values[0].path = f"extra.k{number}"
            write.values[0].value.json = b'"' + b"x" * 900 + b'"'
            answers.append(await ask(channel, "SetState", write))
        assert [answer.code for answer in answers[:3]] == [Code.OK] * 3
        refused(answers[-1], "state_bytes")
        for _ in range(20):
            write.values[0].path = "extra.k0"
            write.values[0].value.json = b'"' + b"y" * 50 + b'"'
            assert (await ask(channel, "SetState", write)).code is Code.OK


async def test_snapshot_bytes():
    async with limited(max_snapshot_bytes="1KiB") as (channel, _):
        request = runs.StartRunRequest(workflow="asking")
        request.snapshot.head_json = b"x" * 2048
        refused(await ask(channel, "StartRun", request), "snapshot_bytes")


async def test_depth_before_parsing():
    async with limited(max_depth=20) as (channel, run_id):
        deep = b'{"a":' * 21 + b"1" + b"}" * 21
        good = requests_for(run_id)
        good["SendEvent"].event.payload.json = deep
        good["StartRun"].input.json = b"[" * 5000  # not even JSON
        good["ReplaceState"].value.json = deep
        good["SetState"].values[0].value.json = deep
        for name in ("SendEvent", "StartRun", "ReplaceState", "SetState"):
            refused(await ask(channel, name, good[name]), "depth")
        inner = good["SendEvent"].event.payload.value
        for _ in range(21):
            inner = inner.list_value.values.add()
        refused(await ask(channel, "SendEvent", good["SendEvent"]), "depth")
        good["StartRun"].input.json = b'{"text": "' + b"[{" * 500 + b'"}'  # brackets in a text are no nesting
        assert (await ask(channel, "StartRun", good["StartRun"])).code is Code.OK
