"""Keep the 1.x import path of the serializers: `stepwire.workflow.context.serializers`."""

from stepwire.workflow.state.serializers import (
    BaseSerializer,
    JsonPickleSerializer,
    JsonSerializer,
    PickleSerializer,
)

__all__ = ["BaseSerializer", "JsonPickleSerializer", "JsonSerializer", "PickleSerializer"]
