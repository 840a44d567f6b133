"""What a forked child of a step must not inherit from the server.

A child that is forked without a new program (`multiprocessing` with `fork`, `os.fork`) has copies of the server's
descriptors and signal handlers. It would keep the address taken after the server was killed, and hold its clients'
connections open. A signal for it would be written to the server's wake-up descriptor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["close_sockets_of", "in_child"]

_DESCRIPTORS: Final = ("/proc/self/fd", "/dev/fd")

_masks = threading.local()
_callbacks: list[Callable[[], None]] = []
_addresses: list[str] = []


def in_child(callback: Callable[[], None]) -> None:
    """Call this in every child that is forked from now on, first thing."""
    _callbacks.append(callback)


def close_sockets_of(address: str) -> None:
    """Close what listens on this address, and its connections, in every child that is forked from now on.

    Args:
        address: HOST:PORT, or a unix socket as gRPC writes it.
    """
    _addresses.append(address)


def _before() -> None:
    """Hold back signals until the child has handlers of its own."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child() -> None:
    for callback in _callbacks:
        with contextlib.suppress(Exception):  # the child is the step's own, and goes on whatever fails here
            callback()
    if _addresses:
        _close_sockets()
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _close_sockets() -> None:
    wanted = {_local(address) for address in _addresses}
    for number in _descriptors():
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode) and _name_of(number) in wanted:
                os.close(number)


def _local(address: str) -> int | str:
    """Return how the sockets of an address are known: by their port, or the name of the unix socket."""
    kind, _, name = address.partition(":")
    if kind == "unix":
        return os.path.realpath(name.removeprefix("//"))
    if kind == "unix-abstract":
        return f"\0{name}"
    return int(address.rpartition(":")[2])


def _name_of(number: int) -> int | str | None:
    with socket.socket(fileno=os.dup(number)) as one:
        if one.type != socket.SOCK_STREAM:
            return None
        name = one.getsockname()
    if isinstance(name, tuple):
        return int(name[1])
    text = name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
    return os.path.realpath(text) if text and text[0] != "\0" else text


def _descriptors() -> list[int]:
    for directory in _DESCRIPTORS:
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(directory)]
    return []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
