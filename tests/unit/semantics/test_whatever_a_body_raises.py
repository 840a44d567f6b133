"""Whatever the body of a step raises ends its attempt and is reported; nothing that unwinds a body is an Exception."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun
from tests.unit.semantics.test_children import Children

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    Workflow,
    catch_error,
    step,
)
from stepwire.workflow.context.blocking import BlockingContext, BlockingStore
from stepwire.workflow.errors import DeadAttemptError, StepError


class Panic(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise Panic("no text")


class Answer(HumanResponseEvent):
    pass


RAISED: list[type[BaseException] | BaseException] = [
    ValueError,
    Panic,
    Mute,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
    StopIteration,
    StopAsyncIteration,
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    DeadAttemptError,
    BaseExceptionGroup("all", [Panic(), KeyboardInterrupt()]),
    ExceptionGroup("all", [ValueError()]),
]


class Raises(Workflow):
    def __init__(self, error: Any) -> None:
        super().__init__(timeout=None)
        self.error = error

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        raise self.error


class RaisesInAThread(Raises):
    @step
    def work(self, ev: StartEvent) -> StopEvent:
        raise self.error


@pytest.mark.parametrize("error", RAISED, ids=lambda error: getattr(error, "__name__", type(error).__name__))
@pytest.mark.parametrize("kind", [Raises, RaisesInAThread])
async def test_it_ends_the_attempt_and_is_reported(kind: type[Raises], error: Any) -> None:
    run = DurableRun(kind(error)).start()
    outcome = await run.ended()
    assert outcome.status == "failed"
    ((name, reported),) = run.reported
    assert name == "work"
    raised = error if isinstance(error, type) else type(error)
    # A coroutine and a future cannot carry StopIteration, and asyncio has a CancelledError of its own.
    assert isinstance(reported, raised | RuntimeError | asyncio.CancelledError)
    assert not run.broker.executions


@pytest.mark.parametrize("kind", [Raises, RaisesInAThread])
async def test_in_process_it_fails_the_run(kind: type[Raises]) -> None:
    for error in (Panic("out of bounds"), Mute(), GeneratorExit(), SystemExit(3)):
        with pytest.raises(StepError) as failed:
            await kind(error).run()
        assert failed.value.__cause__ is error


async def cancels_itself(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def is_cancelled_by_its_child(task: asyncio.Task[Any]) -> None:
    await asyncio.create_task(cancels_itself(task))


async def is_cancelled_by_its_timer(task: asyncio.Task[Any]) -> None:
    asyncio.get_running_loop().call_soon(task.cancel)


async def is_cancelled_by_its_thread(task: asyncio.Task[Any]) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: loop.call_soon_threadsafe(task.cancel))


@pytest.mark.parametrize(
    "how", [cancels_itself, is_cancelled_by_its_child, is_cancelled_by_its_timer, is_cancelled_by_its_thread]
)
async def test_a_step_that_cancels_itself_fails_and_is_not_taken_for_lost(how: Any) -> None:
    class Work(Workflow):
        attempts = 0

        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            type(self).attempts += 1
            task = asyncio.current_task()
            assert task is not None
            await how(task)
            await asyncio.Event().wait()
            return StopEvent()

    run = DurableRun(Work()).start()
    outcome = await run.ended()
    assert (outcome.status, outcome.event.error_type, Work.attempts) == ("failed", "CancelledError", 1)
    with pytest.raises(StepError) as failed:
        await Work().run()
    assert isinstance(failed.value.__cause__, asyncio.CancelledError)


async def test_a_panic_of_a_child_task_ends_the_attempt() -> None:
    class Group(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            async def child() -> None:
                raise Panic("x")

            async with asyncio.TaskGroup() as group:
                group.create_task(child())
            return StopEvent()

    run = DurableRun(Group()).start()
    assert (await run.ended()).status == "failed"
    assert isinstance(run.reported[0][1], BaseExceptionGroup)


async def test_a_panic_is_retried_and_caught() -> None:
    class Rescued(Workflow):
        tries = 0

        @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=3, delay=0))
        async def work(self, ev: StartEvent) -> StopEvent:
            type(self).tries += 1
            raise Panic("x")

        @catch_error
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=(ev.error_type, ev.attempts))

    assert await Rescued().run() == ("Panic", Rescued.tries)
    assert Rescued.tries > 1


async def test_a_retry_policy_that_panics_fails_the_run() -> None:
    class Policy:
        def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
            raise Panic("policy")

    class Work(Workflow):
        @step(retry_policy=Policy())
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError

    run = DurableRun(Work()).start()
    assert (await run.ended()).status == "failed"


async def test_an_event_that_panics_when_it_is_saved_fails_its_step() -> None:
    class Odd(Event):
        n: int = 0

        def __getattribute__(self, name: str) -> Any:
            if name == "__pydantic_extra__":
                raise Panic("x")
            return super().__getattribute__(name)

    class Work(Workflow):
        types = (Odd,)

        @step
        async def work(self, ev: StartEvent) -> Odd | StopEvent:
            return Odd()

        @step
        async def take(self, ev: Odd) -> StopEvent:
            return StopEvent()

    run = DurableRun(Work()).start()
    assert (await run.ended()).status == "failed"


# -- what the engine uses to unwind a body ----------------------------------------------------------------------------


def test_what_unwinds_a_body_is_no_exception() -> None:
    assert not issubclass(DeadAttemptError, Exception)


@pytest.mark.parametrize("how", ["freeze", "cancel"])
@pytest.mark.parametrize("call", ["wait_for_event", "sleep", "store.get", "send"])
async def test_a_sync_step_takes_its_end_for_no_failure(how: str, call: str) -> None:
    began, goes_on, over = threading.Event(), threading.Event(), threading.Event()
    acted: list[str] = []

    class Work(Workflow):
        @step
        def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                began.set()
                if call == "wait_for_event":
                    ctx.blocking.wait_for_event(Answer)
                elif call == "sleep":
                    ctx.blocking.sleep(1000)
                else:
                    goes_on.wait(60)
                    ctx.blocking.store.set("a", 1) if call == "store.get" else ctx.send_event(Answer())
            except Exception:  # noqa: BLE001 - as an author may write
                acted.append("refunded")
            finally:
                over.set()
            return StopEvent()

        @step
        async def never(self, ev: Answer) -> StopEvent:
            return StopEvent()

    run = DurableRun(Work()).start()
    await asyncio.to_thread(began.wait, 60)
    if call in ("wait_for_event", "sleep"):
        await run.until(lambda run: run.kept("w"))
    if how == "freeze":
        run.release()
    else:
        run.cancel()
    goes_on.set()
    assert await asyncio.to_thread(over.wait, 60)
    assert acted == []


def edit_state(ctx: Context, ev: Event) -> None:
    with ctx.blocking.store.edit_state() as state:
        state["a"] = 1


CALLS: dict[str, Callable[[Context, Event], Any]] = {
    "send_event": lambda ctx, ev: ctx.send_event(Answer()),
    "write_event_to_stream": lambda ctx, ev: ctx.write_event_to_stream(Answer()),
    "collect_events": lambda ctx, ev: ctx.collect_events(ev, [StartEvent]),
    "wait_for_event": lambda ctx, ev: ctx.blocking.wait_for_event(Answer),
    "sleep": lambda ctx, ev: ctx.blocking.sleep(0.001),
    "start_run": lambda ctx, ev: ctx.blocking.start_run("work"),
    "set": lambda ctx, ev: ctx.blocking.store.set("a", 1),
    "set_state": lambda ctx, ev: ctx.blocking.store.set_state(DictState(a=1)),
    "clear": lambda ctx, ev: ctx.blocking.store.clear(),
    "edit_state": edit_state,
    "get": lambda ctx, ev: ctx.blocking.store.get("a", default=None),
    "get_state": lambda ctx, ev: ctx.blocking.store.get_state(),
}


@pytest.mark.parametrize("how", ["released", "crashed", "cancelled"])
async def test_each_call_of_a_sync_step_that_was_abandoned_raises_no_exception_and_changes_nothing(how: str) -> None:
    twins = {name for kind in (BlockingContext, BlockingStore) for name in vars(kind) if not name.startswith("_")}
    assert twins <= CALLS.keys()
    began, goes_on, over = threading.Event(), threading.Event(), threading.Event()
    told: dict[str, Any] = {}

    class Work(Workflow):
        @step
        def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            began.set()
            goes_on.wait(60)
            for name, call in CALLS.items():
                try:
                    told[name] = call(ctx, ev)
                except BaseException as error:  # noqa: BLE001 - noted
                    told[name] = type(error)
            over.set()
            return StopEvent()

        @step
        async def never(self, ev: Answer) -> StopEvent:
            return StopEvent()

    run = DurableRun(Work(), children=Children()).start()
    await asyncio.to_thread(began.wait, 60)
    {"released": run.release, "crashed": run.crash, "cancelled": run.cancel}[how]()
    goes_on.set()
    assert await asyncio.to_thread(over.wait, 60)
    assert told == dict.fromkeys(CALLS, DeadAttemptError)
