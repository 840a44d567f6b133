"""The workflows that the benchmarks run, on Stepwire or, by the variable BENCH_ENGINE, on another engine of this model.

stepwire serve benchmarks/peer/flows.py
"""

import asyncio
import importlib
import os
import time

PACKAGE = os.environ.get("BENCH_ENGINE", "stepwire.workflow")
engine = importlib.import_module(PACKAGE)
events = importlib.import_module(f"{PACKAGE}.events")
Context, Workflow, step = engine.Context, engine.Workflow, engine.step
Event, StartEvent, StopEvent = events.Event, events.StartEvent, events.StopEvent

TEXT = "x" * 189
"""What makes the JSON of a `Token` 200 bytes long."""
FRAME = 64
"""After how many events a run lets others go on, as an author's loop over a model's answer would."""


class Number(Event):
    number: int = 0


class Work(Number):
    pass


class Done(Number):
    pass


class Token(Event):
    text: str = TEXT


class Ping(events.HumanResponseEvent):
    text: str = TEXT


class Question(events.InputRequiredEvent):
    number: int = 0


class Answer(events.HumanResponseEvent):
    number: int = 0


class Go(events.HumanResponseEvent):
    count: int = 1


class Trivial(Workflow):
    """One step: the least that a run can be."""

    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


class Wait(Workflow):
    """Wait for an answer and do nothing else: the least that a waiting run can be."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=None)).number)


class Park(Workflow):
    """Set a value, then wait for an answer; take pings meanwhile."""

    @step
    async def park(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("text", TEXT)
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=None)).number)

    @step
    async def take(self, ev: Ping) -> None:
        pass


async def write(ctx: Context, count: int) -> None:
    for number in range(1, count + 1):
        ctx.write_event_to_stream(Token())
        if number % FRAME == 0:
            await asyncio.sleep(0)


class Talk(Workflow):
    """Write `count` events to the stream at once; with 0, as many as `Go` says once it comes.

    With `marks` instead, the result is the process's CPU seconds when each of those was written.
    """

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
        marks = ev.get("marks", [ev.get("count", 1)])
        seconds: list[float] = []
        for before, mark in zip([0, *marks], marks, strict=False):
            await write(ctx, mark - before)
            seconds.append(time.process_time())
        return StopEvent(result=seconds) if marks[-1] else None

    @step
    async def go_on(self, ctx: Context, ev: Go) -> StopEvent:
        await write(ctx, ev.count)
        return StopEvent(result="done")


class PingPong(Workflow):
    """Ask `count` questions, one after the other, in one step."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(ev.get("count", 1)):
            asked, required = Question(number=number), {"number": number}
            await ctx.wait_for_event(Answer, asked, f"question-{number}", required, timeout=None)
        return StopEvent(result="done")


class Quiz(Workflow):
    """Ask `count` questions by events, the way that the documentation of llama-index-workflows shows."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Question:
        await ctx.store.set("count", ev.get("count", 1))
        return Question(number=0)

    @step
    async def go_on(self, ctx: Context, ev: Answer) -> Question | StopEvent:
        if ev.number + 1 >= await ctx.store.get("count"):
            return StopEvent(result="done")
        return Question(number=ev.number + 1)


class Survey(Workflow):
    """Ask `count` questions at once, each in a step of its own."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
        for number in range(ev.count):
            ctx.send_event(Work(number=number))
        return None

    @step
    async def ask(self, ctx: Context, ev: Work) -> StopEvent | None:
        required = {"number": ev.number}
        await ctx.wait_for_event(Answer, None, f"question-{ev.number}", required, timeout=None)
        return None


class Busy(Workflow):
    """Be at work for longer than anyone measures."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(24 * 3600)
        return StopEvent(result=None)


class Chain(Workflow):
    """`steps` steps, one after the other; with `parks`, a wait for an answer after them."""

    parks = False

    @step
    async def begin(self, ev: StartEvent) -> Work:
        return Work(number=ev.steps)

    @step
    async def hop(self, ev: Work) -> Work | Done | StopEvent:
        if ev.number > 1:
            return Work(number=ev.number - 1)
        return Done() if self.parks else StopEvent(result="done")

    @step
    async def wait(self, ctx: Context, ev: Done) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=3600)).number)


class FanOut(Workflow):
    """An event for each of `expected` over 8 workers, collected."""

    expected = ()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Work | None:
        for number in range(len(self.expected)):
            ctx.send_event(Work(number=number))
        return None

    @step(num_workers=8)
    async def work(self, ev: Work) -> Done:
        return Done(number=ev.number)

    @step
    async def collect(self, ctx: Context, ev: Done) -> StopEvent | None:
        found = ctx.collect_events(ev, self.expected)
        return None if found is None else StopEvent(result=len(found))
