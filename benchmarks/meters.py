"""Meters of what an operation costs a server, by layer: calls and opcodes, and processor time; see `benchmarks.budget`.

Counted are the threads of the event loop and of the store, not those of gRPC itself, which run nothing of Python.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextvars import copy_context
from functools import cache
from types import FrameType
from typing import Any, Final, NamedTuple

NATIVE: Final = "gRPC and event loop, native"
"""What runs while no function of Python does, on the thread of the event loop."""
REST: Final = "standard library"

_FILES: Final = {
    "/grpc/": "gRPC",
    "/asyncio/runners": NATIVE,
    "/asyncio/": "event loop",
    "/google/": "protobuf",
    "/server/rpc/gate/": "gate",
    "/server/rpc/tracing": "gate",
    "/server/rpc/": "services, conversion",
    "/server/runs/hosting/": "hosting, commits",
    "/server/runs/log/": "log, feed",
    "/server/runs/": "runs",
    "/server/store/": "store",
    "/server/telemetry/": "telemetry",
    "/server/web/": "web",
    "/uvicorn/": "web",
    "/workflow/broker/": "broker",
    "/workflow/runner/": "runner",
    "/workflow/codec/": "codec",
    "/workflow/": "context, state, events",
    "/pydantic/": "pydantic",
    "/benchmarks/": "the author's code",
}
_MODULES: Final = {
    "pydantic_core._pydantic_core": "pydantic",
    "google._upb._message": "protobuf",
    "sqlite3": "SQLite",
    "_queue": "hand-overs between threads",
    "_thread": "hand-overs between threads",
}
LAYERS: Final = (*dict.fromkeys((*_FILES.values(), *_MODULES.values())), REST)

LOOP = {
    "create_task": "tasks",
    "create_future": "futures",
    "_run_once": "loop iterations",
    "copy_context": "context copies",
}
"""What is counted of the event loop, by the function that makes it."""
_STORE_THREAD: Final = "stepwire-store-writer"
_CALIBRATED: Final = 20_000


@cache
def layer_of_file(file: str) -> str:
    """Return the layer of a module's file."""
    return next((name for part, name in _FILES.items() if part in file), REST)


def layer_of_function(function: Any) -> str | None:
    """Return the layer of a function of C; None for one that belongs to its caller's layer."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or type(owner).__module__
    return _MODULES.get(module)


class _Place(threading.local):
    """Whether a thread is measured; which layer it is in, and since when, which is 0 while nothing is measured."""

    def __init__(self) -> None:
        self.layer = NATIVE
        self.since = 0
        thread = threading.current_thread()
        self.serves = thread is threading.main_thread() or thread.name == _STORE_THREAD


class Counted(NamedTuple):
    """What one operation cost: calls or opcodes by layer; with calls what the loop did, and calls by function."""

    layers: Counter[str]
    loop: Counter[str]
    functions: Counter[str]


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
        self._found = Counted(Counter(), Counter(), Counter())

    def begin(self) -> None:
        """Begin anew."""
        for counts in self._found:
            counts.clear()
        self._on = True

    def end(self, times: int) -> Counted:
        """Return what one of so many operations cost."""
        self._on = False
        return Counted(
            *(Counter({name: round(count / times) for name, count in counts.items()}) for counts in self._found)
        )

    def _profile(self, frame: FrameType, what: str, arg: Any) -> None:
        """Note one call."""
        if not self._on or what not in ("call", "c_call") or not self._place.serves:
            return
        layers, loop, functions = self._found
        code = frame.f_code
        layer = layer_of_file(code.co_filename)
        layers[layer] += 1
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
        layer = layer_of_file(frame.f_code.co_filename)
        if what == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = layer != "event loop", False
        elif what == "opcode" and self._on and self._place.serves:
            self._found.layers[layer] += 1
        return self._trace


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


Meter = Counts | WholeTime | LayerClock
