"""The contract on the wire: servicers, conversion, errors."""

from stepwire.server.rpc.entry_codec import CODEC
from stepwire.server.rpc.gate.access import RULES, Gate
from stepwire.server.rpc.gate.calls import CALL, Calls
from stepwire.server.rpc.gate.interceptor import ErrorInterceptor
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.rpc.services.services import SERVICES, add_services
from stepwire.server.rpc.signing import KEY_FILE, Signer
from stepwire.server.rpc.tls import Certificates, TlsError

__all__ = [
    "CALL",
    "CODEC",
    "KEY_FILE",
    "RULES",
    "SERVICES",
    "Calls",
    "Certificates",
    "ErrorInterceptor",
    "Gate",
    "Limits",
    "Signer",
    "TlsError",
    "add_services",
]
