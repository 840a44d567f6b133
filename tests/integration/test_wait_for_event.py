"""WaitForEvent: an observer of the log that may ask first, and never consumes."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.duration_pb2 import Duration
from tests.integration.rpc_serving import JSON, Rpc, event, payload, plain, serving

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types


def wait(rpc: Rpc, run_id: str, event_type: str, /, **fields: Any) -> asyncio.Task[runs.WaitForEventResponse]:
    """Wait for an event in a task."""
    request = runs.WaitForEventRequest(run_id=run_id, event_type=event_type, encoding=JSON, **fields)

    async def call() -> runs.WaitForEventResponse:
        answer: runs.WaitForEventResponse = await rpc.runs.WaitForEvent(request, timeout=60)
        return answer

    return asyncio.create_task(call())


async def prompts(rpc: Rpc, run_id: str) -> list[str]:
    """Return the texts of the questions in the log."""
    return [plain(entry.payload)["text"] for entry in await rpc.log(run_id) if entry.type == "Question"]


async def asked(rpc: Rpc, run_id: str, count: int) -> None:
    """Wait until so many questions are in the log."""
    call = rpc.stream(run_id, event_types=["Question"])
    seen = 0
    while seen < count:
        seen += len((await call.read()).events.entries)
    call.cancel()


async def test_an_event_after_a_sequence_is_found_at_once(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    sent = [(await rpc.send(run.run_id, event("Note", n=n))).sequence for n in (1, 2)]
    found = await wait(rpc, run.run_id, "Note", after_sequence=0)
    assert (found.entry.sequence, found.sequence) == (sent[0], sent[0])
    assert (found.timed_out, found.run_ended) == (False, False)
    assert plain(found.entry.payload)["n"] == 1
    found = await wait(rpc, run.run_id, "Note", after_sequence=found.sequence, timeout=Duration())
    assert found.entry.sequence == sent[1]
    found = await wait(rpc, run.run_id, "Note", after_sequence=found.sequence, timeout=Duration())
    assert found.timed_out
    assert not found.HasField("entry")


async def test_without_a_sequence_only_later_events_match(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    await rpc.send(run.run_id, event("Note", n=1))
    waiting = wait(rpc, run.run_id, "Note", waiter_event=event("Question", text="a note?"))
    await asked(rpc, run.run_id, 2)
    sent = await rpc.send(run.run_id, event("Note", n=2))
    found = await waiting
    assert found.entry.sequence == sent.sequence
    assert plain(found.entry.payload)["n"] == 2


async def test_required_fields_must_be_there_and_equal(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    await rpc.send(run.run_id, event("Note", n=1, text="a"))
    sequence = (await rpc.send(run.run_id, event("Note", n=2, text="a", extra={"deep": [1]}))).sequence
    for required in ({"n": 2}, {"extra": {"deep": [1]}}, {"text": "a", "n": 2}):
        found = await wait(rpc, run.run_id, "Note", after_sequence=0, requirements=payload(required))
        assert found.entry.sequence == sequence
    for other in ({"n": 3}, {"n": "2"}, {"missing": None}):
        found = await wait(rpc, run.run_id, "Note", after_sequence=0, requirements=payload(other), timeout=Duration())
        assert found.timed_out
        assert found.sequence >= sequence


async def test_it_never_consumes(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    waits = [wait(rpc, run.run_id, "Answer", after_sequence=run.last_sequence) for _ in range(3)]
    sent = await rpc.send(run.run_id, event("Answer", order="7", yes=True))
    assert sent.delivered == 1
    assert {(await found).entry.sequence for found in waits} == {sent.sequence}
    assert (await rpc.ended(run.run_id)).status == types.RUN_STATUS_COMPLETED


async def test_a_prompt_is_written_once_for_each_waiter_id(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    question = event("Question", text="a note?")
    first = wait(rpc, run.run_id, "Note", waiter_event=question, waiter_id="mine")
    await asked(rpc, run.run_id, 2)
    second = wait(rpc, run.run_id, "Note", waiter_event=question, waiter_id="mine")
    third = wait(rpc, run.run_id, "Note", waiter_event=event("Question", text="other"), waiter_id="other")
    await asked(rpc, run.run_id, 3)
    assert await prompts(rpc, run.run_id) == ["Ship tea?", "a note?", "other"]
    sent = await rpc.send(run.run_id, event("Note", n=1))
    for waiting in (first, third):
        assert (await waiting).entry.sequence == sent.sequence
    second.cancel()
    # The id stays taken after the answer: a repeat of a wait that got lost asks nobody twice.
    found = await wait(
        rpc, run.run_id, "Note", waiter_event=question, waiter_id="mine", after_sequence=0, timeout=Duration(seconds=9)
    )
    assert found.entry.sequence == sent.sequence
    assert len(await prompts(rpc, run.run_id)) == 3


async def test_without_a_waiter_id_type_and_requirements_make_one(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    for required, expected in (({"n": 1}, 2), ({"n": 1}, 2), ({"n": 2}, 3)):
        found = await wait(
            rpc,
            run.run_id,
            "Note",
            waiter_event=event("Question", text="a note?"),
            requirements=payload(required),
            timeout=Duration(),
        )
        assert found.timed_out
        assert len(await prompts(rpc, run.run_id)) == expected


async def test_a_prompt_is_once_also_over_a_restart(tmp_path: Any) -> None:
    for _ in range(2):
        async with serving(data=str(tmp_path)) as rpc:
            run = await rpc.start(
                "ask",
                {"item": "tea"},
                run_id="mine",
                run_id_conflict_policy=runs.RUN_ID_CONFLICT_POLICY_USE_EXISTING,
            )
            await rpc.asked(run.run_id)
            found = await wait(
                rpc,
                run.run_id,
                "Note",
                waiter_id="w",
                waiter_event=event("Question", text="a note?"),
                timeout=Duration(),
            )
            assert found.timed_out
            assert await prompts(rpc, run.run_id) == ["Ship tea?", "a note?"]


async def test_the_end_of_the_run_ends_the_wait(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    waiting = wait(rpc, run.run_id, "Note", after_sequence=run.last_sequence)
    ended = await rpc.answer(run.run_id)
    found = await waiting
    assert (found.run_ended, found.timed_out) == (True, False)
    assert found.sequence == ended.last_sequence
    assert not found.HasField("entry")
    # It is the same after the end, and a prompt asks nobody then.
    found = await wait(rpc, run.run_id, "Note", waiter_event=event("Question", text="anyone?"))
    assert found.run_ended
    assert await prompts(rpc, run.run_id) == ["Ship tea?"]
    found = await wait(rpc, run.run_id, "Answer", after_sequence=0)
    assert found.entry.type == "Answer"


async def test_a_timeout_says_how_far_it_looked(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    await rpc.send(run.run_id, event("Note", n=1))
    pong = await wait(rpc, run.run_id, "Pong", after_sequence=0, timeout=Duration(seconds=20))
    found = await wait(rpc, run.run_id, "Pong", after_sequence=pong.sequence, timeout=Duration(nanos=30_000_000))
    assert found.timed_out
    assert found.sequence == (await rpc.get(run.run_id)).last_sequence


async def test_a_bad_prompt_writes_nothing(rpc: Rpc) -> None:
    run = await rpc.asking("tea")
    waiting = wait(rpc, run.run_id, "Note", waiter_event=event("Question"))
    await asyncio.wait([waiting])
    assert waiting.exception() is not None
    assert await prompts(rpc, run.run_id) == ["Ship tea?"]


async def test_the_terminal_event_can_be_waited_for(rpc: Rpc) -> None:
    run = await rpc.start("count", {"n": 2}, wait=Duration(seconds=20))
    found = await wait(rpc, run.run_id, "StopEvent", after_sequence=0)
    assert found.entry.kind == types.ENTRY_KIND_TERMINAL
