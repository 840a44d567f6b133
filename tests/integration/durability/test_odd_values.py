"""What a step may come up with and no record could hold: broken text, endless numbers, times after the last year."""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from stepwire.client import RunStatus, SyncClient
from stepwire.client.models import Failure, RunInfo
from stepwire.server.testing import serve
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

BROKEN = "a\ud800b"
"""As os.listdir returns a file name of another encoding."""
LONG = 10**5000
ID = UUID("f0a1c2d3-0000-4000-8000-000000000001")


class Question(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    n: int


class Note(Event):
    pass


class FarAway:
    """A retry policy that waits for longer than there are dates."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def next(self, elapsed: float, attempts: int, error: Exception) -> float:
        return self._seconds


async def _set(ctx: Context) -> None:
    await ctx.store.set(BROKEN, 1)


async def _edit(ctx: Context) -> None:
    async with ctx.store.edit_state() as state:
        state[BROKEN] = 1


async def _wait(ctx: Context) -> None:
    await ctx.wait_for_event(Answer, waiter_id=BROKEN)


async def _collect(ctx: Context) -> None:
    ctx.collect_events(Note(), [Note, Note], buffer_id=BROKEN)


async def _label(ctx: Context) -> None:
    await ctx.start_run("odd", case="nothing", labels={"name": BROKEN})


async def _fail(ctx: Context) -> None:
    raise ValueError(BROKEN)


async def _fail_with_note(ctx: Context) -> None:
    error = LookupError("seen in its traceback only")
    error.add_note(BROKEN)
    raise error


async def _send_to(ctx: Context) -> None:
    ctx.send_event(Note(), step=BROKEN)


async def _write_long(ctx: Context) -> None:
    ctx.write_event_to_stream(Note(n=LONG))


async def _start_with_long(ctx: Context) -> None:
    await ctx.start_run("odd", case="nothing", n=LONG)


async def _set_long(ctx: Context) -> None:
    await ctx.store.set("n", [LONG])


async def _sleep_nan(ctx: Context) -> None:
    await ctx.sleep(math.nan)


async def _nameless(ctx: Context) -> None:
    await ctx.wait_for_event(Answer, waiter_id=object())  # type: ignore[arg-type]


FAIL: dict[str, tuple[Any, str]] = {
    "set": (_set, "SerializationError"),
    "edit": (_edit, "SerializationError"),
    "wait": (_wait, "WorkflowRuntimeError"),
    "collect": (_collect, "WorkflowRuntimeError"),
    "label": (_label, "WorkflowRuntimeError"),
    "fail": (_fail, "ValueError"),
    "fail_with_note": (_fail_with_note, "LookupError"),
    "send_to": (_send_to, "UnknownStepError"),
    "write_long": (_write_long, "SerializationError"),
    "start_with_long": (_start_with_long, "WorkflowRuntimeError"),
    "set_long": (_set_long, "SerializationError"),
    "sleep_nan": (_sleep_nan, "WorkflowRuntimeError"),
    "nameless": (_nameless, "WorkflowRuntimeError"),
}


async def _answered(ctx: Context, **options: Any) -> int:
    options = {"timeout": None, **options}
    return (await ctx.wait_for_event(Answer, waiter_event=Question(), **options)).n


async def _sleep_long(ctx: Context) -> int:
    await ctx.sleep(1e300)
    return 0


WAITS: dict[str, Any] = {
    "far": lambda ctx: _answered(ctx, timeout=1e12),
    "farther": lambda ctx: _answered(ctx, timeout=1e300),
    "never": lambda ctx: _answered(ctx, timeout=math.inf),
    "number": lambda ctx: _answered(ctx, waiter_id=5),
    "uuid": lambda ctx: _answered(ctx, waiter_id=ID),
}


class Odd(Workflow):
    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.case in WAITS:
            first = await WAITS[ev.case](ctx)
            await ctx.wait_for_event(Answer, requirements={"n": 2}, timeout=None)
            return StopEvent(result=first)
        if ev.case in FAIL:
            await FAIL[ev.case][0](ctx)
        if ev.case == "sleep":
            await _sleep_long(ctx)
        return StopEvent(result=ev.case)

    @step
    async def note(self, ev: Note) -> None:
        """Take notes, so that they may be sent."""

    @step
    async def notes(self, ev: StartEvent) -> Note | None:
        return None


class Later(Workflow):
    @step(retry_policy=FarAway(1e12))
    async def go(self, ev: StartEvent) -> StopEvent:
        raise ValueError("try again in thirty thousand years")


class Never(Workflow):
    @step(retry_policy=FarAway(1e300))
    async def go(self, ev: StartEvent) -> StopEvent:
        raise ValueError("try again when nothing is left")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Capture no log of this text: pytest-xdist cannot send it to its controller."""
    caplog.set_level(logging.CRITICAL, logger="stepwire")


def _readings(client: SyncClient) -> dict[str, RunInfo]:
    """Read every run in every way that a client has."""
    for info in (listed := {info.run_id: info for info in client.list_runs(results=True)}).values():
        run = client.run(info.run_id)
        assert run.info().run_id == info.run_id
        list(run.events(follow=False, internal=True))
        run.context.store.get_state()
    return listed


def _failure(client: SyncClient, run_id: str) -> Failure:
    outcome = client.run(run_id).wait(60).outcome
    assert outcome is not None
    assert outcome.failure is not None
    return outcome.failure


def _until(client: SyncClient, event_type: str, run_id: str) -> None:
    with closing(client.run(run_id).events(types=[event_type])) as events:
        next(events)


def test_what_cannot_be_recorded_fails_its_step_at_the_call(tmp_path: Path) -> None:
    with serve(odd=Odd(timeout=None), data=tmp_path) as server, server.client() as client:
        for case in FAIL:
            client.start_run("odd", case=case, run_id=case)
        found = {case: _failure(client, case) for case in FAIL}
        assert {case: failure.error_type for case, failure in found.items()} == {case: FAIL[case][1] for case in FAIL}
        assert found["fail"].message == "a?b"
        assert "a?b" in found["fail_with_note"].traceback
        assert set(FAIL) <= set(_readings(client))
        server.restart()
        assert set(FAIL) <= set(_readings(client))


def test_what_never_falls_due_is_read_again_and_goes_on(tmp_path: Path) -> None:
    flows: dict[str, Any] = {"odd": Odd(timeout=None), "later": Later(timeout=None), "latest": Never(timeout=None)}
    with serve(**flows, data=tmp_path) as server, server.client() as client:
        for case in WAITS:
            client.start_run("odd", case=case, run_id=case)
            _until(client, "Question", case)
        client.start_run("odd", case="sleep", run_id="sleep")
        client.start_run("odd", case="far", run_id="limited", timeout=300e9)
        _until(client, "Question", "limited")
        retried = [client.start_run(name, run_id=name) for name in ("later", "latest")]
        for run in retried:
            while not any(delivery.next_attempt_at for delivery in run.info().active_deliveries):
                time.sleep(0.01)
        before = _readings(client)
        server.restart(kill=True)
        after = _readings(client)
        assert after.keys() == before.keys()
        assert {info.status for info in after.values()} <= {RunStatus.WAITING, RunStatus.RUNNING}
        for case in [*WAITS, "limited"]:
            client.run(case).context.send_event(("Answer", {"n": 1}))
        server.restart()
        for case in [*WAITS, "limited"]:
            run = client.run(case)
            run.context.send_event(("Answer", {"n": 2}))
            assert run.result(60) == 1
            assert [event.type for event in run.events(follow=False)].count("Question") == 1


@pytest.mark.parametrize("requirements", [{"n": {"b", "a"}}, {"n": [frozenset({"x", "y"})], "m": ({1, 2}, "t")}])
def test_the_name_of_a_wait_does_not_depend_on_the_order_of_a_set(requirements: dict[str, Any]) -> None:
    from stepwire.workflow.context.waiting import default_waiter_id

    name = default_waiter_id(Answer, requirements)
    assert name.endswith(("{'n': {'a', 'b'}}", "{'n': [frozenset({'x', 'y'})], 'm': ({1, 2}, 't')}"))
