"""What LlamaIndex 2.x promises of its workflows, on this engine, also over a restart."""

import asyncio
import json
from typing import Annotated, Any

import pytest
from tests.unit.semantics.harness import DurableRun
from workflows import Context, Workflow, catch_error, step
from workflows.collect import Collect, Take
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    UnhandledEvent,
    WorkflowIdleEvent,
)
from workflows.representation import get_workflow_representation
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import WorkflowTestRunner

from stepwire.workflow import adopt


class Task(Event):
    n: int


class Result(Event):
    n: int


class Sum(Event):
    n: int


class Other(Event):
    pass


class FanOut(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Task]:
        return [Task(n=n) for n in range(ev.count)]

    @step(num_workers=2)
    async def work(self, ev: Task) -> Result | None:
        return None if ev.n == 1 else Result(n=ev.n * 10)

    @step
    async def join(self, events: list[Result]) -> StopEvent:
        return StopEvent(result=sorted(event.n for event in events))


@pytest.mark.parametrize(("count", "result"), [(4, [0, 20, 30]), (0, []), (2, [0])])
async def test_a_list_is_joined_when_all_of_it_is_through(count: int, result: list[int]) -> None:
    assert await adopt(FanOut(timeout=60)).run(count=count) == result


async def test_take_gives_the_first_ones_and_drops_the_others() -> None:
    class First(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[Task]:
            return [Task(n=n) for n in range(5)]

        @step(num_workers=1)
        async def work(self, ev: Task) -> Result:
            return Result(n=ev.n)

        @step
        async def join(self, events: Annotated[list[Result], Collect(Take(2))]) -> StopEvent:
            return StopEvent(result=[event.n for event in events])

    assert await adopt(First(timeout=60)).run() == [0, 1]


async def test_a_list_inside_a_list_is_joined_first() -> None:
    class Nested(Workflow):
        @step
        async def outer(self, ev: StartEvent) -> list[Task]:
            return [Task(n=n) for n in (1, 2)]

        @step
        async def inner(self, ev: Task) -> list[Result]:
            return [Result(n=ev.n) for _ in range(ev.n + 1)]

        @step
        async def add(self, events: list[Result]) -> Sum:
            return Sum(n=sum(event.n for event in events))

        @step
        async def total(self, events: list[Sum]) -> StopEvent:
            return StopEvent(result=sorted(event.n for event in events))

    assert await adopt(Nested(timeout=60)).run() == [2, 6]


async def test_several_event_parameters_are_filled_once_all_are_there() -> None:
    class Two(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Task | Result | None:
            ctx.send_event(Task(n=1))
            ctx.send_event(Result(n=2))
            return None

        @step
        async def both(self, task: Task, result: Result) -> StopEvent:
            return StopEvent(result=(task.n, result.n))

    assert await adopt(Two(timeout=60)).run() == (1, 2)


async def test_a_stream_goes_on_after_a_crash() -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    class Hanging(FanOut):
        @step(num_workers=4)
        async def work(self, ev: Task) -> Result:
            if ev.n == 2 and not go_on.is_set():
                at_work.set()
                await asyncio.Event().wait()
            return Result(n=ev.n)

    run = DurableRun(adopt(Hanging(timeout=None)))
    run.start(StartEvent(count=4))
    await at_work.wait()
    run.commit()
    assert run.kept("f")
    go_on.set()
    run = run.crash_and_recover()
    assert await result_of(run) == [0, 1, 2, 3]
    run.commit()
    assert not [key for key in run.parts if key[0] in "fbd"]


async def test_a_recovery_budget_is_kept_over_a_crash() -> None:
    class Catching(Workflow):
        def __init__(self) -> None:
            super().__init__(timeout=None)
            self.caught = 0
            self.at_work, self.go_on = asyncio.Event(), asyncio.Event()

        @step
        async def fail(self, ev: StartEvent | Task) -> Task | StopEvent:
            if isinstance(ev, Task) and not self.go_on.is_set():
                self.at_work.set()
                await asyncio.Event().wait()
            raise ValueError(type(ev).__name__)

        @catch_error(max_recoveries=1)
        async def rescue(self, ev: StepFailedEvent) -> Task:
            self.caught += 1
            return Task(n=1)

    workflow = Catching()
    run = DurableRun(adopt(workflow)).start(StartEvent())
    await workflow.at_work.wait()
    run.commit()
    workflow.go_on.set()
    run = run.crash_and_recover()
    await result_of(run)
    assert run.outcome is not None
    assert (run.outcome.status, workflow.caught) == ("failed", 1)


class OwnError(Exception):
    """An error of the author's, which nothing saves."""


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (KeyError("first"), "KeyError(\"'first'\")"),
        (OwnError("first"), "UnreconstructedException(original_type='OwnError', 'first')"),
    ],
)
async def test_the_last_failure_is_told_after_a_crash(error: Exception, kept: str) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    class Flaky(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
        async def flaky(self, ctx: Context, ev: StartEvent) -> StopEvent:
            info = ctx.retry_info()
            if not info.retry_number:
                raise error
            if not go_on.is_set():
                at_work.set()
                await asyncio.Event().wait()
            return StopEvent(result=(info.retry_number, repr(info.last_exception), info.last_failed_at is not None))

    run = DurableRun(adopt(Flaky(timeout=None))).start(StartEvent())
    await at_work.wait()
    run.commit()
    go_on.set()
    assert await result_of(run.crash_and_recover()) == (1, kept, True)


async def test_a_wait_takes_subclasses_where_the_step_does() -> None:
    class Yes(HumanResponseEvent):
        pass

    class Broad(Workflow):
        @step(accept_event_subclasses=True)
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent())
            return StopEvent(result=type(answer).__name__)

    handler = adopt(Broad(timeout=60)).run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(Yes())
    assert await handler == "Yes"


async def test_internal_events_are_there_for_who_asks() -> None:
    class Ask(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(HumanResponseEvent)
            return StopEvent(result=answer.text)

    handler = adopt(Ask(timeout=60)).run()
    seen: list[Any] = []
    async for event in handler.stream_events(expose_internal=True):
        seen.append(event)
        if isinstance(event, WorkflowIdleEvent):
            handler.ctx.send_event(Sum(n=1))
            handler.ctx.send_event(HumanResponseEvent(text="there"))
    assert await handler == "there"
    assert [type(event) for event in seen] == [
        StepStateChanged,
        WorkflowIdleEvent,
        UnhandledEvent,
        StepStateChanged,
        StopEvent,
    ]
    assert (seen[0].step_state, seen[3].step_state) == (StepState.RUNNING, StepState.NOT_RUNNING)


async def test_the_test_runner_of_theirs_works() -> None:
    told = await WorkflowTestRunner(adopt(FanOut(timeout=60))).run(start_event=StartEvent(count=2))
    assert told.result == [0]
    assert told.event_types[StepStateChanged] == 8


async def test_a_saved_stream_is_read_again() -> None:
    at_work = asyncio.Event()

    class Asking(FanOut):
        @step
        async def work(self, ctx: Context, ev: Task) -> Result:
            if ev.n == 1:
                at_work.set()
                await ctx.wait_for_event(HumanResponseEvent)
            return Result(n=ev.n)

    workflow = Asking(timeout=60)
    handler = adopt(workflow).run(count=3)
    await at_work.wait()
    await asyncio.sleep(0)
    saved = json.loads(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    handler = adopt(workflow).run(ctx=Context.from_dict(workflow, saved))
    handler.ctx.send_event(HumanResponseEvent())
    assert await handler == [0, 1, 2]


async def result_of(run: DurableRun) -> Any:
    while run.outcome is None:  # noqa: ASYNC110 - the harness tells nobody
        await asyncio.sleep(0)
    return getattr(run.outcome.event, "result", None)


async def test_the_description_has_the_edges_of_their_representation() -> None:
    class Rich(FanOut):
        @step
        async def work(self, ctx: Context, ev: Task) -> Result | InputRequiredEvent:
            return Result(n=ev.n)

        @step
        async def answered(self, ev: HumanResponseEvent) -> Sum:
            return Sum(n=1)

        @step
        async def end(self, one: Sum, other: Other) -> StopEvent:
            return StopEvent()

        @step
        async def join(self, events: Annotated[list[Result], Collect(Take(2))]) -> Other:
            return Other()

        @catch_error(for_steps=["work"])
        async def rescue(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent()

    workflow = Rich()
    graph = get_workflow_representation(workflow)
    steps = {node.id for node in graph.nodes if node.node_type == "step"}
    theirs = {(edge.source, edge.target) for edge in graph.edges if {edge.source, edge.target} & steps}
    ours = set()
    for each in adopt(workflow).describe().steps:
        ours |= {(event, each.name) for event in each.accepts}
        ours |= {(each.name, event) for event in each.returns}
    assert ours == theirs
