"""How events reach steps."""

import asyncio
from typing import Annotated, Any

from tests.llamaindex.beside.harness import Engine, flow, of, stream_of
from workflows import Context, Workflow, step
from workflows.collect import All, Collect, Take
from workflows.errors import WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent


class A(Event):
    n: int = 0


class SubA(A):
    pass


class B(Event):
    n: int = 0


class C(Event):
    n: int = 0


class Begin(StartEvent):
    topic: str


class End(StopEvent):
    outcome: str


@flow
async def own_start_and_stop_events(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ev: Begin) -> End:
            return End(outcome=ev.topic)

    workflow = Flow()
    by_field = await engine(workflow).run(topic="x")
    by_event = await engine(workflow).run(start_event=Begin(topic="y"))
    wrong = []
    for given in ({}, {"topic": []}, {"start_event": "no event"}):
        try:
            await engine(workflow).run(**given)
        except Exception as error:  # noqa: BLE001
            wrong.append((type(error), str(error)))
    return type(by_field), by_field.outcome, by_event.outcome, wrong


@flow
async def an_event_goes_to_all_steps_that_take_it(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        async def one(self, ev: A) -> B:
            return B(n=ev.n + 1)

        @step
        async def two(self, ev: A) -> C:
            return C(n=ev.n + 2)

        @step
        async def both(self, ctx: Context, ev: B | C) -> StopEvent | None:
            got = ctx.collect_events(ev, [B, C])
            return None if got is None else StopEvent(result=[(type(each), each.n) for each in got])

    return await of(engine(Flow(timeout=60)).run())


@flow
async def collected_events_come_in_the_order_that_was_asked(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | B | C | None:
            for each in (C(n=9), B(n=2), A(n=1), B(n=3)):
                ctx.send_event(each)
            return None

        @step(num_workers=1)
        async def collect(self, ctx: Context, ev: A | B | C) -> StopEvent | None:
            got = ctx.collect_events(ev, [A, B, B])
            return None if got is None else StopEvent(result=[each.n for each in got])

    return await of(engine(Flow(timeout=60)).run())


@flow
async def collecting_nothing_is_done_at_once(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ctx.collect_events(ev, []))

    return await of(engine(Flow()).run())


@flow
async def buffers_are_apart(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | None:
            for n in range(4):
                ctx.send_event(A(n=n))
            return None

        @step(num_workers=1)
        async def pair(self, ctx: Context, ev: A) -> B | None:
            got = ctx.collect_events(ev, [A, A], buffer_id=str(ev.n % 2))
            return None if got is None else B(n=sum(each.n for each in got))

        @step
        async def end(self, ctx: Context, ev: B) -> StopEvent | None:
            got = ctx.collect_events(ev, [B, B])
            return None if got is None else StopEvent(result=sorted(each.n for each in got))

    return await of(engine(Flow(timeout=60)).run())


@flow
async def an_event_for_one_step(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | None:
            errors = []
            for event, name in ((A(), "missing"), (B(), "one")):
                try:
                    ctx.send_event(event, step=name)
                except Exception as error:  # noqa: BLE001
                    errors.append((type(error), str(error)))
            await ctx.store.set("errors", errors)
            ctx.send_event(A(n=7), step="two")
            return None

        @step
        async def one(self, ev: A) -> StopEvent:
            return StopEvent(result="the wrong one")

        @step
        async def two(self, ctx: Context, ev: A) -> StopEvent:
            return StopEvent(result=(ev.n, await ctx.store.get("errors")))

    return await of(engine(Flow(timeout=60)).run())


@flow
async def subclasses_are_taken_only_where_a_step_says_so(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> SubA:
            return SubA(n=4)

        @step(accept_event_subclasses=True)
        async def broad(self, ev: A) -> StopEvent:
            return StopEvent(result=(type(ev), ev.n))

    class Narrow(Flow):
        @step(skip_graph_checks=["reachability"])
        async def broad(self, ev: SubA) -> StopEvent:
            return StopEvent(result="exact")

    return await of(engine(Flow(timeout=60)).run()), await of(engine(Narrow(timeout=60)).run())


@flow
async def lists_are_fanned_out_and_joined(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(ev.count)]

        @step(num_workers=2)
        async def work(self, ev: A) -> B | None:
            return None if ev.n == 1 else B(n=ev.n * 2)

        @step
        async def join(self, events: Annotated[list[B], Collect(All())]) -> StopEvent:
            return StopEvent(result=sorted(each.n for each in events))

    return [await of(engine(Flow(timeout=60)).run(count=count)) for count in (0, 1, 2, 5)]


@flow
async def the_first_ones_are_taken(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(ev.count)]

        @step(num_workers=1)
        async def work(self, ev: A) -> B:
            return B(n=ev.n)

        @step
        async def join(self, events: Annotated[list[B], Collect(Take(2))]) -> StopEvent:
            return StopEvent(result=[each.n for each in events])

    return [await of(engine(Flow(timeout=60)).run(count=count)) for count in (2, 5)]


@flow
async def lists_in_lists(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def outer(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in (1, 2, 3)]

        @step
        async def inner(self, ev: A) -> list[B]:
            return [B(n=ev.n) for _ in range(ev.n)]

        @step
        async def add(self, events: list[B]) -> C:
            return C(n=sum(each.n for each in events))

        @step
        async def total(self, events: list[C]) -> StopEvent:
            return StopEvent(result=sorted(each.n for each in events))

    return await of(engine(Flow(timeout=60)).run())


@flow
async def lists_of_several_types(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[A | B]:
            return [A(n=1), B(n=2), A(n=3)]

        @step
        async def one(self, ev: A) -> C:
            return C(n=ev.n)

        @step
        async def two(self, ev: B) -> C:
            return C(n=ev.n * 100)

        @step
        async def join(self, events: list[C]) -> StopEvent:
            return StopEvent(result=sorted(each.n for each in events))

    return await of(engine(Flow(timeout=60)).run())


@flow
async def several_parameters_are_filled(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def one(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        async def two(self, ev: StartEvent) -> B:
            return B(n=2)

        @step
        async def both(self, ctx: Context, first: A, second: B) -> StopEvent:
            return StopEvent(result=(first.n, second.n))

    return await of(engine(Flow(timeout=60)).run())


@flow
async def what_a_step_may_not_return(engine: Engine) -> Any:
    class Text(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return "text"  # type: ignore[return-value]

    class Mixed(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[A]:
            return [A(), "text"]  # type: ignore[list-item]

        @step
        async def join(self, events: list[A]) -> StopEvent:
            return StopEvent()

    return [await of(engine(kind(timeout=60)).run()) for kind in (Text, Mixed)]


@flow
async def the_stream_has_what_was_written_in_order(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for n in range(5):
                ctx.write_event_to_stream(A(n=n))
                await asyncio.sleep(0)
            ctx.write_event_to_stream(None)
            return StopEvent(result="end")

    handler = engine(Flow()).run()
    first = await stream_of(handler)
    try:
        await stream_of(handler)
    except Exception as error:  # noqa: BLE001
        return first, type(error), str(error), await of(handler)
    return first, "read twice"


@flow
async def a_free_function_is_a_step(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> A:
            return A(n=1)

    @step(workflow=Flow)
    def end(ev: A) -> StopEvent:
        return StopEvent(result=ev.n)

    return await of(engine(Flow(timeout=60)).run())


@flow
async def a_step_of_a_base_class(engine: Engine) -> Any:
    class Base(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        async def end(self, ev: A) -> StopEvent:
            return StopEvent(result="base")

    class Flow(Base):
        @step
        async def end(self, ev: A) -> StopEvent:
            return StopEvent(result=("derived", (await super().end(ev)).result))

    return await of(engine(Flow(timeout=60)).run())


@flow
async def workflows_that_do_not_fit(engine: Engine) -> Any:
    class Unconsumed(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> A | StopEvent:
            return StopEvent()

    class Unproduced(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def never(self, ev: A) -> StopEvent:
            return StopEvent()

    class Stopped(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def after(self, ev: StopEvent) -> StopEvent:
            return StopEvent()

    told = []
    for kind in (Unconsumed, Unproduced, Stopped):
        try:
            await engine(kind()).run()
        except WorkflowValidationError as error:
            told.append(str(error))
    for workflow in (Unproduced(disable_validation=True), Unproduced(skip_graph_checks={"reachability"})):
        try:
            told.append(await engine(workflow).run())
        except WorkflowValidationError as error:
            told.append(str(error))
    return told
