"""Start runs from a step: a trip has many expenses, each an approval of its own that may wait for a person.

stepwire serve examples/trip.py:Trip=trip examples/approval.py:Approval=approval
"""

import asyncio
from typing import Any

from stepwire.workflow import Context, StartEvent, StopEvent, Workflow, step


class Travelled(StartEvent):
    """Begin with the expenses of a trip: purpose to amount."""

    who: str
    expenses: dict[str, float]


class Trip(Workflow):
    """Have each expense decided by a run of its own; a restart starts none of them twice."""

    @step
    async def decide(self, ctx: Context[Any], ev: Travelled) -> StopEvent:
        """Wait for all of them, without a worker and without memory."""
        approvals = [
            ctx.start_run("approval", who=ev.who, amount=amount, purpose=purpose)
            for purpose, amount in ev.expenses.items()
        ]
        verdicts = await asyncio.gather(*approvals)
        return StopEvent(result=dict(zip(ev.expenses, verdicts, strict=True)))
