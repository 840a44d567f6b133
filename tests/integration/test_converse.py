"""Converse: a conversation with a run on one stream."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_flows import SECRET, Gate
from tests.integration.rpc_serving import (
    JSON,
    Rpc,
    event,
    payload,
    plain,
    refusal_of,
    refusal_of_status,
    serving,
)

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types


class Talk:
    """A conversation."""

    def __init__(self, rpc: Rpc) -> None:
        self.call = rpc.converse()
        self.results: list[runs.ConverseSendResult] = []
        self.entries: list[types.LogEntry] = []
        self.outcome: types.Outcome | None = None
        self.cursor = 0

    async def start(self, workflow: str, input: Any = None, /, *, max_unacked: int = 0, **fields: Any) -> types.Run:
        """Start a run and return it as opened."""
        given: dict[str, Any] = {} if input is None else {"input": payload(input)}
        request = runs.StartRunRequest(workflow=workflow, **given, **fields)
        options = runs.StreamOptions(encoding=JSON)
        frame = runs.ConverseStart(request=request, options=options, max_unacked=max_unacked)
        await self.call.write(runs.ConverseRequest(start=frame))
        return (await self.opened()).run

    async def attach(self, run_id: str, after: int = 0, *, max_unacked: int = 0, **options: Any) -> runs.ConverseOpened:
        """Attach to a run."""
        chosen = runs.StreamOptions(**{"encoding": JSON, **options})
        frame = runs.ConverseAttach(run_id=run_id, after_sequence=after, options=chosen, max_unacked=max_unacked)
        await self.call.write(runs.ConverseRequest(attach=frame))
        return await self.opened()

    async def opened(self) -> runs.ConverseOpened:
        """Read the first frame."""
        frame: runs.ConverseResponse = await self.call.read()
        assert frame.WhichOneof("frame") == "opened"
        self.cursor = frame.opened.next_sequence - 1
        return frame.opened

    async def send(self, request_id: str, sent: types.Event, step: str = "") -> None:
        """Write a send."""
        await self.call.write(
            runs.ConverseRequest(send=runs.ConverseSend(request_id=request_id, event=sent, step=step))
        )

    async def ack(self, sequence: int) -> None:
        """Write an acknowledgement."""
        await self.call.write(runs.ConverseRequest(ack=runs.ConverseAck(sequence=sequence)))

    async def cancel(self, reason: str = "") -> None:
        """Write a cancel."""
        await self.call.write(runs.ConverseRequest(cancel=runs.ConverseCancel(reason=reason)))

    async def read(self) -> str:
        """Read a frame, file it, and return what it was."""
        frame: Any = await self.call.read()
        if frame is grpc.aio.EOF:
            return "end"
        kind = str(frame.WhichOneof("frame"))
        if kind == "events":
            assert frame.events.from_sequence == self.cursor + 1
            assert frame.events.to_sequence >= frame.events.from_sequence
            self.cursor = frame.events.to_sequence
            self.entries += frame.events.entries
        elif kind == "send_result":
            self.results.append(frame.send_result)
        elif kind == "heartbeat":
            assert frame.heartbeat.sequence == self.cursor
        elif kind == "finished":
            self.outcome = frame.finished.outcome
        return kind

    async def until(self, kind: str) -> list[str]:
        """Read frames up to one of this kind."""
        kinds: list[str] = []
        while kind not in kinds:
            kinds.append(await self.read())
            assert kinds[-1] != "end" or kind == "end"
        return kinds

    @property
    def types(self) -> list[str]:
        """The types of the entries so far."""
        return [entry.type for entry in self.entries]


async def test_a_conversation_from_start_to_end(rpc: Rpc) -> None:
    talk = Talk(rpc)
    run = await talk.start("ask", {"item": "tea"}, labels={"who": "ann"})
    assert run.run_id
    assert run.labels == {"who": "ann"}
    await talk.until("events")
    assert talk.types == ["Question"]
    await talk.send("1", event("Answer", order="7", yes=True))
    kinds = await talk.until("finished")
    # A send_result precedes the entries of its commit.
    assert kinds.index("send_result") < kinds.index("events")
    assert talk.results[0].request_id == "1"
    assert talk.results[0].delivered == 1
    assert talk.types == ["Question", "StopEvent"]
    assert talk.outcome is not None
    assert plain(talk.outcome.result) == {"yes": True, "note": None}
    assert await talk.read() == "end"
    assert await talk.call.code() == grpc.StatusCode.OK


async def test_opened_tells_what_a_late_client_needs(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    talk = Talk(rpc)
    opened = await talk.attach(run.run_id, 1)
    assert (opened.first_available, opened.next_sequence) == (1, 2)
    (waiter,) = opened.run.pending_waiters
    assert (waiter.waiter_id, waiter.event_type, waiter.step) == ("ship", "Answer", "ask")
    assert plain(waiter.requirements) == {"order": "7"}
    assert waiter.prompt.type == "Question"
    assert plain(waiter.prompt.payload) == {"text": "Ship tea?"}
    assert waiter.HasField("deadline")
    assert opened.run.status == types.RUN_STATUS_WAITING
    await talk.send("1", event("Answer", order="7", yes=False))
    await talk.until("finished")
    assert talk.outcome is not None
    assert talk.outcome.status == types.RUN_STATUS_COMPLETED


async def test_every_send_has_its_result_before_its_entry(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    talk = Talk(rpc)
    await talk.attach(run.run_id, include_internal=True)
    for n in range(50):
        await talk.send(f"r{n}", event("Note", n=n))
    seen: dict[int, int] = {}
    told: list[int] = []
    while len(told) < 50 or len(seen) < 50:
        before = len(talk.entries)
        if await talk.read() == "send_result":
            told.append(talk.results[-1].sequence)
        for entry in talk.entries[before:]:
            if entry.type == "Note":
                assert entry.sequence in told
                seen[entry.sequence] = plain(entry.payload)["n"]
    assert [result.request_id for result in talk.results] == [f"r{n}" for n in range(50)]
    assert told == sorted(told)
    assert list(seen.values()) == list(range(50))
    talk.call.cancel()


async def test_a_bad_event_fails_its_frame_and_not_the_stream(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    talk = Talk(rpc)
    await talk.attach(run.run_id)
    await talk.send("type", event("Nothing"))
    await talk.send("field", event("Note", n=SECRET))
    await talk.send("step", event("Note", n=1), step="nowhere")
    await talk.send("good", event("Note", n=9))
    while len(talk.results) < 4:
        await talk.read()
    results = {result.request_id: result for result in talk.results}
    assert results["good"].WhichOneof("result") == "sequence"
    reasons = {name: refusal_of_status(results[name].error).reason for name in ("type", "field", "step")}
    assert reasons == {"type": "UNKNOWN_EVENT_TYPE", "field": "INVALID_EVENT", "step": "STEP_NOT_FOUND"}
    assert "n" in refusal_of_status(results["field"].error).fields
    await talk.send("end", event("Answer", order="7", yes=True))
    await talk.until("finished")
    assert "Pong" in talk.types
    assert talk.outcome is not None
    assert plain(talk.outcome.result)["note"] == 9


async def test_half_close_means_no_more_frames_and_output_goes_on(rpc: Rpc) -> None:
    talk = Talk(rpc)
    run = await talk.start("ask", {"item": "tea"})
    await talk.until("events")
    await talk.send("1", event("Note", n=1))
    await talk.call.done_writing()
    await talk.until("send_result")
    await rpc.send(run.run_id, event("Answer", order="7", yes=True))
    await talk.until("finished")
    assert talk.types == ["Question", "Pong", "StopEvent"]
    assert await talk.read() == "end"


async def test_a_disconnect_detaches_and_never_cancels(rpc: Rpc) -> None:
    talk = Talk(rpc)
    run = await talk.start("ask", {"item": "tea"})
    await talk.until("events")
    talk.call.cancel()
    other = Talk(rpc)
    opened = await other.attach(run.run_id, talk.cursor)
    assert opened.run.status == types.RUN_STATUS_WAITING
    other.call.cancel()
    assert (await rpc.answer(run.run_id)).status == types.RUN_STATUS_COMPLETED


async def test_what_was_sent_before_a_disconnect_is_done(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    talk = Talk(rpc)
    await talk.attach(run.run_id, run.last_sequence)
    await talk.send("1", event("Note", n=1))
    await talk.until("send_result")
    talk.call.cancel()
    found = await rpc.answer(run.run_id)
    assert plain(found.outcome.result) == {"yes": True, "note": 1}


async def test_a_cancel_frame_cancels_the_run_after_the_sends_before_it(rpc: Rpc) -> None:
    talk = Talk(rpc)
    await talk.start("ask", {"item": "tea"})
    await talk.until("events")
    await talk.send("1", event("Note", n=1))
    await talk.cancel("changed my mind")
    await talk.until("finished")
    assert [result.WhichOneof("result") for result in talk.results] == ["sequence"]
    assert talk.outcome is not None
    assert (talk.outcome.status, talk.outcome.reason) == (types.RUN_STATUS_CANCELLED, "changed my mind")
    assert talk.types[-1] == "WorkflowCancelledEvent"


@pytest.mark.parametrize("encoding", ["json", "value"])
async def test_frames_do_not_overtake_a_large_send_before_them(rpc: Rpc, encoding: str) -> None:
    run = await rpc.asking("tea")
    talk = Talk(rpc)
    await talk.attach(run.run_id, include_internal=True)
    large = event("Note", n=1, rows=[0] * 20_000)
    if encoding == "value":
        data = large.payload.json
        large.payload.value.SetInParent()
        json_format.Parse(data, large.payload.value)
    for number, sent in enumerate((event("Note", n=0), large, event("Note", n=2))):
        await talk.send(str(number), sent)
    await talk.cancel()
    await talk.until("finished")
    assert [result.request_id for result in talk.results] == ["0", "1", "2"]
    assert not any(result.HasField("error") for result in talk.results)
    notes = [plain(entry.payload)["n"] for entry in talk.entries if entry.type == "Note"]
    assert notes == [0, 1, 2]


async def test_a_send_after_the_end_gets_its_result(gate: Gate, rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    await rpc.answer(run.run_id)
    talk = Talk(rpc)
    await talk.attach(run.run_id, max_unacked=1)
    await talk.until("events")  # the window is full: the end is still to come
    await talk.send("late", event("Note", n=1))
    await talk.until("send_result")
    assert refusal_of_status(talk.results[0].error).reason == "RUN_ENDED"
    await talk.ack(talk.cursor)
    await talk.until("finished")
    assert talk.types == ["Question", "StopEvent"]


async def test_the_window_bounds_what_is_not_acknowledged() -> None:
    async with serving(heartbeat=0.05) as rpc:
        run = await rpc.start("count", {"n": 10}, wait=Duration(seconds=20))
        talk = Talk(rpc)
        await talk.attach(run.run_id, max_unacked=3)
        while await talk.read() != "heartbeat":
            pass
        assert len(talk.entries) == 3
        await talk.ack(talk.entries[0].sequence)
        await talk.until("events")
        while await talk.read() != "heartbeat":
            pass
        assert len(talk.entries) == 4
        while talk.outcome is None:
            # The terminal entry needs no ack: the server ends the stream, and a write that comes later fails the call.
            if talk.entries[-1].kind != types.ENTRY_KIND_TERMINAL:
                await talk.ack(talk.cursor)
            await talk.read()
            assert len(talk.entries) <= 14
        assert talk.types == ["Pong"] * 10 + ["StopEvent"]


async def test_a_window_of_one_moves_entry_by_entry(rpc: Rpc) -> None:
    """Hidden entries do not count: a client that acknowledges entries alone never gets stuck."""
    run = await rpc.start("count", {"n": 5}, wait=Duration(seconds=20))
    for internal in (False, True):
        talk = Talk(rpc)
        await talk.attach(run.run_id, max_unacked=1, include_internal=internal)
        while await talk.read() == "events":
            # The terminal entry needs no ack: the server ends the stream, and a write that comes later fails the call.
            if talk.entries[-1].kind != types.ENTRY_KIND_TERMINAL:
                await talk.ack(talk.entries[-1].sequence)
        assert talk.outcome is not None
        whole = [entry for entry in await rpc.log(run.run_id) if internal or entry in talk.entries]
        assert talk.entries == whole
        assert len(talk.entries) == (run.last_sequence if internal else 6)


async def test_a_silent_conversation_beats() -> None:
    async with serving(heartbeat=0.05) as rpc:
        talk = Talk(rpc)
        await talk.start("ask", {"item": "tea"})
        await talk.until("events")
        await talk.until("heartbeat")
        await talk.until("heartbeat")
        await talk.send("1", event("Answer", order="7", yes=True))
        await talk.until("finished")


async def test_attach_in_the_middle_and_to_an_ended_run(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 4}, wait=Duration(seconds=20))
    log = await rpc.log(run.run_id)
    for after in (0, 3, run.last_sequence):
        talk = Talk(rpc)
        opened = await talk.attach(run.run_id, after, include_internal=True)
        assert opened.next_sequence == after + 1
        assert opened.run.outcome.status == types.RUN_STATUS_COMPLETED
        await talk.until("finished")
        assert talk.entries == log[after:]


async def test_event_types_filter_a_conversation(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 3}, wait=Duration(seconds=20))
    talk = Talk(rpc)
    await talk.attach(run.run_id, event_types=["Nothing"])
    await talk.until("finished")
    assert talk.types == ["StopEvent"]


async def test_a_start_repeated_is_attached_to_the_same_run(rpc: Rpc) -> None:
    first, second = Talk(rpc), Talk(rpc)
    run = await first.start("ask", {"item": "tea"}, request_id="once")
    first.call.cancel()
    again = await second.start("ask", {"item": "tea"}, request_id="once")
    assert again.run_id == run.run_id
    await second.until("events")
    assert second.types == ["Question"]
    second.call.cancel()


async def test_two_talk_with_one_run(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    talks = [Talk(rpc), Talk(rpc)]
    for talk in talks:
        await talk.attach(run.run_id)
    await talks[0].send("a", event("Note", n=1))
    await talks[1].send("b", event("Note", n=2))
    await talks[0].until("send_result")
    await talks[1].until("send_result")
    await talks[1].send("c", event("Answer", order="7", yes=True))
    for talk in talks:
        await talk.until("finished")
    assert talks[0].entries == talks[1].entries
    assert [len(talk.results) for talk in talks] == [1, 2]


async def test_a_stop_ends_conversations_and_says_where_to_resume(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    talk = Talk(rpc)
    await talk.attach(run.run_id)
    await talk.until("events")
    stopping = asyncio.create_task(rpc.server.stop())
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await talk.until("finished")
    refusal = refusal_of(failure.value)
    assert (refusal.reason, refusal.facts["resume_sequence"]) == ("DRAINING", str(talk.cursor))
    await stopping


async def test_a_deleted_run_ends_its_streams(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 3}, wait=Duration(seconds=20))
    talk = Talk(rpc)
    await talk.attach(run.run_id, max_unacked=1)
    await talk.until("events")
    await rpc.runs.DeleteRun(runs.DeleteRunRequest(run_id=run.run_id))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await talk.until("finished")
    assert refusal_of(failure.value).reason == "RUN_NOT_FOUND"
