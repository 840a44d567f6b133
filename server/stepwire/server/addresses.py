"""Where a server listens: the addresses that settings may name."""

from __future__ import annotations

import ipaddress

__all__ = ["UNIX", "check_address", "is_loopback"]

UNIX = ("unix:", "unix-abstract:")
"""What the address of a socket of this machine begins with."""


def check_address(address: str) -> None:
    """Raise ValueError for what is not HOST:PORT."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, as 127.0.0.1:50051 or [::1]:50051")


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
