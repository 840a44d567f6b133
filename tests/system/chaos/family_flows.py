"""Workflows of families for chaos: a grandparent starts parents, which start leaves. Results say what was done."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.system.chaos.workload import effect

from stepwire.workflow import (
    ConstantDelayRetryPolicy,
    Context,
    DictState,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from stepwire.workflow.errors import StepError

PARENTS, LEAVES = 3, 3
"""Children of each grandparent, and of each parent."""


class Beginning(StartEvent):
    """Begin, with a token that no other run of the workflow has."""

    token: str


class LeafQuestion(InputRequiredEvent):
    """Ask."""

    token: str


class LeafAnswer(HumanResponseEvent):
    """Answer."""

    token: str


def asks(token: str) -> bool:
    """Tell whether the leaf of a token asks a question."""
    return random.Random(f"asks/{token}").random() < 0.2


def fails(token: str) -> bool:
    """Tell whether the leaf of a token fails."""
    return random.Random(f"fails/{token}").random() < 0.15


def expected(token: str) -> list[Any]:
    """Return the result of the grandparent of a token."""
    return [
        [f"{token}/{parent}", [leaf_result(f"{token}/{parent}/{leaf}") for leaf in range(LEAVES)]]
        for parent in range(PARENTS)
    ]


def leaf_result(token: str) -> str:
    """Return what the parent of a leaf makes of it."""
    return f"failed {token}" if fails(token) else f"done {token}"


class Leaf(Workflow):
    """Have an outside effect, ask sometimes, fail sometimes."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ctx: Context[DictState], ev: Beginning) -> StopEvent:
        """Do it."""
        effect(ctx, ev.token)
        await asyncio.sleep(random.uniform(0.0, 0.05))
        if asks(ev.token):
            question = LeafQuestion(token=ev.token)
            await ctx.wait_for_event(LeafAnswer, question, ev.token, {"token": ev.token}, timeout=None)
        if fails(ev.token):
            raise ValueError(ev.token)
        return StopEvent(result=f"done {ev.token}")


class Parent(Workflow):
    """Start leaves, one after the other or all at once."""

    def __init__(self, leaf: Leaf) -> None:
        super().__init__(timeout=None)
        self.leaf = leaf

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=1, delay=0.01))
    async def work(self, ctx: Context[DictState], ev: Beginning) -> StopEvent:
        """Do it."""
        effect(ctx, ev.token)
        tokens = [f"{ev.token}/{number}" for number in range(LEAVES)]
        if ev.token.endswith("1"):
            return StopEvent(result=[await self._outcome(token) for token in tokens])
        return StopEvent(result=await asyncio.gather(*map(self._outcome, tokens)))

    async def _outcome(self, token: str) -> str:
        try:
            return str(await self.leaf.run(token=token))
        except StepError as error:
            return f"failed {token}" if token in str(error) else str(error)


class Grandparent(Workflow):
    """Start parents by their name."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ctx: Context[DictState], ev: Beginning) -> StopEvent:
        """Do it."""
        effect(ctx, ev.token)
        tokens = [f"{ev.token}/{number}" for number in range(PARENTS)]
        handlers = [ctx.start_run("parent", token=token) for token in tokens]
        return StopEvent(result=[[token, await handler] for token, handler in zip(tokens, handlers, strict=True)])


LEAF = Leaf()
FAMILY: dict[str, Workflow] = {"leaf": LEAF, "parent": Parent(LEAF), "grandparent": Grandparent()}
