"""Host runs of workflows in a process of your own: everything that a server may import of the engine.

A *host* makes runs durable. It drives each run with a `HostedRun`, writes what changed to a store of its own, and lets
nobody see an effect before the commit that contains it. This module is the whole interface between the two; the engine
knows nothing of stores, networks or requests.

**One run.** `HostedRun` is given a `Workflow`, a `TypeRegistry` (the names of the types that its events and state may
have; reading by it never imports), and a `Host`, which the host implements:

- `changed()` is called once after something changed. Plan a commit: on it call `HostedRun.take_changes`.
- `after_commit(callback)`: call back when everything that was done up to now is durable. The bodies of steps start in
  such callbacks, so the id of a delivery is durable before any effect of its step.
- `report(step, error, attempt=…, next_at=…)`: log a failure; return what the run's record may tell of it. `attempt` is
  the number of the attempt that failed, `next_at` when the step is tried again.
- `executed(step, outcome, seconds)`: count an attempt that is over.

**Commits.** `take_changes` returns `Changes`: the parts of the snapshot that changed or went, and new log entries.
Write them as one transaction, one at a time for each run, and fence them, so that two processes never write one run.
What a step returned is taken in slices if it is very much; meanwhile `broker.partial` is set. Leave the commit to the
`changed()` that follows then: `take_changes` completes the transition at once, and holds up other runs.
After a commit that failed, treat the run as crashed: `freeze` and `leave` it, and load it again from what was
committed. Something is uncommitted while `journal.dirty or journal.entries`.

**Snapshots.** A snapshot is a dict of parts, key to JSON (`parts` has the grammar of the keys). To load a run, parse
all parts and give them to `restore`, then call `make_durable` and `go`. What ran when the snapshot was taken counts as
lost to a crash; what waited goes on when its answer or its deadline comes. With `fork=True` it is another run.

**Transitions.** `broker` holds the run: `accept` an event from outside (`kind=RECEIVED`), `write` one to the stream,
`outcome` tells how the run ended, `waits` has the open questions, `active` how much there is to do, `next_due` when
something falls due next. All of it belongs on the run's event loop. Call `act` after each transition.

**Children.** A host may start runs for the steps of a run: `Workflow.run` of a workflow that it serves, and
`Context.start_run`. It gives `HostedRun` a `ChildHost` as `children` then. `ChildHost.carry_out` is called once it is
durable that children are to be started or cancelled, and again for those that have not ended when the run was
restored. Repeat what was not done: a start with the id of a child that there is already is done. Then call
`HostedRun.child_started`; and `HostedRun.child_ended` when a child has ended, at any time and as often as need be.
`ChildHost.send` is called likewise for the events that steps send to children; then call `HostedRun.child_sent`.
A host without this runs such workflows nested, in process.

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

        def report(self, step, error, *, attempt=0, next_at=None):
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

from stepwire.workflow.broker import progress
from stepwire.workflow.broker.bounds import Bounds
from stepwire.workflow.broker.broker import Broker
from stepwire.workflow.broker.children.child import (
    ABANDON,
    CANCEL,
    STARTING,
    Child,
    ChildCall,
    ChildHost,
    ChildOutcome,
    child_id,
)
from stepwire.workflow.broker.children.sends import ChildSend
from stepwire.workflow.broker.current import running_execution
from stepwire.workflow.broker.deliveries import executions
from stepwire.workflow.broker.deliveries.delivery import PARKED, RUNNING, Delivery, Execution, Waiter
from stepwire.workflow.broker.deliveries.executions import Attempted, AttemptFailure
from stepwire.workflow.broker.deliveries.losses import MAX_LOST_EXECUTIONS
from stepwire.workflow.broker.host import FailureReport, Host
from stepwire.workflow.broker.log.entries import (
    CHILD,
    EXECUTION,
    RECEIVED,
    STREAM,
    TERMINAL,
    Changes,
    ChildNews,
    LogEntry,
)
from stepwire.workflow.broker.log.journal import Journal
from stepwire.workflow.broker.log.received import INLINE_VALUES, Received, receive, values_in
from stepwire.workflow.broker.outcome import Outcome, is_plain_stop, why_timed_out
from stepwire.workflow.broker.receipts import Receipt
from stepwire.workflow.broker.snapshot import parts
from stepwire.workflow.broker.snapshot.reader import CountLost, can_retry, one_more
from stepwire.workflow.broker.snapshot.restore import restore, restore_in_slices
from stepwire.workflow.broker.snapshot.writer import all_parts, encode_ahead, registry_encoder, take_changes
from stepwire.workflow.broker.timing.clock import CLOCK, Clock, SkippingClock, StandingClock
from stepwire.workflow.broker.timing.timers import Alarm
from stepwire.workflow.codec.decoder import from_tagged
from stepwire.workflow.codec.encoder import encode_keys
from stepwire.workflow.codec.libraries import any_library
from stepwire.workflow.codec.library_json import library_json
from stepwire.workflow.codec.limits import MAX_DEPTH
from stepwire.workflow.context.context import Context, run_of
from stepwire.workflow.context.dict_form import legacy_view
from stepwire.workflow.context.waiting import default_waiter_id, waiter_id_of
from stepwire.workflow.decorators import step
from stepwire.workflow.definition.graph import WorkflowDescription
from stepwire.workflow.definition.plan import Settings, plan_of, settings_of
from stepwire.workflow.definition.roles import role_of
from stepwire.workflow.definition.shared import steps_that_share
from stepwire.workflow.definition.types import TypeRegistry, code_digest
from stepwire.workflow.definition.validation import steps_of
from stepwire.workflow.errors import (
    ChildRunError,
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
    UnknownTypeError,
    WorkflowConfigurationError,
    WorkflowError,
    WorkflowRuntimeError,
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
from stepwire.workflow.jsonable import has_long_integer, is_text, readable
from stepwire.workflow.llamaindex import adopt, is_adoptable
from stepwire.workflow.logged_events import logged_event
from stepwire.workflow.migration import Snapshot
from stepwire.workflow.retry_policy import ExponentialBackoffRetryPolicy
from stepwire.workflow.runner.results import text_of
from stepwire.workflow.runner.running import execution_in, step_at
from stepwire.workflow.runner.tasks import in_step, outside, own_tasks, start_task, watch_tasks
from stepwire.workflow.schedule import At, Cron, Every, Schedule, declared_schedules
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.serializers import RegistrySerializer
from stepwire.workflow.state.store import InMemoryStateStore
from stepwire.workflow.wire_names import on_wire, wire_names
from stepwire.workflow.wire_schemas import wire_validator
from stepwire.workflow.workflow import Workflow

__all__ = [
    "ABANDON",
    "CANCEL",
    "CHILD",
    "CLOCK",
    "EXECUTION",
    "INLINE_VALUES",
    "MAX_DEPTH",
    "MAX_LOST_EXECUTIONS",
    "PARKED",
    "RECEIVED",
    "RUNNING",
    "STARTING",
    "STREAM",
    "TERMINAL",
    "Alarm",
    "At",
    "AttemptFailure",
    "Attempted",
    "Bounds",
    "Broker",
    "Changes",
    "Child",
    "ChildCall",
    "ChildHost",
    "ChildNews",
    "ChildOutcome",
    "ChildRunError",
    "ChildSend",
    "Clock",
    "Context",
    "ContextSerdeError",
    "CountLost",
    "Cron",
    "Delivery",
    "DictState",
    "Event",
    "EventTooLargeError",
    "Every",
    "Execution",
    "ExponentialBackoffRetryPolicy",
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
    "Schedule",
    "SerializationError",
    "Settings",
    "SkippingClock",
    "Snapshot",
    "SnapshotError",
    "StandingClock",
    "StartEvent",
    "StateNotFoundError",
    "StatePathError",
    "StepDoesNotAcceptError",
    "StepFailedEvent",
    "StopEvent",
    "TypeRegistry",
    "UnknownStepError",
    "UnknownTypeError",
    "Waiter",
    "Workflow",
    "WorkflowCancelledEvent",
    "WorkflowConfigurationError",
    "WorkflowDescription",
    "WorkflowError",
    "WorkflowFailedEvent",
    "WorkflowRuntimeError",
    "WorkflowValidationError",
    "adopt",
    "all_parts",
    "any_library",
    "can_retry",
    "child_id",
    "code_digest",
    "declared_schedules",
    "default_waiter_id",
    "encode_ahead",
    "encode_keys",
    "event_from_json",
    "event_to_json",
    "execution_in",
    "executions",
    "from_tagged",
    "has_long_integer",
    "in_step",
    "is_adoptable",
    "is_plain_stop",
    "is_text",
    "legacy_view",
    "library_json",
    "logged_event",
    "on_wire",
    "one_more",
    "outside",
    "own_tasks",
    "parts",
    "plan_of",
    "progress",
    "readable",
    "receive",
    "registry_encoder",
    "restore",
    "restore_in_slices",
    "role_of",
    "run_of",
    "running_execution",
    "settings_of",
    "start_task",
    "step",
    "step_at",
    "steps_of",
    "steps_that_share",
    "take_changes",
    "text_of",
    "values_in",
    "waiter_id_of",
    "watch_tasks",
    "why_timed_out",
    "wire_names",
    "wire_validator",
]
