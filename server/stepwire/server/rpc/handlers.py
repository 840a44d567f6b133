"""Find the handler of a method by its name, for all services of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

__all__ = ["Handlers"]


class Handlers(grpc.GenericRpcHandler):
    """Take the handlers of services in the place of a gRPC server, which gets this object as its only handler.

    Generated code registers each method with the server too. gRPC's asyncio server then waits for each registered
    method apart: every call of any method adds and removes one callback for each of them.
    """

    def __init__(self) -> None:
        self._methods: dict[str, Any] = {}
        self._others: list[grpc.GenericRpcHandler] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method; None if there is no such method."""
        found = self._methods.get(handler_call_details.method)
        if found is None:
            for other in self._others:
                if (found := other.service(handler_call_details)) is not None:
                    break
        return found

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take handlers that know their methods; generated code calls this."""
        self._others += generic_rpc_handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Take the handlers of a service's methods; generated code calls this."""
        self._methods.update({f"/{service_name}/{method}": handler for method, handler in method_handlers.items()})
