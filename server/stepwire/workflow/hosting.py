"""Host runs of workflows in a process of your own: everything a server may import of the engine."""

from stepwire.workflow.broker import parts
from stepwire.workflow.broker.broker import Broker, Receipt
from stepwire.workflow.broker.clock import CLOCK, Clock
from stepwire.workflow.broker.delivery import MAX_LOST_EXECUTIONS, Execution, running_execution
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
from stepwire.workflow.broker.received import Received, receive
from stepwire.workflow.broker.restore import CountLost, one_more, restore
from stepwire.workflow.broker.snapshot import all_parts, part_keys, registry_encoder, take_changes
from stepwire.workflow.broker.state_hooks import GONE
from stepwire.workflow.broker.timers import Alarm
from stepwire.workflow.codec.limits import MAX_DEPTH
from stepwire.workflow.context.context import Context, default_waiter_id, run_of
from stepwire.workflow.context.dict_form import legacy_view
from stepwire.workflow.definition.graph import WorkflowDescription
from stepwire.workflow.definition.plan import Plan, Settings, plan_of, settings_of
from stepwire.workflow.definition.roles import role_of
from stepwire.workflow.definition.shared import steps_that_share
from stepwire.workflow.definition.types import TypeRegistry
from stepwire.workflow.definition.validation import steps_of
from stepwire.workflow.errors import (
    ContextSerdeError,
    EventTooLargeError,
    RunEndedError,
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
from stepwire.workflow.runner.runner import Runner
from stepwire.workflow.runner.running import execution_in, step_at
from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.serializers import RegistrySerializer
from stepwire.workflow.state.store import InMemoryStateStore
from stepwire.workflow.wire_names import extra_forbidden, misspelled, on_wire, wire_names
from stepwire.workflow.workflow import Workflow

__all__ = [
    "CLOCK",
    "GONE",
    "MAX_DEPTH",
    "MAX_LOST_EXECUTIONS",
    "RECEIVED",
    "STREAM",
    "TERMINAL",
    "Alarm",
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
    "Plan",
    "Receipt",
    "Received",
    "RegistrySerializer",
    "RunEndedError",
    "Runner",
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
    "Workflow",
    "WorkflowCancelledEvent",
    "WorkflowConfigurationError",
    "WorkflowDescription",
    "WorkflowError",
    "WorkflowFailedEvent",
    "WorkflowValidationError",
    "all_parts",
    "default_waiter_id",
    "event_from_json",
    "event_to_json",
    "execution_in",
    "extra_forbidden",
    "legacy_view",
    "misspelled",
    "on_wire",
    "one_more",
    "part_keys",
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
    "wire_names",
]
