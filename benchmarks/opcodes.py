"""Count the instructions of the interpreter that an operation costs a server, by layer; `benchmarks.budget` shows them.

They say more than calls: two functions may differ tenfold. Like calls they are the same each time, but for what happens
by itself now and then. Nothing of C is counted.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Self

from benchmarks.layers import layer_of_file
from benchmarks.operations import Client, counted, hooked

from stepwire.server.app import Server

__all__ = ["count_opcodes"]

_OPERATIONS: Final = 20


class _Tracer:
    """Count instructions by their code, on each thread that it is set on: a hook for `sys.settrace`."""

    def __init__(self) -> None:
        self.on = False
        self.codes: Counter[CodeType] = Counter()

    def __call__(self, frame: FrameType, what: str, arg: Any) -> Self:
        """Note one instruction."""
        if what == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif what == "opcode" and self.on:
            self.codes[frame.f_code] += 1
        return self

    def take(self) -> Counter[str]:
        """Return what one operation cost, by layer; begin anew."""
        found: Counter[str] = Counter()
        for code, count in self.codes.items():
            found[layer_of_file(code.co_filename)] += count
        self.codes.clear()
        return Counter({layer: round(count / _OPERATIONS) for layer, count in found.items() if layer != "event loop"})


async def count_opcodes(directory: Path) -> dict[str, Counter[str]]:
    """Return what one of each unary operation costs, by layer, without the event loop; `directory` is for the data."""
    tracer = _Tracer()

    def measured(server: Server) -> dict[str, Counter[str]]:
        sys.settrace(None)
        found: dict[str, Counter[str]] = {}
        for name, call in Client(server.address).unary().items():
            counted(tracer, _OPERATIONS, call)
            found[name] = tracer.take()
        return found

    threading.settrace(tracer)
    sys.settrace(tracer)
    try:
        return await hooked(directory, None, measured)
    finally:
        sys.settrace(None)
        threading.settrace(None)
