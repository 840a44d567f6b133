"""Checkpoints, runs that go on from them, stepwise runs."""

from __future__ import annotations

import asyncio

from stepwire.workflow import Context, Workflow, step
from stepwire.workflow.checkpointer import WorkflowCheckpointer
from stepwire.workflow.errors import WorkflowStepDoesNotExistError
from stepwire.workflow.events import Event, StartEvent, StopEvent


class One(Event):
    text: str


class Two(Event):
    text: str


class Three(Workflow):
    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> One:
        self.ran.append("begin")
        await ctx.store.set("kept", "k")
        return One(text=ev.text)

    @step
    async def go_on(self, ev: One) -> Two:
        self.ran.append("go_on")
        return Two(text=ev.text + "2")

    @step
    async def end(self, ctx: Context, ev: Two) -> StopEvent:
        self.ran.append("end")
        return StopEvent(result=ev.text + await ctx.store.get("kept"))


async def main() -> None:
    workflow = Three()
    checkpointer = WorkflowCheckpointer(workflow=workflow)
    handler = checkpointer.run(text="a")
    print(await handler)
    kept = checkpointer.checkpoints[handler.run_id]
    for each in kept:
        print(each.last_completed_step, type(each.input_event).__name__, type(each.output_event).__name__)

    workflow.ran.clear()
    print(await workflow.run_from(kept[1]), workflow.ran)
    workflow.ran.clear()
    print(await checkpointer.run_from(kept[0]), workflow.ran)
    print([len(each) for each in checkpointer.checkpoints.values()])
    print(len(checkpointer.filter_checkpoints(last_completed_step="end")))
    print(len(checkpointer.filter_checkpoints(output_event_type=Two)))
    checkpointer.disable_checkpoint("go_on")
    handler = checkpointer.run(text="b")
    await handler
    print([each.last_completed_step for each in checkpointer.checkpoints[handler.run_id]])
    try:
        checkpointer.enable_checkpoint("nowhere")
    except WorkflowStepDoesNotExistError:
        print("there is no such step")

    handler = workflow.run(stepwise=True, text="c")
    while events := await handler.run_step():
        print([type(event).__name__ for event in events])
        for event in events:
            handler.ctx.send_event(event)
    print(await handler)


asyncio.run(main())
