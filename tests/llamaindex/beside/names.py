"""Names of 2.x that no other flow uses: the rest of the retry policies, and what workflows and handlers have."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel
from tests.llamaindex.beside.common import Asking, raised, until_asked
from tests.llamaindex.beside.failures import ERRORS, failing
from tests.llamaindex.beside.harness import Engine, flow, of
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent, WorkflowCancelledEvent
from workflows.resource import Resource, ResourceConfig
from workflows.retry_policy import (
    retry_all,
    retry_always,
    retry_any,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_exception_type,
    retry_if_not_exception_message,
    retry_never,
    retry_policy,
    retry_unless_exception_type,
    stop_after_attempt,
    stop_all,
    stop_any,
    stop_never,
    wait_combine,
    wait_exponential,
    wait_fixed,
    wait_full_jitter,
    wait_none,
    wait_random_exponential,
)

FEW = stop_after_attempt(4)
SHORT = {"multiplier": 0.0001, "max": 0.001}
CONDITIONS = {
    "always": retry_always(),
    "never": retry_never(),
    "if": retry_if_exception(lambda error: "one" in str(error)),
    "not the message": retry_if_not_exception_message(match="three"),
    "unless": retry_unless_exception_type(OSError),
    "all": retry_all(retry_if_exception_type(ValueError), retry_if_exception(lambda error: "one" in str(error))),
    "any": retry_any(retry_if_exception_type(ValueError), retry_if_exception_type(LookupError)),
}
STOPS = {
    "all": stop_all(stop_after_attempt(2), stop_after_attempt(3)),
    "any": stop_any(stop_after_attempt(2), stop_never()),
    "never": stop_never(),
}
WAITS = {
    "none": wait_none(),
    "combined": wait_combine(wait_fixed(0.0001), wait_none()),
    "exponential": wait_exponential(**SHORT),
    "full jitter": wait_full_jitter(**SHORT),
    "random": wait_random_exponential(**SHORT),
}


class Settings(BaseModel):
    colour: str
    deep: int = 0


@flow
async def more_retry_policies(engine: Engine) -> Any:
    policies = {
        f"retry {name}": retry_policy(retry=each, wait=wait_none(), stop=FEW) for name, each in CONDITIONS.items()
    }
    policies |= {f"stop {name}": retry_policy(wait=wait_none(), stop=each) for name, each in STOPS.items()}
    policies |= {f"wait {name}": retry_policy(wait=each, stop=FEW) for name, each in WAITS.items()}
    told: dict[str, Any] = {}
    for name, policy in policies.items():
        workflow = failing(policy, ERRORS)()
        told[name] = await of(engine(workflow).run()), workflow.told  # type: ignore[attr-defined]
    return told


@flow
async def a_retry_by_the_cause_of_a_failure(engine: Engine) -> Any:
    told = []
    for wanted in (KeyError, OSError):

        class Flow(Workflow):
            tried = 0

            @step(retry_policy=retry_policy(retry=retry_if_exception_cause_type(wanted), wait=wait_none(), stop=FEW))
            async def fail(self, ev: StartEvent) -> StopEvent:
                self.tried += 1
                raise ValueError("outer") from KeyError("inner")

        workflow = Flow(timeout=60)
        told.append((await of(engine(workflow).run()), workflow.tried))
    return told


@flow
async def a_workflow_tells_what_it_is(engine: Engine) -> Any:
    class Begin(StartEvent):
        pass

    class End(StopEvent):
        n: int

    class Flow(Workflow):
        pass

    @step(workflow=Flow)
    async def only(ev: Begin) -> End:
        return End(n=7)

    flow_ = Flow(timeout=60, workflow_name="named")
    ended = await engine(flow_).run()
    asks = Asking(timeout=60)
    engine(asks)
    return (
        (flow_.workflow_name, flow_.validate(), flow_.start_event_class is Begin, flow_.stop_event_class is End),
        sorted(each.__name__ for each in flow_.events),
        (asks.validate(), type(ended).__name__, ended.n),
    )


@flow
async def an_added_step_runs(engine: Engine) -> Any:
    class Flow(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result="begun")

    class Extra(Event):
        pass

    class Other(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Extra:
            return Extra()

    @step(workflow=Other)
    async def extra(ev: Extra) -> StopEvent:
        return StopEvent(result="extra")

    return await of(engine(Flow(timeout=60)).run()), await of(engine(Other(timeout=60)).run())


@flow
async def a_handler_sends_to_a_step_and_is_cancelled(engine: Engine) -> Any:
    handler = engine(Asking(timeout=60)).run()
    await until_asked(handler)
    await handler.send_event(HumanResponseEvent(response="sent by the handler"))
    answered = await of(handler)
    handler = engine(Asking(timeout=60)).run()
    await until_asked(handler)
    missing = await raised(lambda: handler.ctx.send_event(HumanResponseEvent(response="x"), step="missing"))
    await handler.cancel_run(timeout=60)
    seen = [type(event) for event in [each async for each in handler.stream_events()]]
    return answered, missing, await of(handler), seen[-1] is WorkflowCancelledEvent, handler.is_done()


@flow
async def a_resource_is_made_of_settings(engine: Engine) -> Any:
    path = str(Path(__file__).with_name("settings.json"))

    def paint(settings: Annotated[Settings, ResourceConfig(config_file=path)]) -> str:
        return f"paint in {settings.colour}"

    class Flow(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent, paint: Annotated[str, Resource(paint)]) -> StopEvent:
            return StopEvent(result=paint)

    return await of(engine(Flow(timeout=60)).run())
