"""The workflows that the conformance scenarios run."""

import asyncio
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

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


class Colour(Enum):
    """An enum, by value on the wire."""

    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """A model inside an event."""

    label: str
    depth: int = 0
    inner: "Inner | None" = None


class Everything(StartEvent):
    """One field of every kind; all may be left out."""

    integer: int = 0
    number: float = 0.0
    flag: bool = False
    text: str = ""
    nested: Inner | None = None
    nothing: str | None = "something"
    when: datetime | None = None
    day: date | None = None
    span: timedelta | None = None
    raw: bytes = b""
    exact: Decimal | None = None
    uid: UUID | None = None
    colour: Colour | None = None
    numbers: list[int] = Field(default_factory=list)
    table: dict[str, float] = Field(default_factory=dict)
    anything: Any = None


class Echo(Event):
    """The fields as they came, as an event of the stream."""

    integer: int
    number: float
    text: str
    raw: bytes
    nested: Inner | None
    when: datetime | None


class Echoed(StopEvent):
    """The fields as they came, as a custom stop event."""

    integer: int
    number: float
    flag: bool
    text: str
    nested: Inner | None
    nothing: str | None
    when: datetime | None
    day: date | None
    span: timedelta | None
    raw: bytes
    exact: Decimal | None
    uid: UUID | None
    colour: Colour | None
    numbers: list[int]
    table: dict[str, float]
    anything: Any


class Fields(Workflow):
    """Give back every field, in the stream, in the state and in the result."""

    @step
    async def echo(self, ctx: Context[DictState], ev: Everything) -> Echoed:
        """Echo the input."""
        await ctx.store.set("integer", ev.integer)
        await ctx.store.set("text", ev.text)
        await ctx.store.set("raw", ev.raw)
        ctx.write_event_to_stream(
            Echo(integer=ev.integer, number=ev.number, text=ev.text, raw=ev.raw, nested=ev.nested, when=ev.when)
        )
        return Echoed(**{name: getattr(ev, name) for name in Everything.model_fields})


class Ask(StartEvent):
    """Begin a dialog with the topics to ask about, one after the other."""

    topics: list[str]


class Question(InputRequiredEvent):
    """Ask about a topic."""

    topic: str
    text: str


class Answer(HumanResponseEvent):
    """Answer the question about a topic."""

    topic: str
    text: str
    rating: int = Field(default=0, ge=0, le=5)


class Note(HumanResponseEvent):
    """Say something aside."""

    text: str


class Noted(Event, internal=True):
    """Tell the stream what was said aside. No client can send it."""

    text: str
    count: int


class Progress(HumanResponseEvent):
    """Tell the stream how far it is; clients may publish it too."""

    percent: float


class DialogState(BaseModel):
    """What a dialog knows."""

    title: str = ""
    count: int = 0
    answers: dict[str, str] = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list)


class Dialog(Workflow):
    """Ask a human about topics and keep what he says."""

    @step
    async def talk(self, ctx: Context[DialogState], ev: Ask) -> StopEvent:
        """Ask one question after the other."""
        said = []
        for topic in ev.topics:
            answer = await ctx.wait_for_event(
                Answer,
                waiter_event=Question(topic=topic, text=f"What of {topic}?"),
                waiter_id=f"about-{topic}",
                requirements={"topic": topic},
                timeout=3600,
            )
            await ctx.store.set(f"answers.{topic}", answer.text)
            said.append(answer.text)
        return StopEvent(result=said)

    @step(num_workers=1)
    async def note(self, ctx: Context[DialogState], ev: Note) -> None:
        """Count what is said aside."""
        count = await ctx.store.get("count") + 1
        await ctx.store.set("count", count)
        ctx.write_event_to_stream(Noted(text=ev.text, count=count))

    @step
    async def watch(self, ctx: Context[DialogState], ev: Progress) -> None:
        """Take progress that is sent, not published."""


class Pass(StartEvent):
    """Begin to pass a question on."""

    topic: str


class Asked(Event):
    """Tell the stream that a child has asked."""

    child: str


class Family(Workflow):
    """Have a dialog, as a run of its own, ask a human."""

    @step
    async def pass_on(self, ctx: Context[DictState], ev: Pass) -> StopEvent:
        """Start the dialog, tell when it has asked, and wait for what it was told."""
        dialog = ctx.start_run("dialog", topics=[ev.topic])
        async for event in dialog.stream_events():
            if isinstance(event, Question):
                break
        ctx.write_event_to_stream(Asked(child=dialog.run_id))
        return StopEvent(result=await dialog)


class Count(StartEvent):
    """Begin to count."""

    ticks: int = Field(ge=0)
    payload: str = ""


class Tick(Event):
    """One tick of the count."""

    number: int
    payload: str


class Counter(Workflow):
    """Write ticks to the stream and end with how many there were."""

    @step
    async def count(self, ctx: Context[DictState], ev: Count) -> StopEvent:
        """Count."""
        for number in range(1, ev.ticks + 1):
            ctx.write_event_to_stream(Tick(number=number, payload=ev.payload))
        await ctx.store.set("ticks", ev.ticks)
        return StopEvent(result=ev.ticks)


class Trouble(StartEvent):
    """Begin with what shall go wrong."""

    message: str


class Failing(Workflow):
    """Fail at once."""

    @step
    async def fail(self, ev: Trouble) -> StopEvent:
        """Raise."""
        raise ValueError(ev.message)


class Rest(StartEvent):
    """Begin to sleep, for so many seconds."""

    seconds: float


class Sleeper(Workflow):
    """Do one long step."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def sleep(self, ev: Rest) -> StopEvent:
        """Sleep."""
        await asyncio.sleep(ev.seconds)
        return StopEvent(result="rested")
