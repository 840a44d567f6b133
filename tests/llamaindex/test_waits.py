"""What an event finds: waits that are about to be opened, several of one id, and steps that wait for what they take."""

import asyncio
from typing import Any

import pytest
from tests.unit.semantics.harness import DurableRun
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from stepwire.workflow import adopt


class Note(Event):
    text: str


class Left(Event):
    pass


class Right(Event):
    pass


class Answered(Event):
    text: str


async def test_what_is_sent_right_after_the_start_finds_the_wait_of_the_first_step() -> None:
    class First(Workflow):
        @step
        async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await ctx.wait_for_event(Note)).text)

    handler = adopt(First(timeout=60)).run()
    handler.ctx.send_event(Note(text="early"))
    assert await handler == "early"


class ToItself(Workflow):
    """Send a note and wait for it, without letting go between."""

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.send_event(Note(text="mine"))
        heard = await ctx.wait_for_event(Note, waiter_event=InputRequiredEvent(prefix="?"))
        again = await ctx.wait_for_event(HumanResponseEvent)
        return StopEvent(result=(heard.text, again.text))


async def test_a_step_hears_what_it_has_just_sent() -> None:
    handler = adopt(ToItself(timeout=60, disable_validation=True)).run()
    await asyncio.sleep(0.01)
    handler.ctx.send_event(HumanResponseEvent(text="yours"))
    assert await handler == ("mine", "yours")


async def test_a_step_that_begins_again_has_heard_what_it_sent() -> None:
    run = DurableRun(adopt(ToItself(timeout=None, disable_validation=True))).start(StartEvent())
    await run.until(lambda run: run.broker.work.parked)
    run = run.crash_and_recover()
    run.send(HumanResponseEvent(text="yours"))
    assert (await run.ended()).event.result == ("mine", "yours")
    assert [entry.type for entry in run.log].count("Note") == 1


async def test_what_was_sent_before_the_step_let_go_answers_no_later_wait() -> None:
    class Late(Workflow):
        @step
        async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.send_event(Note(text="gone"))
            await asyncio.sleep(0.01)
            return StopEvent(result=(await ctx.wait_for_event(Note)).text)

    handler = adopt(Late(timeout=60, disable_validation=True)).run()
    await asyncio.sleep(0.05)
    assert not handler.is_done()
    handler.ctx.send_event(Note(text="there"))
    assert await handler == "there"


class TakesAndWaits(Workflow):
    """Wait for a type of event that the step takes, too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.came: list[str] = []

    @step
    async def begin(self, ev: StartEvent) -> Note:
        return Note(text="first")

    @step
    async def take(self, ctx: Context, ev: Note) -> StopEvent:
        self.came.append(ev.text)
        return StopEvent(result=(await ctx.wait_for_event(Note, waiter_event=InputRequiredEvent())).text)


async def test_an_event_that_answers_a_wait_does_not_come_to_the_step_as_well() -> None:
    workflow = TakesAndWaits(timeout=60)
    handler = adopt(workflow).run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(Note(text="second"))
    assert await handler == "second"
    assert workflow.came == ["first"]


async def test_one_event_answers_the_waits_of_all_steps_also_if_they_have_one_id() -> None:
    class Two(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Left | Right | None:
            ctx.send_event(Left())
            ctx.send_event(Right())
            return None

        @step
        async def left(self, ctx: Context, ev: Left) -> Answered:
            return Answered(text=(await ctx.wait_for_event(HumanResponseEvent, waiter_id="same")).text + " left")

        @step
        async def right(self, ctx: Context, ev: Right) -> Answered:
            return Answered(text=(await ctx.wait_for_event(HumanResponseEvent, waiter_id="same")).text + " right")

        @step
        async def both(self, ctx: Context, ev: Answered) -> StopEvent | None:
            found = ctx.collect_events(ev, [Answered] * 2)
            return None if found is None else StopEvent(result=sorted(each.text for each in found))

    handler = adopt(Two(timeout=60)).run()
    await asyncio.sleep(0.02)
    handler.ctx.send_event(HumanResponseEvent(text="ok"))
    assert await handler == ["ok left", "ok right"]


class Asks(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Left:
        await ctx.store.set("begun", await ctx.store.get("begun", default=0) + 1)
        return Left()

    @step
    async def ask(self, ctx: Context, ev: Left) -> StopEvent:
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(), requirements={"to": "me"}
        )
        return StopEvent(result=(answer.text, await ctx.store.get("begun")))


@pytest.mark.parametrize("how", ["cancel_run", "shutdown"])
async def test_a_cancelled_run_goes_on_from_its_context(how: str) -> None:
    workflow = Asks(timeout=60)
    handler = adopt(workflow).run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    await (handler.cancel_run() if how == "cancel_run" else handler.ctx._face.shutdown())
    saved = handler.ctx.to_dict()
    assert saved["is_running"]
    assert not handler.ctx.is_running
    again = adopt(workflow).run(ctx=Context.from_dict(workflow, saved))
    again.ctx.send_event(HumanResponseEvent(text="well", to="me"))
    assert await again == ("well", 1)


async def test_the_context_of_a_cancelled_run_begins_a_new_one() -> None:
    workflow = Asks(timeout=60)
    handler = adopt(workflow).run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    await handler.cancel_run()
    again = adopt(workflow).run(ctx=handler.ctx)
    asked = 0
    async for event in again.stream_events():
        if isinstance(event, InputRequiredEvent):
            asked += 1
            again.ctx.send_event(HumanResponseEvent(text="new", to="me"))
    assert await again == ("new", 2)
    assert asked == 1
