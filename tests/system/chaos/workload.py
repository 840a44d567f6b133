"""The workflow that chaos runs drive; every effect, reply and question carries the token of what caused it."""

import asyncio
import json
import os
import time
from typing import Any

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

EFFECTS = "STEPWIRE_CHAOS_EFFECTS"
"""The environment variable that names the file to which steps append their outside effects."""

WORKFLOW = "ledger"
REPLIES = {"Ping": "Pong", "Tick": "Tock", "Slow": "Slept", "SlowSync": "SleptSync", "Ask": "Question"}
"""What a step writes to the stream, exactly once, for an event that was received."""
EFFECTFUL = ("Ping", "Tick", "Slow", "SlowSync")
"""Events whose steps have an outside effect, at least once each."""
GROUP = 3
"""How many parts make a whole."""


class Open(StartEvent):
    """Open a ledger."""

    owner: str = ""


class Ping(Event):
    """Ask an async step for a pong."""

    token: str


class Pong(Event):
    """Answer a ping."""

    token: str


class Tick(Event):
    """Ask a sync step for a tock."""

    token: str


class Tock(Event):
    """Answer a tick."""

    token: str


class Slow(Event):
    """Keep an async step busy."""

    token: str
    seconds: float = 0.05


class Slept(Event):
    """Answer a slow one."""

    token: str


class SlowSync(Event):
    """Keep a sync step busy."""

    token: str
    seconds: float = 0.05


class SleptSync(Event):
    """Answer a slow sync one."""

    token: str


class Part(Event):
    """Be collected."""

    token: str


class Whole(Event):
    """Tell which parts were collected."""

    tokens: list[str]


class Ask(Event):
    """Have a question asked."""

    token: str


class Question(InputRequiredEvent):
    """Ask."""

    token: str


class Answer(HumanResponseEvent):
    """Answer a question."""

    token: str
    text: str


class Answered(Event):
    """Tell which answer a question got."""

    token: str
    text: str


class Note(Event):
    """Be logged; no step takes it."""

    token: str


class Close(Event):
    """End the run."""

    token: str


class Ledger(Workflow):
    """Do a little of everything that must survive a crash."""

    def __init__(self) -> None:
        super().__init__(timeout=None, disable_validation=True)

    @step
    async def opened(self, ctx: Context[DictState], ev: Open) -> None:
        """Open it."""
        await ctx.store.set("owner", ev.owner)

    @step
    async def ping(self, ctx: Context[DictState], ev: Ping) -> None:
        """Have an effect, set state, answer."""
        effect(ctx, ev.token)
        await ctx.store.set(f"done_{ev.token}", True)
        ctx.write_event_to_stream(Pong(token=ev.token))

    @step
    def tick(self, ctx: Context[DictState], ev: Tick) -> None:
        """Do the same, in a thread."""
        effect(ctx, ev.token)
        ctx.write_event_to_stream(Tock(token=ev.token))
        ctx.blocking.store.set(f"done_{ev.token}", True)

    @step(num_workers=8)
    async def slow(self, ctx: Context[DictState], ev: Slow) -> None:
        """Be in the middle of something for a while."""
        effect(ctx, ev.token)
        await pause(ctx, ev.seconds)
        ctx.write_event_to_stream(Slept(token=ev.token))

    @step(num_workers=8)
    def slow_sync(self, ctx: Context[DictState], ev: SlowSync) -> None:
        """Be in the middle of something in a thread."""
        effect(ctx, ev.token)
        time.sleep(shortened(ctx, ev.seconds))
        ctx.write_event_to_stream(SleptSync(token=ev.token))

    @step
    async def collect(self, ctx: Context[DictState], ev: Part) -> None:
        """Collect parts to wholes."""
        parts = ctx.collect_events(ev, [Part] * GROUP)
        if parts is not None:
            ctx.write_event_to_stream(Whole(tokens=[part.token for part in parts if isinstance(part, Part)]))

    @step
    async def ask(self, ctx: Context[DictState], ev: Ask) -> None:
        """Ask, and tell what the answer was."""
        answer = await ctx.wait_for_event(
            Answer,
            waiter_event=Question(token=ev.token),
            waiter_id=ev.token,
            requirements={"token": ev.token},
            timeout=None,
        )
        ctx.write_event_to_stream(Answered(token=ev.token, text=answer.text))

    @step
    async def close(self, ctx: Context[DictState], ev: Close) -> StopEvent:
        """End."""
        return StopEvent(result=ev.token)


def effect(ctx: Context[DictState], token: str) -> None:
    """Do what cannot be undone: append a line to the file of effects, in one write."""
    path = os.environ.get(EFFECTS)
    if not path:
        return
    info = ctx.step_info()
    line: dict[str, Any] = {
        "op": "effect",
        "run": info.run_id,
        "step": info.step,
        "delivery": info.delivery_id,
        "attempt": info.attempt,
        "token": token,
        "start": time.time(),
    }
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # Killed within the write, it leaves a part of a line: the next one must not be glued to it.
        os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


def shortened(ctx: Context[DictState], seconds: float) -> float:
    """Return a shorter time for later attempts, so that repeated kills do not look like a poisoned delivery."""
    return seconds if ctx.step_info().attempt == 1 else 0.0


async def pause(ctx: Context[DictState], seconds: float) -> None:
    """Sleep in the step itself: its worker stays busy."""
    await asyncio.sleep(shortened(ctx, seconds))
