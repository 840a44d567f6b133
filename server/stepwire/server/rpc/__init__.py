"""Serve the contract over gRPC: admit calls, convert messages, call the runs, and turn errors into statuses."""

from stepwire.server.rpc.addresses import is_free
from stepwire.server.rpc.entry_codec import CODEC
from stepwire.server.rpc.gate.access import RULES
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.gate.call import CALL
from stepwire.server.rpc.gate.calls import Calls
from stepwire.server.rpc.gate.interceptor import GateInterceptor
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.rpc.services import SERVICES, add_services
from stepwire.server.rpc.signing import KEY_FILE, Signer
from stepwire.server.rpc.tls import Certificates, TlsError, Validity, validity_of

__all__ = [
    "CALL",
    "CODEC",
    "KEY_FILE",
    "RULES",
    "SERVICES",
    "Calls",
    "Certificates",
    "Gate",
    "GateInterceptor",
    "Limits",
    "Signer",
    "TlsError",
    "Validity",
    "add_services",
    "is_free",
    "validity_of",
]
