"""Find out why replicas do not come to terms over TLS: gRPC says only that a connection cannot be made."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Final, NamedTuple

from stepwire.server.rpc.peers.links import LinkSecurity

__all__ = ["TlsFault", "tls_fault"]

_SECONDS: Final = 2.0
"""How long a handshake may take."""
_REFUSAL_SECONDS: Final = 0.5
"""How long to wait for a refusal of the own certificate: in TLS 1.3 it comes after the handshake."""
_EXPIRED: Final = 10
"""OpenSSL's number for a certificate that has expired."""
_CLOSED: Final = "it closes the connection after the handshake: it may not accept the certificate of this replica"
_UNTRUSTED: Final = (18, 19, 20, 21)
"""OpenSSL's numbers for certificates that nobody trusted has signed."""


class TlsFault(NamedTuple):
    """Why a handshake failed.

    Attributes:
        reason: The reason, for people.
        expired: Whether the other side is at fault for sure, because its certificate has expired.
    """

    reason: str
    expired: bool = False


async def tls_fault(address: str, security: LinkSecurity) -> TlsFault | None:
    """Do a handshake as a replica does; return why it failed, None if TLS is off or is not the reason."""
    if security.cert is None or security.key is None:
        return None
    host, _, port = address.rpartition(":")
    writer: asyncio.StreamWriter | None = None
    try:
        context = ssl.create_default_context(cafile=security.roots)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # newer versions of Python ask for more than gRPC does
        context.load_cert_chain(security.cert, security.key, password="")
        context.set_alpn_protocols(["h2"])
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
            async with asyncio.timeout(_REFUSAL_SECONDS):
                if not await reader.read(1):
                    return TlsFault(_CLOSED)
    except ssl.SSLCertVerificationError as error:
        reason = "no CA that this replica trusts has signed it (--peer-ca)"
        if error.verify_code not in _UNTRUSTED:
            reason = error.verify_message.rstrip(".")
        return TlsFault(f"its certificate is not accepted: {reason}", expired=error.verify_code == _EXPIRED)
    except ssl.SSLError as error:
        reason = error.reason or ""
        if "ALERT" in reason and re.search("CERTIFICATE|UNKNOWN_CA|BAD_CERT|ACCESS_DENIED", reason):
            return TlsFault(f"it does not accept the certificate of this replica: {_words(reason)}")
        return TlsFault(f"the TLS handshake fails: {_words(reason) or type(error).__name__}")
    except ConnectionError:
        return None if writer is None else TlsFault(_CLOSED)
    except (OSError, ValueError):  # also a timeout: it is not TLS that fails
        return None
    finally:
        if writer is not None:
            writer.transport.abort()
    return None


def _words(reason: str) -> str:
    """Return OpenSSL's name of a reason as words."""
    return reason.lower().replace("_", " ")
