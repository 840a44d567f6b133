"""The health service of gRPC, which tells the server of each check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health, health_pb2

__all__ = ["CheckedHealth"]


class CheckedHealth(health.aio.HealthServicer):
    """The health service.

    Args:
        checked: Called when a check was answered, with whether the answer was another one than SERVING.
    """

    def __init__(self, checked: Callable[[bool], None]) -> None:
        super().__init__()
        self._checked = checked

    async def Check(self, request: Any, context: Any) -> Any:
        answer = await super().Check(request, context)
        self._checked(answer.status != health_pb2.HealthCheckResponse.SERVING)
        return answer
