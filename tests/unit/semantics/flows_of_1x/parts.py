"""What steps are given and do: services, resources, sync steps, free functions, retries, bounds, errors."""

from __future__ import annotations

import asyncio
from typing import Annotated

from stepwire.workflow import Context, Workflow, step
from stepwire.workflow.errors import (
    WorkflowCancelledByUser,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
    WorkflowValidationError,
)
from stepwire.workflow.events import Event, StartEvent, StopEvent
from stepwire.workflow.resource import Resource
from stepwire.workflow.retry_policy import ConstantDelayRetryPolicy


class Second(Event):
    text: str


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []


def make_notes() -> Notes:
    print("notes made")
    return Notes()


async def make_more() -> Notes:
    print("more made")
    return Notes()


class Reflect(Workflow):
    @step
    async def reflect(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.text + "!")


class Main(Workflow):
    @step
    async def begin(self, ev: StartEvent, reflection: Reflect) -> Second:
        return Second(text=await reflection.run(text=ev.text))

    @step
    def write(
        self,
        ev: Second,
        notes: Annotated[Notes, Resource(make_notes)],
        more: Annotated[Notes, Resource(make_more, cache=False)],
    ) -> StopEvent:
        notes.lines.append(ev.text)
        more.lines.append(ev.text)
        return StopEvent(result=[notes.lines, more.lines])


class Free(Workflow):
    pass


@step(workflow=Free)
async def first(ev: StartEvent) -> Second:
    return Second(text=ev.text)


@step(workflow=Free, num_workers=2)
async def second(ctx: Context, ev: Second) -> StopEvent:
    ctx.write_event_to_stream(ev)
    return StopEvent(result=ev.text * 2)


class Flaky(Workflow):
    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.tries = 0

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=4, delay=0.01))
    async def work(self, ev: StartEvent) -> StopEvent:
        self.tries += 1
        if self.tries <= self.failures:
            raise ConnectionError(f"try {self.tries}")
        return StopEvent(result=self.tries)


class Slow(Workflow):
    at_work = most = 0

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        Slow.at_work += 1
        Slow.most = max(Slow.most, Slow.at_work)
        await asyncio.sleep(ev.seconds)
        Slow.at_work -= 1
        return StopEvent(result=ev.n)


async def main() -> None:
    workflow = Main()
    try:
        await workflow.run(text="x")
    except WorkflowValidationError:
        print("its service is missing")
    workflow.add_workflows(reflection=Reflect())
    print(await workflow.run(text="a"))
    print(await workflow.run(text="b"))

    handler = Free().run(text="ab")
    print([type(event).__name__ async for event in handler.stream_events()], await handler)

    print(await Flaky(4).run())
    try:
        await Flaky(9).run()
    except WorkflowRuntimeError as error:
        print(error, "|", type(error.__cause__).__name__)

    slow = Slow(num_concurrent_runs=2)
    print(await asyncio.gather(*(slow.run(n=n, seconds=0.02) for n in range(5))), Slow.most)
    try:
        await Slow(timeout=0.05).run(n=0, seconds=5)
    except WorkflowTimeoutError as error:
        print(error)
    handler = Slow().run(n=0, seconds=5)
    await handler.cancel_run()
    try:
        await handler
    except WorkflowCancelledByUser:
        print("cancelled")


asyncio.run(main())
