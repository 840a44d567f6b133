"""How failures, retries, recoveries, timeouts and cancellations are told."""

import asyncio
from typing import Any

from tests.llamaindex.beside.harness import Engine, flow, of, stream_of
from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import (
    ConstantDelayRetryPolicy,
    ExponentialBackoffRetryPolicy,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_policy,
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    wait_chain,
    wait_exponential_jitter,
    wait_fixed,
    wait_incrementing,
    wait_random,
)


class A(Event):
    n: int = 0


class B(Event):
    n: int = 0


def failing(policy: Any, errors: list[Exception]) -> type[Workflow]:
    """Return a workflow whose step raises these errors, one at each attempt, and tells what it was told of them."""

    class Flow(Workflow):
        def __init__(self) -> None:
            super().__init__(timeout=60)
            self.left = list(errors)
            self.told: list[Any] = []

        @step(retry_policy=policy)
        async def flaky(self, ctx: Context, ev: StartEvent) -> StopEvent:
            info = ctx.retry_info()
            self.told.append((info.retry_number, repr(info.last_exception), info.last_failed_at is not None))
            if self.left:
                raise self.left.pop(0)
            return StopEvent(result="well")

    return Flow


ERRORS = [ValueError("one"), KeyError("two"), OSError("three")]


def policies() -> dict[str, Any]:
    """Return retry policies of all kinds by name."""
    return {
        "none": None,
        "constant": ConstantDelayRetryPolicy(maximum_attempts=3, delay=0),
        "constant, enough": ConstantDelayRetryPolicy(maximum_attempts=4, delay=0),
        "exponential": ExponentialBackoffRetryPolicy(maximum_attempts=4, initial_delay=0.001, jitter=False),
        "composed": retry_policy(stop=stop_after_attempt(4), wait=wait_fixed(0)),
        "of a type": retry_policy(
            retry=retry_if_exception_type(ValueError), stop=stop_after_attempt(5), wait=wait_fixed(0)
        ),
        "not of a type": retry_policy(
            retry=retry_if_not_exception_type(OSError), stop=stop_after_attempt(5), wait=wait_fixed(0)
        ),
        "by message": retry_policy(
            retry=retry_if_exception_message(match="one|'two'"), stop=stop_after_attempt(5), wait=wait_fixed(0)
        ),
        "either": retry_policy(
            retry=retry_if_exception_type(ValueError) | retry_if_exception_type(KeyError),
            stop=stop_after_attempt(5),
            wait=wait_fixed(0),
        ),
        "both stops": retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2) & stop_after_delay(60)),
        "one of two stops": retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2) | stop_after_delay(60)),
        "before a delay": retry_policy(wait=wait_fixed(0.001), stop=stop_before_delay(60) | stop_after_attempt(3)),
        "chain": retry_policy(wait=wait_chain(wait_fixed(0), wait_fixed(0.001)), stop=stop_after_attempt(4)),
        "sum": retry_policy(wait=wait_fixed(0.001) + wait_incrementing(0, 0.001), stop=stop_after_attempt(4)),
        "random": retry_policy(wait=wait_random(0, 0.001), stop=stop_after_attempt(4)),
        "jitter": retry_policy(wait=wait_exponential_jitter(0.001, 0.002), stop=stop_after_attempt(4)),
    }


@flow
async def retry_policies(engine: Engine) -> Any:
    told: dict[str, Any] = {}
    for name, policy in policies().items():
        workflow = failing(policy, ERRORS)()
        told[name] = await of(engine(workflow).run()), workflow.told  # type: ignore[attr-defined]
    return told


@flow
async def a_policy_is_asked_with_the_number_of_failures(engine: Engine) -> Any:
    asked: list[Any] = []

    class Policy:
        def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
            asked.append((attempts, repr(error)))
            return 0 if attempts < 3 else None

    return await of(engine(failing(Policy(), ERRORS)()).run()), asked


@flow
async def seeds_of_jitter(engine: Engine) -> Any:
    """The seed of a retry is the same for the same run, step and number: so are the delays."""
    asked: list[Any] = []

    class Policy:
        def next(
            self, elapsed_time: float, attempts: int, error: Exception, *, seed: int | None = None
        ) -> float | None:
            asked.append((attempts, seed))
            return 0 if attempts < 3 else None

    await of(engine(failing(Policy(), ERRORS)()).run(run_id="the run"))
    return asked


@flow
async def a_failure_ends_the_stream_and_is_raised(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(A(n=1))
            raise LookupError("gone")

    handler = engine(Flow(timeout=60)).run()
    seen = await stream_of(handler)
    ended = await of(handler)
    again = await of(handler)
    stop = handler.get_stop_event()
    return seen, ended, again, repr(handler.exception()), handler.is_done(), handler.cancelled(), type(stop)


@flow
async def failures_are_caught(engine: Engine) -> Any:
    class Flow(Workflow):
        @step(retry_policy=retry_policy(stop=stop_after_attempt(2), wait=wait_fixed(0)))
        async def fail(self, ev: StartEvent) -> A:
            raise LookupError(ev.what)

        @step
        async def end(self, ev: A) -> StopEvent:
            raise ArithmeticError(str(ev.n))

        @catch_error(for_steps=["fail"])
        async def of_fail(self, ctx: Context, ev: StepFailedEvent) -> A:
            assert ev.elapsed_seconds >= 0
            assert ev.failed_at.tzinfo is not None
            told = (ev.step_name, repr(ev.exception), ev.attempts, ev.input_event)
            await ctx.store.set("told", told)
            return A(n=3)

        @catch_error
        async def others(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=(ev.step_name, repr(ev.exception), await ctx.store.get("told")))

    return await of(engine(Flow(timeout=60)).run(start_event=StartEvent(what="x")))


@flow
async def recoveries_are_counted_by_lineage(engine: Engine) -> Any:
    told = []
    for most in (1, 2, 3):

        class Flow(Workflow):
            caught = 0

            @step
            async def begin(self, ev: StartEvent) -> A | None:
                return A(n=0)

            @step
            async def fail(self, ev: A) -> StopEvent:
                raise ValueError(str(ev.n))

            @catch_error(for_steps=["fail"], max_recoveries=most)
            async def rescue(self, ev: StepFailedEvent) -> A:
                self.caught += 1
                return A(n=self.caught)

        workflow = Flow(timeout=60)
        told.append((await of(engine(workflow).run()), workflow.caught))
    return told


@flow
async def a_failure_of_what_catches_is_not_caught(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def fail(self, ev: StartEvent) -> StopEvent:
            raise ValueError("first")

        @catch_error
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            raise KeyError("second")

    handler = engine(Flow(timeout=60)).run()
    return await stream_of(handler), await of(handler)


@flow
async def too_late(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def slow(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(A(n=1))
            await asyncio.Event().wait()
            return StopEvent()

        @catch_error
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="a timeout is no failure of a step")

    handler = engine(Flow(timeout=0.05)).run()
    return await stream_of(handler), await of(handler), type(handler.get_stop_event())


@flow
async def cancelled(engine: Engine) -> Any:
    cleaned = []

    class Flow(Workflow):
        @step
        async def slow(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("kept", 1)
            ctx.write_event_to_stream(A(n=1))
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)
            return StopEvent()

    handler = engine(Flow(timeout=60)).run()
    async for _ in handler.stream_events():
        await handler.cancel_run(timeout=2)
        break
    rest = await stream_of(handler)
    return rest, await of(handler), handler.cancelled(), cleaned, await handler.ctx.store.get("kept")


@flow
async def the_end_cancels_the_other_steps(engine: Engine) -> Any:
    told = []

    class Flow(Workflow):
        @step
        async def stop(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(0.01)
            return StopEvent(result="done")

        @step
        async def other(self, ctx: Context, ev: StartEvent) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append("cancelled")
                raise

    handler = engine(Flow(timeout=60)).run()
    seen = await stream_of(handler)
    result = await of(handler)
    await asyncio.sleep(0.01)
    return seen, result, told


@flow
async def a_step_in_a_thread_fails(engine: Engine) -> Any:
    class Flow(Workflow):
        @step(retry_policy=retry_policy(stop=stop_after_attempt(2), wait=wait_fixed(0)))
        def plain(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if not ctx.retry_info().retry_number:
                raise ValueError("first")
            return StopEvent(result="second")

    handler = engine(Flow(timeout=60)).run()
    return await stream_of(handler), await of(handler)


@flow
async def a_retry_repeats_what_was_sent(engine: Engine) -> Any:
    class Flow(Workflow):
        tried = 0

        @step(retry_policy=retry_policy(stop=stop_after_attempt(2), wait=wait_fixed(0)))
        async def send(self, ctx: Context, ev: StartEvent) -> A | None:
            self.tried += 1
            ctx.send_event(A(n=self.tried))
            if self.tried == 1:
                raise ValueError("again")
            return None

        @step(num_workers=1)
        async def take(self, ctx: Context, ev: A) -> StopEvent | None:
            got = ctx.collect_events(ev, [A, A])
            return None if got is None else StopEvent(result=[each.n for each in got])

    return await of(engine(Flow(timeout=60)).run())


@flow
async def an_answer_outlives_a_retry(engine: Engine) -> Any:
    from workflows.events import HumanResponseEvent, InputRequiredEvent

    class Flow(Workflow):
        tried = 0

        @step(retry_policy=retry_policy(stop=stop_after_attempt(3), wait=wait_fixed(0)))
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent())
            self.tried += 1
            if self.tried == 1:
                raise RuntimeError("after the answer")
            return StopEvent(result=answer.response)

    handler, asked = engine(Flow(timeout=60)).run(), 0
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            asked += 1
            handler.ctx.send_event(HumanResponseEvent(response="once"))
    return asked, await of(handler)
