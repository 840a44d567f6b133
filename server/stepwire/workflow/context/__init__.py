"""The context of a run."""

from stepwire.workflow.context.context import Context, StepInfo
from stepwire.workflow.context.serializers import (
    BaseSerializer,
    JsonPickleSerializer,
    JsonSerializer,
    PickleSerializer,
)
from stepwire.workflow.context.state_store import DictState, InMemoryStateStore

__all__ = [
    "BaseSerializer",
    "Context",
    "DictState",
    "InMemoryStateStore",
    "JsonPickleSerializer",
    "JsonSerializer",
    "PickleSerializer",
    "StepInfo",
]
