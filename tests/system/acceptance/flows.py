"""A workflow that says much, for the tests of growth."""

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

LANES = 20


class Talk(StartEvent):
    """Begin; `rounds` words, a multiple of LANES, go through the run before it waits."""

    rounds: int


class Word(Event):
    """Go round once."""

    number: int


class LaneDone(Event):
    """Tell that a lane has said all its words."""


class Quiet(InputRequiredEvent):
    """Tell that all was said, and ask to be hushed."""

    said: int


class Hush(HumanResponseEvent):
    """End the run, from outside."""


class Chatter(Workflow):
    """Send itself one event after another, some at a time, counting them in the state; then wait to be hushed."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @step
    async def begin(self, ctx: Context[DictState], ev: Talk) -> list[Word]:
        """Send the first words."""
        async with ctx.store.edit_state() as state:
            state.said = 0
            state.rounds = ev.rounds
        return [Word(number=number) for number in range(LANES)]

    @step(num_workers=LANES)
    async def speak(self, ctx: Context[DictState], ev: Word) -> Word | LaneDone:
        """Count the word and send the next one of this lane."""
        async with ctx.store.edit_state() as state:
            state.said += 1
            rounds = state.rounds
        following = ev.number + LANES
        return Word(number=following) if following < rounds else LaneDone()

    @step(num_workers=1)
    async def rest(self, ctx: Context[DictState], ev: LaneDone) -> StopEvent | None:
        """Wait to be hushed once every lane is done; then nothing else is left of the run."""
        if ctx.collect_events(ev, [LaneDone] * LANES) is None:
            return None
        said = await ctx.store.get("said")
        await ctx.wait_for_event(Hush, waiter_event=Quiet(said=said), waiter_id="hush", timeout=None)
        return StopEvent(result="quiet")
