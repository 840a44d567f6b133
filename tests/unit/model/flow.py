"""The workflow that the model test drives. Its steps never run: the machine makes their Context calls."""

from __future__ import annotations

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


class Start(StartEvent):
    n: int = 0


class A(Event):
    n: int


class B(Event):
    n: int


class Untaken(Event):
    """No step takes it."""

    n: int


class Ask(InputRequiredEvent):
    n: int


class Answer(HumanResponseEvent):
    n: int


class Stop(StopEvent):
    n: int


class Flow(Workflow):
    @step(num_workers=2)
    async def one(self, ctx: Context, ev: Start | A) -> B | None:
        """Take the start."""

    @step(num_workers=1)
    async def two(self, ctx: Context, ev: A | B) -> Ask | None:
        """Take one at a time."""

    @step(num_workers=3)
    async def three(self, ctx: Context, ev: B | Answer) -> Stop | None:
        """Take answers, too."""


TYPES: dict[str, type[Event]] = {cls.__name__: cls for cls in (Start, A, B, Untaken, Ask, Answer, Stop)}
ROUTES = {"Start": ("one",), "A": ("one", "two"), "B": ("two", "three"), "Answer": ("three",)}
WORKERS = {"one": 2, "two": 1, "three": 3}
