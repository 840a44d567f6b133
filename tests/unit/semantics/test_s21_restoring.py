"""S19, S21: validators run once over a value, and private attributes are part of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field, PrivateAttr, field_validator, model_validator
from tests.unit.semantics.harness import DurableRun

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


class Proceed(HumanResponseEvent):
    pass


class Money(BaseModel):
    """Validators that accept what a caller gives, and not what they make of it, or make something else of it."""

    cents: int = 0
    tags: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @field_validator("cents")
    @classmethod
    def _of_euros(cls, value: int) -> int:
        return value * 100

    @field_validator("tags", mode="before")
    @classmethod
    def _split(cls, value: str) -> list[str]:
        return value.split(",")


class Bill(Event):
    money: Money
    cents: int

    def __init__(self, euros: int, /, **fields: Any) -> None:
        super().__init__(cents=euros, **fields)

    @field_validator("cents")
    @classmethod
    def _of_euros(cls, value: int) -> int:
        return value * 100


class Till(Money):
    bills: list[Money] = Field(default_factory=list)
    _opened: int = PrivateAttr(default=0)
    _last: str = PrivateAttr()


class Selling(Workflow):
    @step
    async def begin(self, ctx: Context[Till], ev: StartEvent) -> Bill:
        await ctx.store.set("cents", 3)
        await ctx.store.set("tags", "a,b")
        async with ctx.store.edit_state() as till:
            till._opened += 1
            till._last = "Ada"
            till.bills.append(Money(cents=2))
        return Bill(3, money=Money(cents=1, tags="c,d"))

    @step
    async def hold(self, ctx: Context[Till], ev: Bill) -> StopEvent:
        await ctx.wait_for_event(Proceed, waiter_event=InputRequiredEvent())
        till = await ctx.store.get_state()
        return StopEvent(result=[shown(till), [shown(each) for each in till.bills], ev.cents, shown(ev.money)])


def shown(money: Money) -> str:
    private = f" {money._opened} {money._last}" if isinstance(money, Till) else ""
    return f"{money.cents} {'-'.join(money.tags)}{private}"


EXPECTED = ["300 a-b 1 Ada", ["200 "], 300, "100 c-d"]


async def test_s21_loading_runs_no_validator_over_values_that_passed_it() -> None:
    run = DurableRun(Selling()).start()
    await run.until(lambda run: run.kept("w"))
    for _ in range(2):
        run.crash_and_recover()
    fork = run.fork()
    for each in (run, fork):
        each.send(Proceed())
        assert (await each.ended()).event.result == EXPECTED


async def test_s21_from_dict_runs_no_validator_over_values_that_passed_it() -> None:
    workflow = Selling()
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    saved = json.loads(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    context: Context[Till] = Context.from_dict(workflow, saved)
    handler = workflow.run(ctx=context)
    context.send_event(Proceed())
    assert await handler == EXPECTED


async def test_s21_what_was_changed_in_place_comes_back_though_no_validator_saw_it() -> None:
    context: Context[Till] = Context(Selling())
    (await context.store.get("notes")).append(7)
    restored: Context[Till] = Context.from_dict(Selling(), json.loads(json.dumps(context.to_dict())))
    assert await restored.store.get("notes") == [7]


class Indexed(BaseModel):
    names: list[str] = Field(default_factory=list)
    _index: dict[str, int] = PrivateAttr()
    _missing: int = PrivateAttr()

    def model_post_init(self, context: object) -> None:
        self._index = {name: n for n, name in enumerate(self.names)}


class Indexing(Workflow):
    @step
    async def index(self, ctx: Context[Indexed], ev: StartEvent) -> Event:
        async with ctx.store.edit_state() as state:
            state.names = ["ada"]
            state._index["bob"] = 5
        return Event()

    @step
    async def hold(self, ctx: Context[Indexed], ev: Event) -> StopEvent:
        live: Indexed = await ctx.store.get("")
        live._index["eve"] = 6  # in place
        await ctx.wait_for_event(Proceed, waiter_event=InputRequiredEvent())
        state = await ctx.store.get_state()
        return StopEvent(result=[state._index, hasattr(state, "_missing")])


async def test_s21_private_attributes_of_a_typed_state_come_back() -> None:
    run = DurableRun(Indexing()).start()
    await run.until(lambda run: run.kept("w"))
    run.crash_and_recover()
    run.send(Proceed())
    assert (await run.ended()).event.result == [{"bob": 5, "eve": 6}, False]


async def test_s21_a_snapshot_without_private_attributes_has_those_of_a_new_state() -> None:
    run = DurableRun(Indexing()).start()
    await run.until(lambda run: run.kept("w"))
    run.parts = {key: part for key, part in run.parts.items() if key != "s/_index"}  # as earlier versions saved it
    run.crash_and_recover()
    assert (await run.context.store.get_state())._index == {"ada": 0}


class Bounds(BaseModel):
    low: int = 0
    high: int = 10
    lines: list[Money] = Field(default_factory=list)
    _touched: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.low > self.high:
            raise ValueError("low above high")
        return self


WRONG_CENTS: dict[str, Any] = {"cents": "x"}
WRONG: dict[str, Any] = {"low": "x"}
TEXT: dict[str, Any] = {"low": "3"}


class Empty(Workflow):
    @step
    async def work(self, ctx: Context[Bounds], ev: StartEvent) -> StopEvent:
        return StopEvent()


async def test_s19_an_edit_validates_what_it_touched_and_nothing_else() -> None:
    context: Context[Bounds] = Context(Empty())
    store = context.store
    async with store.edit_state() as state:
        state.lines = [Money(cents=1), Money(cents=2)]
    first, second = (await store.get_state()).lines
    for change in (
        lambda state: state.lines.insert(0, Money(cents=3)),
        lambda state: setattr(state, "low", "4"),
        lambda state: state.lines[1].notes.append("n"),
        lambda state: state.lines.reverse(),
        lambda state: setattr(state, "_touched", 1),
    ):
        async with store.edit_state() as state:
            change(state)
    state = await store.get_state()
    assert [line.cents for line in state.lines] == [200, 100, 300]
    assert (state.low, state._touched, state.lines[1].notes) == (4, 1, ["n"])
    async with store.edit_state() as state:
        state.lines[0].cents = 5
    assert (await store.get_state()).lines[0].cents == 500
    for wrong in (
        lambda state: setattr(state, "low", 11),
        lambda state: setattr(state, "high", "x"),
        lambda state: setattr(state.lines[0], "cents", "x"),
        lambda state: state.lines.append(Money.model_construct(**WRONG_CENTS)),
    ):
        with pytest.raises(ValueError, match=r"low above high|should be a valid integer"):
            async with store.edit_state() as state:
                wrong(state)
    assert [line.cents for line in (await store.get_state()).lines] == [500, 100, 300]
    assert (first.cents, second.cents) == (100, 200)


async def test_s19_set_state_validates_what_no_validator_has_seen() -> None:
    context: Context[Bounds] = Context(Empty())
    await context.store.set_state(Bounds(lines=[Money(cents=1)]))
    assert (await context.store.get_state()).lines[0].cents == 100
    for wrong in Bounds.model_construct(low=11), Bounds.model_construct(**WRONG):
        with pytest.raises(ValueError, match=r"low above high|should be a valid integer"):
            await context.store.set_state(wrong)
    converted = Bounds.model_construct(**TEXT)
    await context.store.set_state(converted)
    assert (await context.store.get_state()).low == 3
    assert repr(converted.low) == "'3'"  # the caller's own object stays as it is


class Counted(BaseModel):
    names: list[str] = Field(default_factory=list)
    _index: dict[str, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _count(self) -> Counted:
        for name in self.names:
            self._index[name] = len(name)
        return self


class Counts(Workflow):
    @step
    async def count(self, ctx: Context[Counted], ev: StartEvent) -> StopEvent:
        await ctx.store.set("names", ["ada"])
        await ctx.wait_for_event(Proceed, waiter_event=InputRequiredEvent())
        return StopEvent(result=(await ctx.store.get_state())._index)


async def test_s21_private_attributes_that_a_validator_keeps_come_back() -> None:
    run = DurableRun(Counts()).start()
    await run.until(lambda run: run.kept("w"))
    assert json.loads(run.parts["s/_index"]) == {"ada": 3}
    run.crash_and_recover()
    run.send(Proceed())
    assert (await run.ended()).event.result == {"ada": 3}
