"""Meters of what an operation costs a server, by layer: calls and opcodes, and processor time; see `benchmarks.budget`.

Counted are the threads of the event loop and of the store, not those of gRPC itself, which run nothing of Python.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextvars import copy_context
from types import FrameType
from typing import Any, Final, NamedTuple

from benchmarks.layers import NATIVE, layer_of_file, layer_of_function

__all__ = ["LOOP", "Counted", "Counts", "LayerClock", "WholeTime"]

LOOP = {
    "create_task": "tasks",
    "create_future": "futures",
    "_run_once": "loop iterations",
    "copy_context": "context copies",
}
"""What is counted of the event loop, by the function that makes it."""
_STORE_THREAD: Final = "stepwire-store-writer"
_CALIBRATED: Final = 20_000


class _Place(threading.local):
    """Whether a thread is measured; which layer it is in, and since when, which is 0 while nothing is measured."""

    def __init__(self) -> None:
        self.layer = NATIVE
        self.since = 0
        thread = threading.current_thread()
        self.serves = thread is threading.main_thread() or thread.name == _STORE_THREAD


class Counted(NamedTuple):
    """What one operation cost: calls by layer, what the loop did, calls by function, and opcodes by layer."""

    calls: Counter[str]
    loop: Counter[str]
    functions: Counter[str]
    opcodes: Counter[str]


class Counts:
    """Count the calls of functions, of Python and of C, or opcodes, which are instructions of the interpreter.

    Both are the same each time, but for what happens by itself now and then. Opcodes say more than calls: two functions
    may differ tenfold. Those of the event loop are not counted, nor is anything of C.
    """

    def __init__(self, *, opcodes: bool = False) -> None:
        self.profile = None if opcodes else self._profile
        self.trace = self._trace if opcodes else None
        self._on = False
        self._place = _Place()
        self._found = Counted(Counter(), Counter(), Counter(), Counter())

    def _profile(self, frame: FrameType, what: str, arg: Any) -> None:
        """Note one call."""
        if not self._on or what not in ("call", "c_call") or not self._place.serves:
            return
        calls, loop, functions, _ = self._found
        code = frame.f_code
        layer = layer_of_file(code.co_filename)
        calls[layer] += 1
        if what == "call":
            functions[f"{layer}: {code.co_qualname}"] += 1
            if layer == "event loop" and code.co_name in LOOP:
                loop[LOOP[code.co_name]] += 1
            elif layer == "runner" and code.co_name == "start_body":  # it makes the task by itself
                loop[LOOP["create_task"]] += 1
        else:
            if arg is copy_context or getattr(arg, "__qualname__", "") == "Context.copy":
                loop[LOOP["copy_context"]] += 1
            functions[f"{layer}: {getattr(arg, '__qualname__', arg)} in {code.co_qualname}"] += 1

    def _trace(self, frame: FrameType, what: str, arg: Any) -> Any:
        """Note one instruction."""
        if what == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif what == "opcode" and self._on and self._place.serves:
            self._found.opcodes[layer_of_file(frame.f_code.co_filename)] += 1
        return self._trace

    def begin(self) -> None:
        """Begin anew."""
        for counts in self._found:
            counts.clear()
        self._on = True

    def end(self, times: int) -> Counted:
        """Return what one of so many operations cost."""
        self._on = False
        del self._found.opcodes["event loop"]
        return Counted(
            *(Counter({name: round(count / times) for name, count in counts.items()}) for counts in self._found)
        )


class WholeTime:
    """Measure the microseconds of processor time that an operation costs, without a hook."""

    profile = trace = None
    _before = 0.0

    def begin(self) -> None:
        """Begin."""
        self._before = self._seconds()

    def end(self, times: int) -> float:
        """Return the microseconds of one of so many operations."""
        return (self._seconds() - self._before) / times * 1e6

    @staticmethod
    def _seconds() -> float:
        threads = [threading.main_thread(), *(each for each in threading.enumerate() if each.name == _STORE_THREAD)]
        idents = [thread.ident for thread in threads if thread.ident is not None]
        return sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in idents)


class LayerClock:
    """Charge the processor time between two calls or returns to the layer that was entered last.

    What measuring takes is left out as far as it is known.
    """

    trace = None

    def __init__(self) -> None:
        self._on = False
        self._times: Counter[str] = Counter()
        """Nanoseconds by layer."""
        self._events: Counter[str] = Counter()
        """Calls and returns by layer: measuring each adds some time to the layer."""
        self._place = _Place()
        self._cost = 0.0
        """Nanoseconds that measuring one call or return adds."""
        sys.setprofile(self.profile)
        self.begin()
        for _ in range(_CALIBRATED):
            _nothing()
        spent = self.end(1)
        sys.setprofile(None)
        self._cost = sum(spent.values()) * 1e3 / sum(self._events.values())
        self._place.since = 0

    def profile(self, frame: FrameType, what: str, arg: Any) -> None:
        """Charge the time since the last call or return."""
        now = time.thread_time_ns()
        place = self._place
        if not place.serves:
            return
        if self._on and place.since:
            self._times[place.layer] += now - place.since
            self._events[place.layer] += 1
        if what == "return":
            place.layer = NATIVE if frame.f_back is None else layer_of_file(frame.f_back.f_code.co_filename)
        elif what == "c_call":
            place.layer = layer_of_function(arg) or layer_of_file(frame.f_code.co_filename)
        else:
            place.layer = layer_of_file(frame.f_code.co_filename)
        place.since = time.thread_time_ns() if self._on else 0

    def begin(self) -> None:
        """Begin anew."""
        self._times.clear()
        self._events.clear()
        self._on = True

    def end(self, times: int) -> dict[str, float]:
        """Return the microseconds of one of so many operations, by layer."""
        self._on = False
        costs = {layer: self._cost * count for layer, count in self._events.items()}
        return {layer: max(0.0, spent - costs[layer]) / times / 1e3 for layer, spent in self._times.items()}


def _nothing() -> None:
    """Do nothing."""
