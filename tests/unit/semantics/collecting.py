"""Events for the tests of collects and waits."""

from __future__ import annotations

from typing import Any

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


class A(Event):
    n: int = 0


class B(Event):
    n: int = 0


class C(Event):
    n: int = 0


class Prompt(InputRequiredEvent):
    text: str = ""


class Answer(HumanResponseEvent):
    user: str = ""
    n: int = 0


class Ask(Workflow):
    """Ask once and return the answer, or `late` when none comes."""

    timeout_of_wait: float | None = 10
    requirements: dict[str, Any] = {}  # noqa: RUF012 - replaced, not changed

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Prompt | StopEvent:
        try:
            answer = await ctx.wait_for_event(
                Answer,
                waiter_event=Prompt(text="who?"),
                waiter_id="who",
                requirements=self.requirements,
                timeout=self.timeout_of_wait,
            )
        except TimeoutError:
            return StopEvent(result="late")
        return StopEvent(result=answer.n)
