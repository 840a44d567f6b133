"""Every limit answers RESOURCE_EXHAUSTED with RetryInfo or QuotaFailure, and is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2
from tests.system.security import support
from tests.system.security.flows import HELD
from tests.system.security.support import (
    METHODS,
    Keys,
    call,
    channel_to,
    frames,
    requests_for,
    start_run,
    waiting,
)

from stepwire.server.app import Server
from stepwire.server.rpc.gate.limits import CARRIERS
from stepwire.server.telemetry.metrics import Metrics
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import state_service_pb2, types_pb2

Code = grpc.StatusCode

metrics = Metrics()
"""The metrics of the running test's server."""


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Server]:
    global metrics
    async with support.serving(**settings) as server:
        metrics = server.metrics
        yield server


@asynccontextmanager
async def limited(**settings: Any) -> AsyncIterator[tuple[grpc.aio.Channel, str]]:
    async with serving(**settings) as server, channel_to(server) as channel:
        run_id = await start_run(channel)
        await waiting(channel, run_id)
        yield channel, run_id


def refused(answer: Any, limit: str, *, retry: bool = False) -> None:
    """Check that an answer is the refusal of a limit."""
    assert (answer.code, answer.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"), answer
    assert answer.info().metadata["limit"] == limit
    again, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    if retry:
        assert answer.unpack(again)
        assert again.retry_delay.ToMilliseconds() > 0
    else:
        assert answer.unpack(quota)
        assert [item.subject for item in quota.violations] == [limit]
    assert metrics.refused["limit", limit] > 0


async def ask(channel: grpc.aio.Channel, name: str, request: Any, **options: Any) -> Any:
    return await call(channel, METHODS[name], frames(request), **options)


def event(run_id: str, text: str) -> runs.SendEventRequest:
    request = runs.SendEventRequest(run_id=run_id)
    request.event.type = "Note"
    request.event.payload.json = f'{{"text": "{text}"}}'.encode()
    return request


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
                before = metrics.refused["limit", "message_bytes"]
                answer = await ask(channel, name, request)
                refused(answer, "message_bytes")
                assert metrics.refused["limit", "message_bytes"] == before + answer.calls


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
        stream = channel.stream_stream(METHODS["Converse"].name)(timeout=10)
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


async def test_runs_of_a_principal(tmp_path: Path):
    keys = Keys(tmp_path / "access.toml")
    one, two = keys.add("one", ["admin"]), keys.add("two", ["admin"])
    data = str(tmp_path / "data")
    start = requests_for("")["StartRun"]
    for again in (False, True):
        # What is on disk counts after a restart too.
        async with serving(api_keys=keys.path, max_runs=3, data=data) as server, channel_to(server) as channel:
            if not again:
                answers = await asyncio.gather(*(ask(channel, "StartRun", start, metadata=one) for _ in range(8)))
                assert sorted(answer.code.name for answer in answers) == ["OK"] * 3 + ["RESOURCE_EXHAUSTED"] * 5
            refused(await ask(channel, "StartRun", start, metadata=one), "runs")
            assert (await ask(channel, "StartRun", start, metadata=two)).code is Code.OK
    async with serving(api_keys=keys.path, max_runs=3, data=data) as server, channel_to(server) as channel:
        listed = await ask(channel, "ListRuns", runs.ListRunsRequest(page_size=1), metadata=one)
        run_id = runs.ListRunsResponse.FromString(listed.messages[0]).runs[0].run_id
        frame = runs.ConverseRequest()
        frame.start.request.CopyFrom(start)
        refused(await call(channel, METHODS["Converse"], frames(frame), one), "runs")
        oldest = await ask(channel, "ListRuns", runs.ListRunsRequest(page_size=9), metadata=one)
        for run in runs.ListRunsResponse.FromString(oldest.messages[0]).runs:
            await ask(channel, "CancelRun", runs.CancelRunRequest(run_id=run.run_id), metadata=one)
        assert run_id
        assert (await ask(channel, "StartRun", start, metadata=one)).code is Code.OK


async def test_streams_of_a_principal(tmp_path: Path):
    keys = Keys(tmp_path / "access.toml")
    one, two = keys.add("one", ["admin"]), keys.add("two", ["admin"])
    async with serving(api_keys=keys.path, max_streams=2) as server, channel_to(server) as channel:
        run_id = await start_run(channel, metadata=one)
        request = runs.StreamEventsRequest(run_id=run_id).SerializeToString()
        open_streams = [channel.unary_stream(METHODS["StreamEvents"].name)(request, metadata=one) for _ in range(2)]
        for stream in open_streams:
            await stream.read()
        assert server.calls.streams == 2
        for name in ("StreamEvents", "Converse"):
            answer = await call(channel, METHODS[name], frames(requests_for(run_id)[name])[:1], one)
            refused(answer, "streams", retry=True)
        answer = await call(channel, METHODS["StreamEvents"], [request], two, most=1)
        assert answer.code is Code.CANCELLED
        open_streams[0].cancel()
        while (await call(channel, METHODS["StreamEvents"], [request], one, most=1)).code is not Code.CANCELLED:
            pass  # until the server has heard of it


async def test_waiters_of_a_principal(tmp_path: Path):
    keys = Keys(tmp_path / "access.toml")
    one = keys.add("one", ["admin"])
    async with serving(api_keys=keys.path, max_waiters=2) as server, channel_to(server) as channel:
        run_id = await start_run(channel, metadata=one)
        await waiting(channel, run_id, one)
        wait = runs.WaitRunRequest(run_id=run_id).SerializeToString()
        waits = [asyncio.ensure_future(call(channel, METHODS["WaitRun"], [wait], one, timeout=30)) for _ in range(2)]
        while server.calls.waiters < 2:
            await ask(channel, "GetRun", runs.GetRunRequest(run_id=run_id), metadata=one)
        refused(await ask(channel, "WaitRun", runs.WaitRunRequest(run_id=run_id), metadata=one), "waiters", retry=True)
        start = requests_for("")["StartRun"]
        start.wait.seconds = 1
        refused(await ask(channel, "StartRun", start, metadata=one), "waiters", retry=True)
        await ask(channel, "CancelRun", runs.CancelRunRequest(run_id=run_id), metadata=one)
        assert [answer.code for answer in await asyncio.gather(*waits)] == [Code.OK] * 2
        assert server.calls.waiters == 0


class StandingClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_events_per_second_of_a_principal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = StandingClock()
    monkeypatch.setattr("stepwire.server.rpc.gate.quotas.time", clock)
    keys = Keys(tmp_path / "access.toml")
    one, two = keys.add("one", ["admin"]), keys.add("two", ["admin"])
    async with serving(api_keys=keys.path, max_events_per_second=20) as server, channel_to(server) as channel:
        run_id = await start_run(channel, metadata=one)
        await waiting(channel, run_id, one)
        answers = [await ask(channel, "SendEvent", event(run_id, "n"), metadata=one) for _ in range(60)]
        exhausted = [answer for answer in answers if answer.code is not Code.OK]
        assert exhausted
        refused(exhausted[0], "events_per_second", retry=True)
        again = error_details_pb2.RetryInfo()
        assert exhausted[-1].unpack(again)
        clock.now += again.retry_delay.ToNanoseconds() / 1e9 + 0.001  # floats round
        assert (await ask(channel, "SendEvent", event(run_id, "n"), metadata=one)).code is Code.OK
        other = await start_run(channel, metadata=two)
        assert (await ask(channel, "SendEvent", event(other, "n"), metadata=two)).code is Code.OK
        # In a conversation too, where it fails the frame.
        attach, send = requests_for(run_id)["Converse"]
        sends = []
        for number in range(60):
            frame = runs.ConverseRequest()
            frame.CopyFrom(send)
            frame.send.request_id = f"f{number}"
            sends.append(frame)
        answer = await call(channel, METHODS["Converse"], frames([attach, *sends]), one, most=20, timeout=30)
        results = [runs.ConverseResponse.FromString(message).send_result for message in answer.messages]
        assert any(result.error.code == Code.RESOURCE_EXHAUSTED.value[0] for result in results)


def prompt(run_id: str, **fields: Any) -> Any:
    request = runs.WaitForEventRequest(run_id=run_id, event_type="Answer", **fields)
    request.timeout.nanos = 1
    request.waiter_event.type = "Question"
    request.waiter_event.payload.json = b'{"text": "q"}'
    return request


async def test_prompts_count_as_events(tmp_path: Path):
    keys = Keys(tmp_path / "access.toml")
    one = keys.add("one", ["admin"])
    async with (
        serving(api_keys=keys.path, max_events_per_second=20, max_log_entries=40) as server,
        channel_to(server) as channel,
    ):
        run_id = await start_run(channel, metadata=one)
        await waiting(channel, run_id, one)
        answers = [
            await call(channel, METHODS["WaitForEvent"], frames(prompt(run_id, waiter_id=f"{number}")), one)
            for number in range(60)
        ]
        refused(next(answer for answer in answers if answer.code is not Code.OK), "events_per_second", retry=True)
    async with limited(max_log_entries=40) as (channel, run_id):
        answers = [
            await call(channel, METHODS["WaitForEvent"], frames(prompt(run_id, waiter_id=f"{number}")))
            for number in range(60)
        ]
        refused(answers[-1], "log_entries")


async def test_the_id_of_a_prompt_is_kept_and_bounded():
    async with limited() as (channel, run_id):
        answer = await call(channel, METHODS["WaitForEvent"], frames(prompt(run_id, waiter_id="w" * 129)))
        assert (answer.code, answer.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST")
        # One that is made of long requirements counts once all the same.
        request = prompt(run_id)
        request.requirements.json = b'{"text": "%s"}' % (b"x" * 100_000)
        for _ in range(2):
            answer = await call(channel, METHODS["WaitForEvent"], frames(request))
            assert answer.code is Code.OK
        stream = runs.StreamEventsRequest(run_id=run_id, no_follow=True)
        answer = await call(channel, METHODS["StreamEvents"], frames(stream), most=100)
        batches = [runs.StreamEventsResponse.FromString(message).events for message in answer.messages]
        entries = [entry for batch in batches for entry in batch.entries]
        assert [entry.type for entry in entries] == ["Question", "Question"]  # the run's own, and the one


async def test_calls_at_a_time():
    async with limited(max_calls=1) as (channel, run_id):
        request = requests_for(run_id)["SendEvent"]
        request.request_id = ""
        exhausted: list[Any] = []
        while not exhausted:  # calls may still come one by one; the test's timeout ends this
            answers = await asyncio.gather(*(ask(channel, "SendEvent", request) for _ in range(40)))
            exhausted = [answer for answer in answers if answer.code is not Code.OK]
        assert len(exhausted) < 40
        refused(exhausted[0], "calls", retry=True)


async def test_sync_steps_that_wait_for_a_thread():
    HELD.clear()
    try:
        async with limited(sync_threads=1, max_sync_backlog=1) as (channel, run_id):
            block = requests_for("", "blocking")["StartRun"]
            # One has the thread, one may wait for it, one more is too many.
            started = [await ask(channel, "StartRun", block) for _ in range(3)]
            assert [answer.code for answer in started] == [Code.OK] * 3
            ids = [runs.StartRunResponse.FromString(answer.messages[0]).run.run_id for answer in started]
            refused(await ask(channel, "StartRun", block), "sync_threads", retry=True)
            refused(await ask(channel, "SendEvent", event(run_id, "n")), "sync_threads", retry=True)
            start = runs.ConverseRequest()
            start.start.request.CopyFrom(block)
            refused(await call(channel, METHODS["Converse"], frames(start)), "sync_threads", retry=True)
            talk = frames(requests_for(run_id)["Converse"])
            answer = await call(channel, METHODS["Converse"], talk, most=100, timeout=2)
            results = [runs.ConverseResponse.FromString(message).send_result for message in answer.messages]
            [sent] = [result for result in results if result.request_id]
            assert sent.error.code == Code.RESOURCE_EXHAUSTED.value[0]
            HELD.set()
            for each in ids:
                await ask(channel, "WaitRun", runs.WaitRunRequest(run_id=each), timeout=20)
            assert (await ask(channel, "StartRun", block)).code is Code.OK
    finally:
        HELD.set()


async def test_queued_events_of_a_run():
    async with limited(max_queued_events=1) as (channel, run_id):
        # The delivery that waits for the answer is one.
        refused(await ask(channel, "SendEvent", event(run_id, "n")), "queued_events", retry=True)


async def test_log_entries_of_a_run():
    async with limited(max_log_entries=30) as (channel, run_id):
        publish = requests_for(run_id)["PublishEvent"]
        answers = [await ask(channel, "PublishEvent", publish) for _ in range(40)]
        assert answers[0].code is Code.OK
        refused(answers[-1], "log_entries")


async def test_quotas_are_off_without_authentication_and_on_with_it(tmp_path: Path):
    async with serving() as server:
        limits = server.calls.limits
        assert (limits.streams, limits.waiters, limits.events_per_second) == (0, 0, 0)
    keys = Keys(tmp_path / "access.toml")
    keys.add("one", ["admin"])
    async with serving(api_keys=keys.path) as server:
        limits = server.calls.limits
        assert (limits.streams, limits.waiters, limits.events_per_second) == (1000, 10_000, 5000)
