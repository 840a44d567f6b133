"""The child processes that steps made with `multiprocessing`."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, Final

__all__ = ["end_children", "kill_children"]

_END_SECONDS: Final = 0.5
"""How long children may take to end before they are killed."""


def end_children() -> int:
    """Terminate the children, and kill those that do not end; return how many there were.

    Their steps have ended or were abandoned. The interpreter would wait for them before it exits.
    """
    children = _children()
    for child in children:
        with contextlib.suppress(Exception):  # a child that ends meanwhile, or was started by another process
            child.terminate()
    end = time.monotonic() + _END_SECONDS
    for child in children:
        with contextlib.suppress(Exception):  # as above
            child.join(max(0.0, end - time.monotonic()))
    kill_children()
    return len(children)


def kill_children() -> None:
    """Kill the children that live, without waiting for them."""
    for child in _children():
        with contextlib.suppress(Exception):  # as above
            child.kill()


def _children() -> list[Any]:
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:  # no step has imported it
        return []
    with contextlib.suppress(Exception):  # the set of children may change while it is read
        return list(multiprocessing.active_children())
    return []
