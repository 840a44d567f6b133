"""The context, resources, handlers and what a stream tells of the engine."""

import asyncio
from collections import Counter
from typing import Any

from tests.llamaindex.beside.common import A, Asking, B, Counting, raised, until_asked
from tests.llamaindex.beside.harness import Engine, flow, of, stream_of
from workflows import Context, Workflow, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    UnhandledEvent,
    WorkflowIdleEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import WorkflowTestRunner


@flow
async def what_a_context_refuses(engine: Engine) -> Any:
    workflow = Counting()
    before: Context = Context(workflow)
    told = [
        await raised(before.to_dict),
        await raised(before.send_event, A()),
        await raised(before.running_steps),
        await raised(before.stream_events),
        await raised(before.retry_info),
        await raised(Context.get_step_context),
    ]
    asking = Asking(timeout=60)
    handler = engine(asking).run()
    await until_asked(handler)
    told += [
        await raised(lambda: engine(asking).run(ctx=handler.ctx)),
        await raised(handler.ctx.retry_info),
        await raised(handler.ctx.send_event, A(), "missing"),
        await raised(handler.ctx.send_event, A(), "ask"),
    ]
    handler.ctx.send_event(HumanResponseEvent(response="x"))
    return told, await of(handler)


@flow
async def the_context_of_the_step(engine: Engine) -> Any:
    def helper() -> Any:
        return Context.get_step_context()

    class Flow(Workflow):
        @step
        async def first(self, ctx: Context, ev: StartEvent) -> A:
            return A(n=int(helper() is ctx))

        @step
        def second(self, ev: A) -> StopEvent:
            return StopEvent(result=(ev.n, helper().retry_info().retry_number))

    return await of(engine(Flow()).run())


@flow
async def internal_events(engine: Engine) -> Any:
    all_there = asyncio.Event()

    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | None:
            for n in range(5):
                ctx.send_event(A(n=n))
            return None

        @step(num_workers=2)
        async def work(self, ev: A) -> B:
            await all_there.wait()
            return B(n=ev.n)

        @step
        async def end(self, ctx: Context, ev: B) -> StopEvent | None:
            return None if ctx.collect_events(ev, [B] * 5) is None else StopEvent()

    handler = engine(Flow(timeout=60)).run()
    seen: list[Any] = []
    async for event in handler.stream_events(expose_internal=True):
        seen.append(event)
        states = Counter(each.step_state for each in seen if isinstance(each, StepStateChanged) and each.name == "work")
        if states[StepState.PREPARING] == 3 and states[StepState.RUNNING] == 2:
            all_there.set()
    changed = [event for event in seen if isinstance(event, StepStateChanged)]
    waited = [event for event in changed if event.step_state == StepState.PREPARING and event.name == "work"]
    running = [event for event in changed if event.step_state == StepState.RUNNING]
    done = [event for event in changed if event.step_state == StepState.NOT_RUNNING and event.name == "work"]
    return (
        [(event.worker_id, event.input_event_name, event.output_event_name) for event in waited],
        sorted((event.name, event.input_event_name) for event in running),
        {event.worker_id for event in running if event.name == "work"},
        [(event.input_event_name, event.output_event_name) for event in done],
        type(seen[-1]),
    )


class Other(Event):
    pass


async def outputs_of(engine: Engine, made: list[B | Other]) -> Any:
    class Flow(Workflow):
        @step
        async def nothing(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A(n=1))
            return None

        @step(retry_policy=retry_policy(stop=stop_after_attempt(2), wait=wait_fixed(0)))
        async def fail_once(self, ctx: Context, ev: A) -> list[B | Other]:
            if not ctx.retry_info().retry_number:
                raise ValueError("first")
            return made

        @step
        async def end(self, events: list[B | Other]) -> StopEvent:
            return StopEvent(result=len(events))

    handler = engine(Flow(timeout=60)).run()
    seen = [event async for event in handler.stream_events(expose_internal=True) if isinstance(event, StepStateChanged)]
    names = [(event.name, event.output_event_name) for event in seen if event.step_state == StepState.NOT_RUNNING]
    return names, await of(handler)


@flow
async def outputs_of_steps(engine: Engine) -> Any:
    return [await outputs_of(engine, made) for made in ([], [B(n=1)], [B(n=1), Other()], [Other(), B(n=1)])]


@flow
async def idle_and_unhandled(engine: Engine) -> Any:
    handler = engine(Asking(timeout=60)).run()
    seen: list[Any] = []
    async for event in handler.stream_events(expose_internal=True):
        if not isinstance(event, StepStateChanged):
            seen.append(type(event))
        if isinstance(event, WorkflowIdleEvent):
            handler.ctx.send_event(HumanResponseEvent(response="x") if UnhandledEvent in seen else A())
        if isinstance(event, UnhandledEvent):
            seen.append((event.event_type, event.qualified_name, event.step_name, event.idle))
    return seen, await of(handler)


@flow
async def their_test_runner(engine: Engine) -> Any:
    told = await WorkflowTestRunner(engine(Counting())).run(exclude_events=[StopEvent])
    plain = await WorkflowTestRunner(engine(Counting())).run(expose_internal=False)
    again = await WorkflowTestRunner(engine(Counting())).run(ctx=plain.ctx)
    return told.result, told.event_types, [type(event) for event in plain.collected], again.result


@flow
async def a_handler(engine: Engine) -> Any:
    workflow = Asking(timeout=60, workflow_name="asks")
    handler = engine(workflow).run(run_id="mine")
    await until_asked(handler)
    before = handler.run_id, handler.is_done(), handler.get_stop_event(), str(handler)
    not_yet = await raised(handler.exception)
    handler.ctx.send_event(HumanResponseEvent(response="x"))
    stop = await handler.stop_event_result()
    after = handler.is_done(), handler.cancelled(), handler.exception(), type(handler.get_stop_event())
    return before, not_yet and not_yet[0], stop, after, await handler, str(handler)


@flow
async def running_steps(engine: Engine) -> Any:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Flow(Workflow):
        @step
        async def slow(self, ev: StartEvent) -> StopEvent:
            begun.set()
            await go_on.wait()
            return StopEvent(result="done")

    handler = engine(Flow(timeout=60)).run()
    await begun.wait()
    at_work = await handler.ctx.running_steps()
    go_on.set()
    return at_work, await of(handler), await handler.ctx.running_steps()


@flow
async def concurrent_runs_are_limited(engine: Engine) -> Any:
    class Flow(Workflow):
        now = most = 0

        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.005)
            self.now -= 1
            return StopEvent(result=ev.n)

    told = []
    for limit in (1, 2, None):
        workflow = Flow(num_concurrent_runs=limit, timeout=5)
        adopted = engine(workflow)
        told.append((await asyncio.gather(*(adopted.run(n=n) for n in range(5))), workflow.most))
    return told


@flow
async def a_run_that_waits_and_ends_otherwise(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent())
            return StopEvent(result="answered")

        @step
        async def other(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
            await asyncio.sleep(0.01)
            return StopEvent(result="the other")

    handler = engine(Flow(timeout=60)).run()
    return await stream_of(handler), await of(handler)


@flow
async def a_retry_tells_that_it_waits(engine: Engine) -> Any:
    class Flow(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0.02), stop=stop_after_attempt(2)))
        async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if not ctx.retry_info().retry_number:
                raise ValueError("first")
            return StopEvent()

    handler = engine(Flow(timeout=60)).run()
    seen = [event async for event in handler.stream_events(expose_internal=True)]
    return [event.step_state for event in seen if isinstance(event, StepStateChanged)]
