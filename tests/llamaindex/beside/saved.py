"""Saved contexts, read again."""

import asyncio
import json
from typing import Any

from pydantic import BaseModel, PrivateAttr
from tests.llamaindex.beside.common import A, Asking, B, Counting, raised, until_asked
from tests.llamaindex.beside.harness import Engine, flow, of
from workflows import Context, Workflow, catch_error, step
from workflows.context import JsonSerializer, PickleSerializer
from workflows.events import (
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Base(BaseModel):
    name: str = "Jane"
    age: int = 25


class Hidden(StartEvent):
    _lock: Any = PrivateAttr(default=None)


class Opaque:
    pass


def saved(handler: Any, serializer: Any = None) -> Any:
    """Return the payload of a context as it comes back from a file."""
    return json.loads(json.dumps(handler.ctx.to_dict(serializer)))


async def asked_and_restored(engine: Engine, workflow: Workflow, *, settled: bool = False) -> Any:
    """Run until a question is asked, save and cancel; return the run that goes on from what was saved.

    With `settled`, the steps beside the question get time to end.
    """
    handler = engine(workflow).run()
    await until_asked(handler)
    if settled:
        await asyncio.sleep(0.02)
    payload = saved(handler)
    await handler.cancel_run()
    return engine(workflow).run(ctx=Context.from_dict(workflow, payload))


@flow
async def a_context_is_used_again(engine: Engine) -> Any:
    workflow = Counting()
    ctx: Context = Context(workflow)
    await ctx.store.set("n", 10)
    results = [await engine(workflow).run(ctx=ctx) for _ in range(3)]
    again: Context = Context.from_dict(workflow, json.loads(json.dumps(ctx.to_dict())))
    results.append(await engine(workflow).run(ctx=again))
    return results, ctx.is_running, await ctx.store.get("n"), await again.store.get("n")


@flow
async def a_saved_context_is_another_workflows(engine: Engine) -> Any:
    class Reading(Workflow):
        @step
        async def read(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await ctx.store.get("n"), await ctx.store.get("added", default=None)))

    handler = engine(Counting()).run()
    await handler
    reading = Reading()
    plain: Context = Context.from_dict(reading, saved(handler))
    touched: Context = Context.from_dict(reading, saved(handler))
    await touched.store.set("added", "new")
    return await of(engine(reading).run(ctx=plain)), await of(engine(reading).run(ctx=touched))


@flow
async def the_form_of_a_saved_state(engine: Engine) -> Any:
    class Typed(Workflow):
        @step
        async def only(self, ctx: Context[Base], ev: StartEvent) -> StopEvent:
            await ctx.store.set("age", 31)
            return StopEvent()

    told = []
    for workflow in (Counting(), Typed()):
        handler = engine(workflow).run()
        await handler
        payload = saved(handler)
        state = {key: value for key, value in payload["state"].items() if key != "stepwire"}
        told.append((payload["version"], payload["is_running"], state, sorted(payload["workers"])))
    return told


@flow
async def a_question_goes_on_after_a_restore(engine: Engine) -> Any:
    workflow = Asking(timeout=60)
    handler = engine(workflow).run()
    await until_asked(handler)
    payload = saved(handler)
    waiters = [waiter for worker in payload["workers"].values() for waiter in worker["collected_waiters"]]
    named = [waiter["waiter_id"].endswith(f"_{waiter['work_item_id']}") for waiter in waiters]
    await handler.cancel_run()
    ctx: Context = Context.from_dict(workflow, payload)
    running = ctx.is_running
    handler = engine(workflow).run(ctx=ctx)
    handler.ctx.send_event(HumanResponseEvent(response="fine"))
    return named, running, await of(handler), handler.ctx.is_running


@flow
async def a_wait_with_requirements_goes_on_after_a_restore(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent(), requirements={"response": "go"})
            return StopEvent(result=answer.response)

    workflow = Flow(timeout=60)
    handler = await asked_and_restored(engine, workflow)
    for text in ("no", "go"):
        handler.ctx.send_event(HumanResponseEvent(response=text))
    return await of(handler)


@flow
async def requirements_that_cannot_be_saved(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(
                HumanResponseEvent, InputRequiredEvent(), waiter_id="one", requirements={"kind": Opaque}
            )
            return StopEvent(result=answer.response)

    workflow = Flow(timeout=60)
    handler = engine(workflow).run()
    await until_asked(handler)
    payload = handler.ctx.to_dict(serializer=PickleSerializer())
    await handler.cancel_run()
    handler = engine(workflow).run(ctx=Context.from_dict(workflow, payload, serializer=PickleSerializer()))
    handler.ctx.send_event(HumanResponseEvent(kind=Opaque, response="fine"))
    return await of(handler)


@flow
async def work_in_progress_is_saved(engine: Engine) -> Any:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Flow(Workflow):
        started = 0

        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> A | None:
            for n in range(4):
                ctx.send_event(A(n=n))
            return None

        @step(num_workers=2)
        async def work(self, ev: A) -> B:
            self.started += 1
            if self.started == 3:
                begun.set()
            if ev.n:
                await go_on.wait()
            return B(n=ev.n)

        @step
        async def end(self, ctx: Context, ev: B) -> StopEvent | None:
            got = ctx.collect_events(ev, [B] * 4)
            return None if got is None else StopEvent(result=sorted(each.n for each in got))

    workflow = Flow(timeout=60)
    handler = engine(workflow).run()
    await begun.wait()
    await asyncio.sleep(0.01)
    payload = saved(handler)
    counts = {
        name: (len(worker["queue"]) + len(worker["in_progress"]), len(worker["collected_events"].get("default", [])))
        for name, worker in payload["workers"].items()
    }
    await handler.cancel_run()
    handler = engine(workflow).run(ctx=Context.from_dict(workflow, payload))
    go_on.set()
    return counts, await of(handler)


@flow
async def values_that_only_pickle_saves(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            before = await ctx.store.get("value", default=None)
            await ctx.store.set("value", Opaque)
            return StopEvent(result=before)

    workflow = Flow()
    handler = engine(workflow).run()
    await handler
    plain = await raised(handler.ctx.to_dict)
    payload = handler.ctx.to_dict(serializer=PickleSerializer())
    ctx: Context = Context.from_dict(workflow, payload, serializer=PickleSerializer())
    return plain is not None and issubclass(plain[0], ValueError), await of(engine(workflow).run(ctx=ctx))


@flow
async def private_attributes_do_not_hinder_saving(engine: Engine) -> Any:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Flow(Workflow):
        @step
        async def only(self, ev: Hidden) -> StopEvent:
            begun.set()
            await go_on.wait()
            return StopEvent(result="done")

    event = Hidden()
    event._lock = asyncio.Lock()
    handler = engine(Flow(timeout=60)).run(start_event=event)
    await begun.wait()
    payload = handler.ctx.to_dict()
    go_on.set()
    return payload["is_running"], await of(handler)


@flow
async def explicit_serializers(engine: Engine) -> Any:
    workflow = Asking(timeout=60, serializer=JsonSerializer(allowed_types=[HumanResponseEvent]))
    handler = await asked_and_restored(engine, workflow)
    handler.ctx.send_event(HumanResponseEvent(response="again"))
    return await of(handler)


@flow
async def a_list_under_way_is_saved(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(3)]

        @step
        async def work(self, ctx: Context, ev: A) -> B:
            if ev.n == 1:
                await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent())
            return B(n=ev.n)

        @step
        async def join(self, events: list[B]) -> StopEvent:
            return StopEvent(result=sorted(each.n for each in events))

    workflow = Flow(timeout=60)
    handler = await asked_and_restored(engine, workflow, settled=True)
    handler.ctx.send_event(HumanResponseEvent())
    return await of(handler)


@flow
async def several_parameters_under_way_are_saved(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def one(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        async def two(self, ctx: Context, ev: StartEvent) -> B:
            await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent())
            return B(n=2)

        @step
        async def both(self, first: A, second: B) -> StopEvent:
            return StopEvent(result=(first.n, second.n))

    workflow = Flow(timeout=60)
    handler = await asked_and_restored(engine, workflow, settled=True)
    handler.ctx.send_event(HumanResponseEvent())
    return await of(handler)


@flow
async def a_retry_that_is_due_is_saved(engine: Engine) -> Any:
    failed = asyncio.Event()

    class Flow(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0.2), stop=stop_after_attempt(2)))
        async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
            info = ctx.retry_info()
            if not info.retry_number:
                failed.set()
                raise KeyError("first")
            return StopEvent(result=(info.retry_number, repr(info.last_exception), info.last_failed_at is not None))

    workflow = Flow(timeout=60)
    handler = engine(workflow).run()
    await failed.wait()
    await asyncio.sleep(0.02)
    payload = saved(handler)
    await handler.cancel_run()
    return await of(engine(workflow).run(ctx=Context.from_dict(workflow, payload)))


@flow
async def a_failure_that_a_step_deals_with_is_saved(engine: Engine) -> Any:
    class Refused(Exception):
        pass

    class Flow(Workflow):
        @step
        async def fail(self, ev: StartEvent | A) -> A | StopEvent:
            raise Refused("no") if isinstance(ev, StartEvent) else KeyError(ev.n)

        @catch_error(max_recoveries=2)
        async def deal(self, ctx: Context, ev: StepFailedEvent) -> A | StopEvent:
            about = (
                type(ev.input_event).__name__,
                ev.step_name,
                str(ev.exception),
                ev.attempts,
                ev.failed_at.utcoffset(),
            )
            await ctx.store.set("seen", [*await ctx.store.get("seen", default=[]), repr(about)])
            if isinstance(ev.input_event, A):
                return StopEvent(result=await ctx.store.get("seen"))
            await ctx.wait_for_event(HumanResponseEvent, InputRequiredEvent())
            return A(n=1)

    workflow = Flow(timeout=60)
    handler = await asked_and_restored(engine, workflow, settled=True)
    handler.ctx.send_event(HumanResponseEvent())
    kind, result = await of(handler)
    return kind, sorted(set(result))  # a step that waits begins again on their engine
