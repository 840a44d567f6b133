"""Host runs of workflows in a process of your own: everything that a server may import of the engine.

A *host* makes runs durable. It drives each run with a `HostedRun`, writes what changed to a store of its own, and lets
nobody see an effect before the commit that contains it. This module is the whole interface between the two; the engine
knows nothing of stores, networks or requests.

**One run.** `HostedRun` is given a `Workflow`, a `TypeRegistry` (the names of the types that its events and state may
have; reading by it never imports), and a `Host`, which the host implements:

- `changed()` is called once after something changed. Plan a commit: on it call `HostedRun.take_changes`.
- `after_commit(callback)`: call back when everything that was done up to now is durable. The bodies of steps start in
  such callbacks, so the id of a delivery is durable before any effect of its step.
- `report(step, error)`: log a failure; return what the run's record may tell of it.
- `executed(step, outcome, seconds)`: count an attempt that is over.

**Commits.** `take_changes` returns `Changes`: the parts of the snapshot that changed or went, and new log entries.
Write them as one transaction, one at a time for each run, and fence them, so that two processes never write one run.
After a commit that failed, treat the run as crashed: `freeze` and `leave` it, and load it again from what was
committed. Something is uncommitted while `journal.dirty or journal.entries`.

**Snapshots.** A snapshot is a dict of parts, key to JSON (`parts` has the grammar of the keys). To load a run, parse
all parts and give them to `restore`, then call `make_durable` and `go`. What ran when the snapshot was taken counts as
lost to a crash; what waited goes on when its answer or its deadline comes. With `fork=True` it is another run.

**Transitions.** `broker` holds the run: `accept` an event from outside (`kind=RECEIVED`), `write` one to the stream,
`outcome` tells how the run ended, `waits` has the open questions, `active` how much there is to do, `next_due` when
something falls due next. All of it belongs on the run's event loop. Call `act` after each transition.

**Leaving memory.** A run that only waits (`broker.active == 0`) and has nothing uncommitted may leave: `freeze`, then
`leave`. Load it again when an event arrives for it, or at `broker.next_due()`.

**A host with a dict for a store**, complete::

    import asyncio
    import json

    from stepwire.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
    from stepwire.workflow.hosting import RECEIVED, FailureReport, HostedRun, TypeRegistry, plan_of


    class Question(Event):
        text: str


    class Answer(Event):
        text: str


    class Ask(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(Answer, waiter_event=Question(text="Where to?"), waiter_id="where")
            return StopEvent(result=answer.text)


    class DictHost:
        # Keeps the parts and the log of one run in `store`.

        def __init__(self, workflow, store):
            self.store = store
            self.callbacks = []
            self.waiting = asyncio.Event()
            self.ended = asyncio.Event()
            names = TypeRegistry.of(type(workflow), plan_of(workflow).steps)
            self.run = HostedRun(workflow, names, self, run_id="one")
            if store.get("parts"):
                parts = {key: json.loads(part) for key, part in store["parts"].items()}
                self.run.restore(parts, saved_at=store["at"])
            self.run.make_durable()

        def changed(self):
            asyncio.get_running_loop().call_soon(self.commit)

        def after_commit(self, callback):
            self.callbacks.append(callback)
            self.changed()

        def report(self, step, error):
            return FailureReport(message=str(error), traceback="", reference="")

        def executed(self, step, outcome, seconds):
            pass

        def commit(self):
            changes = self.run.take_changes()
            parts = self.store.setdefault("parts", {})
            parts.update(changes.parts)
            for key in changes.deleted:
                parts.pop(key, None)
            self.store.setdefault("log", []).extend(changes.entries)
            self.store["at"] = self.run.broker.clock.now()
            callbacks, self.callbacks = self.callbacks, []
            for callback in callbacks:
                callback()
            if self.run.broker.outcome is not None:
                self.ended.set()
            elif self.run.broker.active == 0:
                self.waiting.set()

        def go(self, *, resumed):
            self.run.go("ask", {}, resumed=resumed)


    async def main():
        store = {}
        first = DictHost(Ask(), store)
        first.run.begin(StartEvent(), timeout=60.0)
        first.go(resumed=False)
        await first.waiting.wait()
        first.run.freeze()  # as if the process ended here

        second = DictHost(Ask(), store)
        second.go(resumed=True)
        second.run.broker.accept(Answer(text="Oslo"), kind=RECEIVED)
        second.run.act()
        await second.ended.wait()
        return second.run.broker.outcome.event.result, [entry.type for entry in store["log"]]
"""

from stepwire.workflow.broker import parts
from stepwire.workflow.broker.bounds import Bounds
from stepwire.workflow.broker.broker import Broker, Receipt
from stepwire.workflow.broker.clock import CLOCK, Clock
from stepwire.workflow.broker.delivery import MAX_LOST_EXECUTIONS, Execution, Waiter, running_execution
from stepwire.workflow.broker.journal import (
    RECEIVED,
    STREAM,
    TERMINAL,
    Changes,
    FailureReport,
    Host,
    Journal,
    LogEntry,
)
from stepwire.workflow.broker.outcome import Outcome
from stepwire.workflow.broker.received import INLINE_VALUES, Received, receive, values_in
from stepwire.workflow.broker.restore import CountLost, one_more, restore
from stepwire.workflow.broker.snapshot import all_parts, encode_ahead, registry_encoder, take_changes
from stepwire.workflow.broker.timers import Alarm
from stepwire.workflow.codec.encoder import encode_keys
from stepwire.workflow.codec.limits import MAX_DEPTH
from stepwire.workflow.context.context import Context, default_waiter_id, run_of
from stepwire.workflow.context.dict_form import legacy_view
from stepwire.workflow.definition.graph import WorkflowDescription
from stepwire.workflow.definition.plan import Settings, plan_of, settings_of
from stepwire.workflow.definition.roles import role_of
from stepwire.workflow.definition.shared import steps_that_share
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.definition.validation import steps_of
from stepwire.workflow.errors import (
    ContextSerdeError,
    EventTooLargeError,
    RunEndedError,
    RunLimitError,
    SerializationError,
    SnapshotError,
    StateNotFoundError,
    StatePathError,
    StepDoesNotAcceptError,
    UnknownStepError,
    WorkflowConfigurationError,
    WorkflowError,
    WorkflowValidationError,
)
from stepwire.workflow.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    event_from_json,
    event_to_json,
)
from stepwire.workflow.hosted_run import HostedRun
from stepwire.workflow.runner.results import text_of
from stepwire.workflow.runner.running import execution_in, step_at
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.serializers import RegistrySerializer
from stepwire.workflow.state.store import InMemoryStateStore
from stepwire.workflow.wire_names import extra_forbidden, misspelled, on_wire, wire_names
from stepwire.workflow.workflow import Workflow

__all__ = [
    "CLOCK",
    "INLINE_VALUES",
    "MAX_DEPTH",
    "MAX_LOST_EXECUTIONS",
    "RECEIVED",
    "STREAM",
    "TERMINAL",
    "Alarm",
    "Bounds",
    "Broker",
    "Changes",
    "Clock",
    "Context",
    "ContextSerdeError",
    "CountLost",
    "DictState",
    "Event",
    "EventTooLargeError",
    "Execution",
    "FailureReport",
    "Host",
    "HostedRun",
    "HumanResponseEvent",
    "InMemoryStateStore",
    "InputRequiredEvent",
    "Journal",
    "LogEntry",
    "Outcome",
    "Receipt",
    "Received",
    "RegistrySerializer",
    "RunEndedError",
    "RunLimitError",
    "SerializationError",
    "Settings",
    "SnapshotError",
    "StartEvent",
    "StateNotFoundError",
    "StatePathError",
    "StepDoesNotAcceptError",
    "StepFailedEvent",
    "StopEvent",
    "TypeRegistry",
    "UnknownStepError",
    "Waiter",
    "Workflow",
    "WorkflowCancelledEvent",
    "WorkflowConfigurationError",
    "WorkflowDescription",
    "WorkflowError",
    "WorkflowFailedEvent",
    "WorkflowValidationError",
    "all_parts",
    "default_waiter_id",
    "encode_ahead",
    "encode_keys",
    "event_from_json",
    "event_to_json",
    "execution_in",
    "extra_forbidden",
    "legacy_view",
    "misspelled",
    "on_wire",
    "one_more",
    "parts",
    "plan_of",
    "receive",
    "registry_encoder",
    "restore",
    "role_of",
    "run_of",
    "running_execution",
    "settings_of",
    "step_at",
    "steps_of",
    "steps_that_share",
    "take_changes",
    "text_of",
    "values_in",
    "wire_names",
]
