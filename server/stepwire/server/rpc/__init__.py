"""Serve the contract over gRPC: admit calls, convert messages, call the runs, and turn errors into statuses."""

from stepwire.server.rpc.addresses import is_free
from stepwire.server.rpc.checked_health import CheckedHealth
from stepwire.server.rpc.entry_codec import CODEC
from stepwire.server.rpc.gate.address import CLIENT, vouch
from stepwire.server.rpc.gate.admission import Gate
from stepwire.server.rpc.gate.audit import open_audit
from stepwire.server.rpc.gate.call import CALL
from stepwire.server.rpc.gate.calls import Calls
from stepwire.server.rpc.gate.gatekeeper import Gatekeeper
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.rpc.gate.lull import Lull
from stepwire.server.rpc.gate.method_scopes import RULES
from stepwire.server.rpc.handlers import Handlers
from stepwire.server.rpc.local import LocalCalls, LocalStream, RefusedError
from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.identity import WHO, Answer, ask_over
from stepwire.server.rpc.peers.links import LinkSecurity
from stepwire.server.rpc.peers.peers import Peers
from stepwire.server.rpc.services import SERVICES, ServerFacts, add_services
from stepwire.server.rpc.signing import KEY_FILE, Signer, key_of_file
from stepwire.server.rpc.tls import Certificates, TlsError, Validity, validity_of

__all__ = [
    "CALL",
    "CLIENT",
    "CODEC",
    "KEY_FILE",
    "RULES",
    "SERVICES",
    "WHO",
    "Answer",
    "Calls",
    "Certificates",
    "CheckedHealth",
    "Gate",
    "Gatekeeper",
    "Handlers",
    "HopSigner",
    "Limits",
    "LinkSecurity",
    "LocalCalls",
    "LocalStream",
    "Lull",
    "Peers",
    "RefusedError",
    "ServerFacts",
    "Signer",
    "TlsError",
    "Validity",
    "add_services",
    "ask_over",
    "is_free",
    "key_of_file",
    "open_audit",
    "validity_of",
    "vouch",
]
