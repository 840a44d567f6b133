"""The second version of a workflow that waits: it cannot go on with runs of the first, nor the first with its own."""

from __future__ import annotations

from stepwire.workflow import Context, DictState, HumanResponseEvent, StartEvent, StopEvent, Workflow, step


class Answer(HumanResponseEvent):
    """Answer."""

    text: str = ""


class Approval(Workflow):
    """Wait for an answer, in a step of another name."""

    version = "2"

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def wait_longer(self, ctx: Context[DictState], ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, timeout=None)
        return StopEvent(result=f"two {answer.text}")
