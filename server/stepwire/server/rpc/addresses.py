"""Tell whether an address is free to listen on. gRPC alone lets two servers take one address without an error."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

__all__ = ["is_free"]

_UNIX: Final = "unix:"
_TWINS: Final = {"127.0.0.1": "::1", "::1": "127.0.0.1", "0.0.0.0": "::", "::": "0.0.0.0"}
"""Addresses that reach the same listener for a client that says `localhost`, or names any address of the machine."""
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def is_free(address: str) -> bool:
    """Return whether nothing listens on an address yet.

    A unix socket is taken if something accepts connections there: gRPC would replace the socket of a server that runs.
    A port is taken if something listens on it at the host, or at the same host in the other family of addresses: of two
    servers on 127.0.0.1 and [::1], chance decides which one a client of `localhost` reaches.

    Args:
        address: As in the setting: `host:port`, `[host]:port`, `unix:path` or `unix-abstract:name`.

    Raises:
        OSError: The host is not an address of this machine.
    """
    if address.startswith(_UNIX):
        return not _accepts(address.removeprefix(_UNIX))
    host, _, port = address.rpartition(":")
    if address.startswith("unix-abstract:") or int(port) == 0:
        return True  # the system itself refuses a second one, or chooses a free port
    wanted = _resolved(host.strip("[]"), int(port))
    twins = [_TWINS[place[0]] for _, place in wanted if place[0] in _TWINS]
    return all(_bindable(family, place) for family, place in wanted) and all(
        _bindable(family, place, must_exist=False) for twin in twins for family, place in _resolved(twin, int(port))
    )


def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """Return the addresses of a host, as gRPC listens on all of them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def _accepts(path: str) -> bool:
    """Tell whether something accepts connections at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        tried.settimeout(1.0)
        try:
            tried.connect(path.removeprefix("//"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            # A full backlog is a listener; a path that is too long, or no socket, is for gRPC to refuse.
            return error.errno in (errno.EAGAIN, errno.ETIMEDOUT)
    return True


def _bindable(family: socket.AddressFamily, place: Any, *, must_exist: bool = True) -> bool:
    """Tell whether a listener could take a place; one that the machine does not have is free unless it must exist."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            # As servers do, so that connections of the previous one that are still closing do not count.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(place)
            tried.listen()  # with SO_REUSEADDR, only this fails beside another listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        if must_exist or error.errno not in _ABSENT:
            raise
    return True
