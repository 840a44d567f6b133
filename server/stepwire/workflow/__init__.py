"""The engine: write workflows, run them in process.

A workflow is a class of steps that exchange typed events around a shared context::

    from stepwire.workflow import Context, StartEvent, StopEvent, Workflow, step

    class Greet(Workflow):
        @step
        async def greet(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=f"Hello, {ev.name}!")

The public names and behaviour follow LlamaIndex Workflows 1.x; `docs/semantics.md` has the differences.
"""

from stepwire.workflow.checkpointer import Checkpoint, CheckpointCallback, WorkflowCheckpointer
from stepwire.workflow.context import (
    Context,
    DictState,
    InMemoryStateStore,
    JsonPickleSerializer,
    JsonSerializer,
    PickleSerializer,
    StepInfo,
)
from stepwire.workflow.decorators import StepConfig, catch_error, step
from stepwire.workflow.errors import (
    ContextSerdeError,
    WorkflowCancelledByUser,
    WorkflowConfigurationError,
    WorkflowError,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
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
    WorkflowTimedOutEvent,
)
from stepwire.workflow.handler import WorkflowHandler
from stepwire.workflow.llamaindex import adopt
from stepwire.workflow.migration import Snapshot
from stepwire.workflow.resource import Resource
from stepwire.workflow.retry_policy import (
    ConstantDelayRetryPolicy,
    ExponentialBackoffRetryPolicy,
    RetryPolicy,
)
from stepwire.workflow.schedule import At, Cron, Every
from stepwire.workflow.workflow import Workflow

__all__ = [
    "At",
    "Checkpoint",
    "CheckpointCallback",
    "ConstantDelayRetryPolicy",
    "Context",
    "ContextSerdeError",
    "Cron",
    "DictState",
    "Event",
    "Every",
    "ExponentialBackoffRetryPolicy",
    "HumanResponseEvent",
    "InMemoryStateStore",
    "InputRequiredEvent",
    "JsonPickleSerializer",
    "JsonSerializer",
    "PickleSerializer",
    "Resource",
    "RetryPolicy",
    "Snapshot",
    "StartEvent",
    "StepConfig",
    "StepFailedEvent",
    "StepInfo",
    "StopEvent",
    "Workflow",
    "WorkflowCancelledByUser",
    "WorkflowCancelledEvent",
    "WorkflowCheckpointer",
    "WorkflowConfigurationError",
    "WorkflowError",
    "WorkflowFailedEvent",
    "WorkflowHandler",
    "WorkflowRuntimeError",
    "WorkflowTimedOutEvent",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
    "adopt",
    "catch_error",
    "step",
]
