"""What `run` gives a step whose run is a run of its own: await it, read it, send to it, cancel it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.llamaindex.child_flows import (
    BEGUN,
    Answer,
    CodeError,
    Given,
    Inner,
    Note,
    OddError,
    Outer,
    Question,
    came,
    children,
    inner,
    until,
    until_asked,
)
from workflows import Context, Workflow, step
from workflows.errors import ContextStateError, WorkflowCancelledByUser, WorkflowRuntimeError, WorkflowTimeoutError
from workflows.events import (
    Event,
    HumanResponseEvent,
    StartEvent,
    StopEvent,
    UnreconstructedException,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
)
from workflows.retry_policy import ConstantDelayRetryPolicy

from stepwire.client import RunStatus
from stepwire.server.testing import serve

Act = Callable[[Context], Any]


@pytest.fixture(autouse=True)
def fresh() -> None:
    BEGUN.clear()


# -- its end ----------------------------------------------------------------------------------------------------------


async def failure(handler: Any) -> BaseException:
    """Return what awaiting a handler raises."""
    (error,) = await asyncio.gather(handler, return_exceptions=True)
    assert isinstance(error, Exception)
    assert handler.exception() is error
    assert handler.get_stop_event() is None
    return error


def test_a_failed_child_raises_the_exception_of_its_step() -> None:
    async def act(ctx: Context) -> Any:
        own = await failure(inner.run(text="a", how="fail"))
        division = await failure(inner.run(how="fail to divide"))
        other = await failure(inner.run(text="b", how="fail locally"))
        assert isinstance(other, UnreconstructedException)
        assert other.original_type == "LocalError"
        code = await failure(inner.run(how="fail with a code"))
        assert isinstance(code, CodeError)
        return [type(own).__name__, str(own), type(division).__name__, str(other), str(code)]

    result, found = came(act)
    assert result == ["OddError", "no a", "ZeroDivisionError", "no b", "code 7"]
    assert [each.status for each in found] == [RunStatus.FAILED] * 4


def test_a_failed_child_that_nothing_catches_fails_the_step() -> None:
    async def act(ctx: Context) -> Any:
        return await inner.run(text="a", how="fail")

    with serve(outer=Outer(act), inner=inner) as server, server.client() as client:
        failed = client.start_run("outer").wait(timeout=60).outcome.failure
        assert (failed.step, failed.error_type, failed.message) == ("go", "OddError", "no a")


def test_a_child_has_a_time_limit_of_its_own() -> None:
    slow = Inner(timeout=0.05)

    async def act(ctx: Context) -> Any:
        try:
            await slow.run(how="hang")
        except WorkflowTimeoutError as error:
            return str(error)

    result, (child,) = came(act, slow=slow)
    assert "Operation timed out after 0.05 seconds" in result
    assert child.status is RunStatus.TIMED_OUT


def test_a_step_cancels_a_child() -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(how="hang")
        async for event in handler.stream_events():
            raise AssertionError(event)
        return None

    async def cancels(ctx: Context) -> Any:
        handler = inner.run(how="hang")
        await handler.cancel_run(timeout=60)
        assert handler.is_done()
        assert handler.cancelled()
        assert isinstance(handler.get_stop_event(), WorkflowCancelledEvent)
        with pytest.raises(
            WorkflowCancelledByUser, match=rf"run {handler.run_id} of .*Inner was cancelled: its parent .* cancelled it"
        ):
            await handler
        return [type(event).__name__ async for event in handler.stream_events()]

    result, (child,) = came(cancels)
    assert result == ["WorkflowCancelledEvent"]
    assert child.status is RunStatus.CANCELLED

    with serve(outer=Outer(act), inner=inner) as server, server.client() as client:
        run = client.start_run("outer")
        found = until(lambda: children(client, run), "the child")
        run.cancel()
        assert client.run(found[0].run_id).wait(timeout=60).status is RunStatus.CANCELLED


def test_a_child_that_is_not_awaited_goes_on_until_the_outer_run_ends() -> None:
    async def act(ctx: Context) -> Any:
        first, second = inner.run(text="a"), inner.run(how="hang")
        await first
        return second.run_id

    with serve(outer=Outer(act), inner=inner) as server, server.client() as client:
        run = client.start_run("outer")
        hanging = client.run(run.result(timeout=60))
        assert hanging.wait(timeout=60).status is RunStatus.CANCELLED


def test_several_at_once() -> None:
    async def act(ctx: Context) -> Any:
        handlers = [inner.run(text=text) for text in ("a", "b", "a")]
        async with asyncio.TaskGroup() as group:
            more = group.create_task(wait(inner.run(text="c")))
        return [*await asyncio.gather(*handlers), more.result(), len({each.run_id for each in handlers})]

    async def wait(handler: Any) -> Any:
        return await handler

    result, found = came(act)
    assert result == ["A", "B", "A", "C", 3]
    assert len(found) == 4


def test_after_a_kill_a_step_finds_its_children_again(tmp_path: Path) -> None:
    async def act(ctx: Context) -> Any:
        first = await asyncio.gather(*(inner.run(text=text) for text in ("a", "b", "a")))
        answer = await ctx.wait_for_event(Answer, Question(text="?"))
        return [*first, await inner.run(text="c"), answer.text]

    with serve(outer=Outer(act), inner=inner, data=tmp_path) as server, server.client() as client:
        run = client.start_run("outer")
        until_asked(run, "?")
        server.restart(kill=True)
        run.context.send_event(("Answer", {"text": "yes"}))
        assert run.result(timeout=60) == ["A", "B", "A", "C", "yes"]
        assert len(children(client, run)) == 4
    assert BEGUN == {"outer": 2, "inner a": 2, "inner b": 1, "inner c": 1}


# -- its stream -------------------------------------------------------------------------------------------------------


def test_its_events_have_their_classes() -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="note")
        seen: list[Any] = []
        async for event in handler.stream_events():
            seen.append(event)
            if len(seen) == 2:
                break
        async for event in handler.stream_events():
            seen.append(event)
        assert [type(each) for each in seen] == [Note, Note, Note, StopEvent]
        assert seen[1] == Note(text="a 1", at=(1, 1))
        assert handler.get_stop_event() is seen[-1]
        with pytest.raises(WorkflowRuntimeError, match="already been consumed"):
            await anext(handler.stream_events())
        return await handler

    assert came(act)[0] == "A"


def test_an_event_that_its_class_does_not_read_is_a_plain_one() -> None:
    async def act(ctx: Context) -> Any:
        first, _ = [event async for event in inner.run(text="a", how="lossy").stream_events()]
        return type(first) is Event, first.n

    assert came(act)[0] == [True, "number 1"]


def test_the_stream_of_a_failed_child_ends_with_the_failure() -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="fail")
        (event,) = [event async for event in handler.stream_events()]
        assert isinstance(event, WorkflowFailedEvent)
        assert isinstance(event.exception, OddError)
        return event.step_name

    assert came(act)[0] == "go"


# -- what is sent to it -----------------------------------------------------------------------------------------------


async def forwarding(ctx: Context) -> Any:
    """Ask what the inner workflow asks, and pass the answers on."""
    handler = inner.run(text="a", how="ask")
    async for event in handler.stream_events():
        if isinstance(event, Question):
            answer = await ctx.wait_for_event(Answer, event, f"forwarded {event.text}")
            handler.ctx.send_event(answer)
            BEGUN[f"forwarded {event.text}"] += 1
    return await handler


def test_a_step_forwards_answers_over_kills(tmp_path: Path) -> None:
    with serve(outer=Outer(forwarding), inner=inner, data=tmp_path) as server, server.client() as client:
        run = client.start_run("outer")
        for turn, text in enumerate(("first", "second")):
            until_asked(run, f"a {turn}")
            server.restart(kill=True)
            run.context.send_event(("Answer", {"text": text}))
        assert run.result(timeout=60) == ["first", "second"]
        (child,) = children(client, run)
        received = [entry for entry in server.history(child.run_id) if entry.type == "Answer"]
        assert len(received) == 2
    assert BEGUN["forwarded a 0"] >= 2


def test_a_retry_of_the_step_sends_nothing_again(tmp_path: Path) -> None:
    """The child lives on, and would take a repeated answer for the answer to its next question."""

    class Retried(Outer):
        @step(retry_policy=ConstantDelayRetryPolicy(delay=0.01, maximum_attempts=3))
        async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await self.act(ctx))

    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="ask")
        async for event in handler.stream_events():
            if isinstance(event, Question):
                answer = await ctx.wait_for_event(Answer, event, f"forwarded {event.text}")
                handler.ctx.send_event(answer)
                BEGUN[event.text] += 1
                if BEGUN[event.text] == 1:
                    raise OddError("again")
        return await handler

    with serve(outer=Retried(act), inner=inner, data=tmp_path) as server, server.client() as client:
        run = client.start_run("outer")
        for turn, text in enumerate(("first", "second")):
            until_asked(run, f"a {turn}")
            run.context.send_event(("Answer", {"text": text}))
        assert run.result(timeout=60) == ["first", "second"]
        assert len(children(client, run)) == 1
    assert BEGUN == {"inner a": 1, "a 0": 3, "a 1": 2}


class Noted(HumanResponseEvent):
    text: str


class Taking(Workflow):
    """Ends with the first answer that comes, of either kind."""

    @step
    async def ask(self, ev: Given) -> Question:
        return Question(text=ev.text)

    @step
    async def answered(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)

    @step
    async def noted(self, ev: Noted) -> StopEvent:
        return StopEvent(result=f"noted {ev.text}")


def test_what_is_sent_waits_until_the_child_begins() -> None:
    taking = Taking()

    async def act(ctx: Context) -> Any:
        handlers = [taking.run(text=str(number)) for number in range(3)]
        handlers[0].ctx.send_event(Answer(text="a"))
        handlers[1].ctx.send_event(Answer(text="b"), step="answered")
        await handlers[2].send_event(Noted(text="c"))
        with pytest.raises(WorkflowRuntimeError, match="does not accept"):
            handlers[2].ctx.send_event(Answer(text="d"), step="noted")
        return await asyncio.gather(*handlers)

    class Bounded(Outer):
        max_children = 1

    with serve(outer=Bounded(act), taking=taking) as server, server.client() as client:
        run = client.start_run("outer")
        assert run.result(timeout=60) == ["a", "b", "noted c"]
        assert len(children(client, run)) == 3


def test_what_a_child_cannot_take_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    class Unknown(Event):
        pass

    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="ask")
        with pytest.raises(WorkflowRuntimeError, match="takes an Event, not str"):
            handler.ctx.send_event("text")
        handler.ctx.send_event(Unknown())
        async for event in handler.stream_events():
            if isinstance(event, Question):
                handler.ctx.send_event(Answer(text=event.text))
        handler.ctx.send_event(Answer(text="late"))
        return await handler

    with caplog.at_level(logging.WARNING, "stepwire"):
        assert came(act)[0] == ["a 0", "a 1"]
    assert any("is dropped" in each and "Unknown" in each for each in caplog.messages)


# -- its context ------------------------------------------------------------------------------------------------------


def test_the_context_of_a_child() -> None:
    async def act(ctx: Context) -> Any:
        handler = inner.run(text="a", how="remember")
        mine = handler.ctx
        assert mine.is_running
        with pytest.raises(ContextStateError, match="already running"):
            inner.run(text="b", how="remember", ctx=mine)
        with pytest.raises(WorkflowRuntimeError, match="is not complete"):
            mine.get_result()
        await handler
        assert not mine.is_running
        assert mine.get_result() == ["a"]
        for read in (lambda: mine.store, mine.to_dict):
            with pytest.raises(WorkflowRuntimeError, match="is a run of its own on the server"):
                read()
        second = inner.run(text="b", how="remember", ctx=mine)
        assert second.ctx is mine
        assert await second == ["a", "b"]
        with pytest.raises(WorkflowRuntimeError, match="cannot begin with its state"):
            inner.run(start_event=Other(text="c", how="remember"), ctx=mine)
        return await inner.run(text="c", how="remember", ctx=second.ctx)

    class Other(Given):
        pass

    result, found = came(act)
    assert result == ["a", "b", "c"]
    assert len(found) == 3
    assert [each.forked_from and each.forked_from[0] for each in found] == [None, found[0].run_id, found[1].run_id]
