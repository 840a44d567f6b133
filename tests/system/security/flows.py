"""Workflows that the attacks are made on."""

from __future__ import annotations

import os
import threading

from pydantic import BaseModel, Field

from stepwire.workflow import (
    Context,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

CANARY_VARIABLE = "STEPWIRE_TEST_CANARY"


class Begin(StartEvent):
    """Begin."""

    text: str = ""
    numbers: list[int] = Field(default_factory=list)
    nested: dict[str, object] = Field(default_factory=dict)


class Question(InputRequiredEvent):
    """Ask."""

    text: str


class Answer(HumanResponseEvent):
    """Answer."""

    text: str
    weight: float = 0.0


class Note(HumanResponseEvent):
    """Say something on the way."""

    text: str


class Inner(BaseModel):
    """Be inside a state."""

    count: int = 0
    words: dict[str, str] = {}


class Held(BaseModel):
    """The state of a run."""

    text: str = ""
    inner: Inner = Inner()
    items: list[int] = [1, 2, 3]
    extra: dict[str, object] = {}


class Asking(Workflow):
    """Ask one question and wait for the answer."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context[Held], ev: Begin) -> StopEvent:
        """Ask."""
        await ctx.store.set("text", ev.text)
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text=ev.text), timeout=None)
        return StopEvent(result=answer.text)

    @step
    async def noted(self, ev: Note) -> None:
        """Take a note."""


class Other(Asking):
    """The same under another name."""


class Free(Workflow):
    """Wait with a state that has no type."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def ask(self, ctx: Context, ev: Begin) -> StopEvent:
        """Ask."""
        await ctx.store.set("text", ev.text)
        await ctx.store.set("inner", {"count": 0, "words": {"a": "b"}})
        answer = await ctx.wait_for_event(Answer, waiter_event=Question(text=ev.text), timeout=None)
        return StopEvent(result=answer.text)

    @step
    async def noted(self, ev: Note) -> None:
        """Take a note."""


class SecretError(Exception):
    """Carry a secret in its text."""


class Careless:
    """A retry policy that fails, and says over what."""

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Fail."""
        raise ValueError(f"knows no delay for {error}")


class Leaking(Workflow):
    """Have a secret everywhere where one should not be: its state, and the errors that end it."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(retry_policy=Careless())
    async def fail(self, ctx: Context, ev: Begin) -> StopEvent:
        """Fail with the secret in the error's text."""
        secret = os.environ[CANARY_VARIABLE]
        await ctx.store.set("token", secret)
        if ev.text == "wait":
            await ctx.wait_for_event(Answer, timeout=None)
        raise SecretError(f"cannot log in with {secret}") from ValueError(secret)


HELD = threading.Event()
"""Lets the sync steps of Blocking go on."""


class Blocking(Workflow):
    """Keep a thread."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step(num_workers=100)
    def block(self, ev: Begin) -> StopEvent:
        """Wait until the test lets it go."""
        HELD.wait(60)
        return StopEvent(result="done")


class Talking(Workflow):
    """Write much to the stream, then wait."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def talk(self, ctx: Context, ev: Begin) -> StopEvent:
        """Write as many notes as the first number says, each as long as the second."""
        count, size = ev.numbers
        for _ in range(count):
            ctx.write_event_to_stream(Note(text="x" * size))
        answer = await ctx.wait_for_event(Answer, timeout=None)
        return StopEvent(result=answer.text)
