"""The first version of a workflow that waits."""

from __future__ import annotations

from stepwire.workflow import Context, DictState, HumanResponseEvent, StartEvent, StopEvent, Workflow, step


class Answer(HumanResponseEvent):
    """Answer."""

    text: str = ""


class Approval(Workflow):
    """Wait for an answer."""

    version = "1"

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def wait(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, timeout=None)
        return StopEvent(result=f"one {answer.text}")
