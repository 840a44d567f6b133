"""Ask a human: the run waits, for a minute or a month, and needs no memory meanwhile.

stepwire serve examples/approval.py:Approval=approval
"""

from typing import Literal

from stepwire.workflow import (
    Context,
    DictState,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Expense(StartEvent):
    """Begin with an expense that someone wants to have paid back."""

    who: str
    amount: float
    purpose: str = ""


class ApprovalQuestion(InputRequiredEvent):
    """Ask for a decision on an expense."""

    expense_id: str
    text: str


class ApprovalAnswer(HumanResponseEvent):
    """Decide on an expense; `expense_id` says on which."""

    expense_id: str
    verdict: Literal["approve", "reject"]
    by: str


class Decided(Event):
    """Hand a decision to the step that acts on it."""

    approved: bool
    by: str


class Approval(Workflow):
    """Approve small expenses at once and ask a human about the others."""

    @step
    async def decide(self, ctx: Context[DictState], ev: Expense) -> Decided:
        """Wait for the answer to this expense, not to any other."""
        await ctx.store.set("expense", ev.model_dump())
        if ev.amount < 50:
            return Decided(approved=True, by="policy")
        expense_id = f"{ev.who}-{ev.amount:.2f}"
        text = f"{ev.who} asks for {ev.amount:.2f}" + (f" for {ev.purpose}" if ev.purpose else "")
        answer = await ctx.wait_for_event(
            ApprovalAnswer,
            waiter_event=ApprovalQuestion(expense_id=expense_id, text=text),
            requirements={"expense_id": expense_id},
            timeout=30 * 24 * 3600,
        )
        return Decided(approved=answer.verdict == "approve", by=answer.by)

    @step
    async def settle(self, ctx: Context[DictState], ev: Decided) -> StopEvent:
        """Keep the decision in the state and end the run with it."""
        await ctx.store.set("approved", ev.approved)
        return StopEvent(result=f"{'approved' if ev.approved else 'rejected'} by {ev.by}")
