"""Every limit answers RESOURCE_EXHAUSTED with RetryInfo or QuotaFailure, and is counted: those of numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.system.security.flows import HELD
from tests.system.security.limiting import ask, event, limited, refused, serving
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

from stepwire.v1 import run_service_pb2 as runs

Code = grpc.StatusCode


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
        waits = [asyncio.ensure_future(call(channel, METHODS["WaitRun"], [wait], one, timeout=60)) for _ in range(2)]
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
        answer = await call(channel, METHODS["Converse"], frames([attach, *sends]), one, most=20, timeout=60)
        results = [runs.ConverseResponse.FromString(message).send_result for message in answer.messages]
        assert any(result.error.code == Code.RESOURCE_EXHAUSTED.value[0] for result in results)


def prompt(run_id: str, **fields: Any) -> Any:
    request = runs.WaitForEventRequest(run_id=run_id, event_type="Answer", **fields)
    request.timeout.nanos = 1
    request.waiter_event.type = "Question"
    request.waiter_event.payload.json = b'{"text": "q"}'
    return request


async def test_prompts_count_as_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stepwire.server.rpc.gate.quotas.time", StandingClock())
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
                await ask(channel, "WaitRun", runs.WaitRunRequest(run_id=each), timeout=60)
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
