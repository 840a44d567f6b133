"""What a step sends to a child comes there once and in order, whatever crashes or fails in between."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.integration.children.family import (
    BEGUN,
    Answer,
    Given,
    Inner,
    Outer,
    Question,
    children_of,
    in_memory,
    runs_of,
    until,
)

from stepwire.client import RunStatus
from stepwire.server.runs.errors import StoreDownError
from stepwire.server.runs.family.calls import LocalCalls
from stepwire.server.testing import serve
from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.errors import EventTooLargeError
from stepwire.workflow.hosting import event_to_json


class Gathering(Workflow):
    """Collects texts until one is `end`."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def begin(self, ctx: Context, ev: Given) -> Question:
        """Ask for them."""
        return Question(text=ev.text)

    @step(num_workers=1)
    async def take(self, ctx: Context, ev: Answer) -> StopEvent | None:
        """Take one."""
        texts = [*await ctx.store.get("texts", []), ev.text]
        await ctx.store.set("texts", texts)
        return StopEvent(result=texts) if ev.text == "end" else None


class Waiting(Event):
    """Ends the wait of the step that sends."""


def send(handler: Any, text: str, step: str = "") -> None:
    """Send a text to a child."""
    handler.send("Answer", event_to_json(Answer(text=text)), step)


async def sends(outer: Outer, ctx: Context, ev: Given) -> Any:
    """Send the same twice, wait, and send more."""
    handler: Any = ctx.start_run("Gathering", text="?")
    for text in ("a", "b", "a"):
        send(handler, text)
    answer = await ctx.wait_for_event(Answer, Question(text="go on"), timeout=None)
    send(handler, answer.text)
    send(handler, "end", "take")
    return await handler


def test_each_is_sent_once_over_kills(tmp_path: Path) -> None:
    with serve(Outer(sends), Gathering, data=tmp_path) as server, server.client() as client:
        run = client.start_run("Outer")
        until(lambda: run.info().status is RunStatus.WAITING, "the question")
        for _ in range(2):
            server.restart(kill=True)
        run.context.send_event(("Answer", {"text": "c"}))
        assert run.result() == ["a", "b", "a", "c", "end"]
        (child,) = children_of(client, run.run_id)
        assert len([entry for entry in server.history(child.run_id) if entry.type == "Answer"]) == 5
    assert BEGUN["outer"] == 2


def test_what_a_crash_kept_back_is_sent_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Outer(sends), Gathering, data=tmp_path) as server, server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(type(runs_of(server).family), "send", lambda *_: None)
            run = client.start_run("Outer")
            until(lambda: run.info().pending_waiters, "the question")
            (child,) = until(lambda: children_of(client, run.run_id), "the child")
            server.kill()
        server.start()
        state = client.run(child.run_id).context.store
        until(lambda: state.get("texts", []) == ["a", "b", "a"], "the texts")
        run.context.send_event(("Answer", {"text": "c"}))
        assert run.result() == ["a", "b", "a", "c", "end"]


def test_what_was_sent_and_is_not_known_to_be_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has it, and the parent crashes before it is durable that it has."""
    sent: list[str] = []
    right = LocalCalls.send

    async def and_never_returns(self: LocalCalls, *args: Any) -> None:
        await right(self, *args)
        sent.append(args[-1])
        await asyncio.Event().wait()

    with serve(Outer(sends), Gathering, data=tmp_path) as server, server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(LocalCalls, "send", and_never_returns)
            run = client.start_run("Outer")
            until(lambda: sent and run.info().pending_waiters, "the first text")
            server.kill()
        server.start()
        run.context.send_event(("Answer", {"text": "c"}))
        assert run.result() == ["a", "b", "a", "c", "end"]
    assert sent == ["stepwire-parent/1"]


def test_a_store_that_is_down_for_a_while_delays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([StoreDownError("not now")] * 2)
    right = LocalCalls.send

    async def fails(self: LocalCalls, *args: Any) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        await right(self, *args)

    monkeypatch.setattr(LocalCalls, "send", fails)
    with serve(Outer(sends), Gathering) as server, server.client() as client:
        run = client.start_run("Outer")
        until(lambda: run.info().pending_waiters, "the question")
        run.context.send_event(("Answer", {"text": "c"}))
        assert run.result() == ["a", "b", "a", "c", "end"]


def test_what_a_child_refuses_is_logged_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler: Any = ctx.start_run("Gathering", text="?")
        handler.send("Unheard", b"{}")
        handler.send("Answer", b'{"other": 1}')
        with pytest.raises(EventTooLargeError):
            send(handler, "x" * 4_000_000)
        send(handler, "end")
        return await handler

    caplog.set_level(logging.WARNING, "stepwire.runs")
    with serve(Outer(act), Gathering) as server, server.client() as client:
        assert client.start_run("Outer").result() == ["end"]
    said = [each for each in caplog.messages if "does not take" in each]
    assert ["Unheard" in said[0], "Answer" in said[1], len(said)] == [True, True, 2]


def test_a_run_stays_in_memory_until_it_is_sent_and_leaves_then(tmp_path: Path) -> None:
    settings = {"idle_after": 0.01}
    with serve(Outer(sends), Gathering, data=tmp_path, settings=settings) as server, server.client() as client:
        run = client.start_run("Outer")
        (child,) = until(lambda: children_of(client, run.run_id), "the child")
        until(lambda: run.run_id not in in_memory(server), "the release")
        assert len([entry for entry in server.history(child.run_id) if entry.type == "Answer"]) == 3
        run.context.send_event(("Answer", {"text": "c"}))
        assert run.result() == ["a", "b", "a", "c", "end"]


def test_what_comes_after_the_end_is_dropped() -> None:
    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler: Any = ctx.start_run("Gathering", text="?")
        send(handler, "end")
        send(handler, "late")
        result = await handler
        send(handler, "too late")
        return result

    with serve(Outer(act), Gathering) as server, server.client() as client:
        assert client.start_run("Outer").result() == ["end"]


def test_it_does_not_go_to_a_child_of_the_child() -> None:
    """Answers of callers are passed down to whoever asks; a step means the run that it names."""

    class Middle(Workflow):
        @step
        async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.start_run("Inner", text="low", how="ask")
            await ctx.wait_for_event(Waiting, timeout=None)
            return StopEvent(result="over")

    async def act(outer: Outer, ctx: Context, ev: Given) -> Any:
        handler: Any = ctx.start_run("Middle")
        await ctx.wait_for_event(Answer, Question(text="go on"), timeout=None)
        send(handler, "low")
        handler.send("Waiting", b"{}")
        return await handler

    with serve(Outer(act), Middle, Inner(timeout=None)) as server, server.client() as client:
        run = client.start_run("Outer")
        (middle,) = until(lambda: children_of(client, run.run_id), "the child")
        (low,) = until(
            lambda: [each for each in children_of(client, middle.run_id) if each.pending_waiters], "the question"
        )
        run.context.send_event(("Answer", {"text": "go"}))
        assert run.result() == "over"
        assert client.run(low.run_id).wait(timeout=60).status is RunStatus.CANCELLED
