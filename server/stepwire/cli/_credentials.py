"""The token and the TLS settings that the environment gives."""

from __future__ import annotations

from collections.abc import Mapping

from stepwire.client import TlsConfig

__all__ = ["credentials"]


def credentials(variables: Mapping[str, str]) -> tuple[str | None, TlsConfig | None]:
    """Return the token and the TLS settings of environment variables; None for each that is not set.

    STEPWIRE_TOKEN is the token; a flag would show it in the list of processes. STEPWIRE_CA, STEPWIRE_CERT and
    STEPWIRE_KEY are PEM files. STEPWIRE_SERVER_NAME is the name to find in the server's certificate instead of the
    address. STEPWIRE_TLS=1 speaks TLS with gRPC's own roots.
    """
    ca, cert, key = (variables.get(f"STEPWIRE_{name}") or None for name in ("CA", "CERT", "KEY"))
    secured = any((ca, cert, key)) or variables.get("STEPWIRE_TLS", "") not in ("", "0")
    name = variables.get("STEPWIRE_SERVER_NAME") or None
    tls = TlsConfig(ca=ca, cert=cert, key=key, server_name=name) if secured else None
    return variables.get("STEPWIRE_TOKEN") or None, tls
