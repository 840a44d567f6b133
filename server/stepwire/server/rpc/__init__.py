"""The contract on the wire: servicers, conversion, errors."""

from stepwire.server.rpc.entries import CODEC
from stepwire.server.rpc.interceptor import ErrorInterceptor
from stepwire.server.rpc.services import SERVICES, add_services
from stepwire.server.rpc.signing import Signer

__all__ = ["CODEC", "SERVICES", "ErrorInterceptor", "Signer", "add_services"]
