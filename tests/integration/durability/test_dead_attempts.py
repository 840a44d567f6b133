"""Dead attempts: what an abandoned execution still calls raises, and changes nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.durability.flows import Answer, Flow, Note, Work, ask
from tests.integration.durability.support import asked, life, result, state_of, status, until
from tests.integration.rpc_serving import event, registry_of

from stepwire.server.testing import serve
from stepwire.v1 import run_service_pb2 as runs
from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    DictState,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.errors import DeadAttemptError


async def try_everything(ctx: Context[DictState]) -> list[str]:
    """Make every call that may be refused; return the names of those that did not raise DeadAttemptError."""
    alive: list[str] = []

    async def attempt(name: str, call: Callable[[], Any]) -> None:
        try:
            found = call()
            if isinstance(found, Awaitable):
                await found
        except DeadAttemptError:
            return
        alive.append(name)

    await attempt("write", lambda: ctx.write_event_to_stream(Note(text="dead")))
    await attempt("send", lambda: ctx.send_event(Work(n=13)))
    await attempt("collect", lambda: ctx.collect_events(Work(n=13), [Work]))
    await attempt("wait", lambda: ctx.wait_for_event(Answer, timeout=0.01))
    await attempt("sleep", lambda: ctx.sleep(0.01))
    await attempt("set", lambda: ctx.store.set("k", "dead"))
    await attempt("get", lambda: ctx.store.get("k", default=None))
    await attempt("get_state", lambda: ctx.store.get_state())
    return alive


class Late(Workflow):
    """The first attempt swallows its cancellation and goes on."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.at_work = threading.Event()
        self.alive: list[str] | None = None

    @step(timeout=3600, retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0))
    async def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        if ctx.step_info().attempt == 1:
            self.at_work.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.alive = await try_everything(ctx)
            return StopEvent(result="dead")
        await until(lambda: self.alive is not None)
        return StopEvent(result="alive")


def test_dead_attempts_of_a_timeout_change_nothing(tmp_path: Path) -> None:
    flow = Late()
    with serve(flow=flow, data=tmp_path) as server, server.client() as client:
        run = client.start_run("flow")
        assert flow.at_work.wait(60)
        server.skip(hours=1)  # the second attempt has an hour of its own
        assert run.result(60) == "alive"
        assert flow.alive == []
        entries = [entry for entry in server.history(run.run_id) if entry.kind != "step"]
        assert [entry.type for entry in entries] == ["StartEvent", "StopEvent"]


async def test_dead_attempts_of_a_release_change_nothing(tmp_path: Path) -> None:
    alive: list[list[str]] = []

    async def body(flow: Flow, ctx: Context[DictState]) -> int:
        if flow.attempts > 1:
            return await ask(flow, ctx)
        try:
            return await ask(flow, ctx)
        finally:
            alive.append(await try_everything(ctx))

    flow = Flow(body)
    async with life(tmp_path, flow, idle_after=0.05) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asked(rpc, run_id)
        await until(lambda: len(rpc.pool) == 0)
        await until(lambda: alive)
        assert alive == [[]]
        assert [entry.type for entry in await rpc.logged(run_id)] == ["StartEvent", "Prompt"]
        await rpc.send(run_id, event("Answer", n=3))
        assert result(await rpc.ended(run_id)) == 3


class Sync(Workflow):
    """A sync step that goes on after its run was cancelled."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)
        self.at_work, self.go_on, self.done = threading.Event(), threading.Event(), threading.Event()
        self.errors: list[type[BaseException]] = []

    @step
    def work(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        self.at_work.set()
        self.go_on.wait(60)
        for call in (lambda: ctx.write_event_to_stream(Note(text="dead")), lambda: ctx.send_event(Work())):
            try:
                call()
            except DeadAttemptError as error:
                self.errors.append(type(error))
        self.done.set()
        return StopEvent(result="dead")


async def test_dead_attempts_of_a_cancelled_run_change_nothing(tmp_path: Path) -> None:
    flow = Sync()
    async with life(tmp_path, registry_of(flow=flow)) as rpc:
        run_id = (await rpc.start("flow", {})).run_id
        await asyncio.to_thread(flow.at_work.wait, 60)
        await rpc.runs.CancelRun(runs.CancelRunRequest(run_id=run_id))
        flow.go_on.set()
        await asyncio.to_thread(flow.done.wait, 60)
        assert flow.errors == [DeadAttemptError] * 2
        assert [entry.type for entry in await rpc.logged(run_id)] == ["StartEvent", "WorkflowCancelledEvent"]
        assert status(await rpc.get(run_id)) == "CANCELLED"
        assert await state_of(rpc, run_id) == {}


class FirstOfTwo(Workflow):
    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        waits = [asyncio.create_task(ctx.wait_for_event(Answer, waiter_id=name, timeout=None)) for name in ("a", "b")]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return StopEvent(result=[wait.done() for wait in waits])


def test_what_ends_the_tasks_of_a_body_is_no_fault_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serve(FirstOfTwo, data=tmp_path) as server, server.client() as client:
        run = client.start_run("FirstOfTwo")
        while len(run.info().pending_waiters) < 2:
            pass
        server.restart()
        gc.collect()
    assert "never retrieved" not in caplog.text
