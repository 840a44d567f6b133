"""The context of a run."""

from stepwire.workflow.context.context import Context
from stepwire.workflow.context.step_info import StepInfo
from stepwire.workflow.state.serializers import (
    BaseSerializer,
    JsonPickleSerializer,
    JsonSerializer,
    PickleSerializer,
)
from stepwire.workflow.state.store import DictState, InMemoryStateStore

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
