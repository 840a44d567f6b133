"""Meters of what an operation costs a server, by layer: calls and opcodes, and processor time; see `benchmarks.budget`.

Counted are the threads of the event loop and of the store, not those of gRPC itself, which run nothing of Python.
"""

import re
import sys
import threading
import time
from collections import Counter, defaultdict
from functools import cache
from types import FrameType
from typing import Any, Final

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

LOOP: Final = {
    "tasks": r"event loop: \S*\bcreate_task$|runner: \S*\bstart_body$",  # it makes the task by itself
    "futures": r"event loop: \S*\bcreate_future$",
    "loop iterations": r"event loop: \S*\b_run_once$",
    "context copies": r": (copy_context|Context\.copy) in ",
}
"""What is counted of the event loop, by the functions that make it."""
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


class Costs(dict[str, float]):
    """What one operation cost: times by layer; opcodes by layer, and calls by `layer: function`, as counts."""

    @property
    def layers(self) -> Counter[str]:
        """Return the counts by layer."""
        found: defaultdict[str, float] = defaultdict(float)
        for name, count in self.items():
            found[name.partition(": ")[0]] += count
        return Counter({layer: round(count) for layer, count in found.items()})

    @property
    def loop(self) -> dict[str, int]:
        """Return what the event loop did."""
        calls = self.items()
        return {what: round(sum(n for name, n in calls if re.search(made, name))) for what, made in LOOP.items()}


def _serves(thread: threading.Thread) -> bool:
    return thread is threading.main_thread() or thread.name == _STORE_THREAD


class _Place(threading.local):
    """Whether a thread is measured; which layer it is in, and since when in nanoseconds of its processor time."""

    def __init__(self) -> None:
        self.serves = _serves(threading.current_thread())
        self.layer = NATIVE
        self.since = time.thread_time_ns()


class Counts:
    """Count the calls of functions, of Python and of C, or opcodes, which are instructions of the interpreter.

    Both are the same each time, but for what happens by itself now and then. Opcodes say more than calls: two functions
    may differ tenfold. Those of the event loop are not counted, nor is anything of C.
    """

    def __init__(self, *, opcodes: bool = False) -> None:
        self.profile = None if opcodes else self._profile
        self.trace = self._trace if opcodes else None
        self._place = _Place()
        self._counts: Counter[str] = Counter()

    def found(self) -> dict[str, float]:
        """Return what was counted so far."""
        return dict(self._counts)

    def _profile(self, frame: FrameType, what: str, arg: Any) -> None:
        """Note one call."""
        if what in ("call", "c_call") and self._place.serves:
            code = frame.f_code
            called = "" if what == "call" else f"{getattr(arg, '__qualname__', arg)} in "
            self._counts[f"{layer_of_file(code.co_filename)}: {called}{code.co_qualname}"] += 1

    def _trace(self, frame: FrameType, what: str, arg: Any) -> Any:
        """Note one instruction."""
        layer = layer_of_file(frame.f_code.co_filename)
        if what == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = layer != "event loop", False
        elif what == "opcode" and self._place.serves:
            self._counts[layer] += 1
        return self._trace


class WholeTime:
    """Measure the processor time of the threads, without a hook."""

    profile = trace = None

    def found(self) -> dict[str, float]:
        """Return the microseconds so far."""
        idents = [thread.ident for thread in threading.enumerate() if _serves(thread) and thread.ident]
        return {"all": sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in idents) * 1e6}


class LayerClock:
    """Charge the processor time between two calls or returns to the layer that was entered last.

    What measuring takes is left out as far as it is known.
    """

    trace = None

    def __init__(self) -> None:
        self._place = _Place()
        self._spent: Counter[str] = Counter()
        """Nanoseconds by layer."""
        self._events: Counter[str] = Counter()
        """Calls and returns by layer: measuring each adds `_cost` nanoseconds to the layer."""
        sys.setprofile(self.profile)
        for _ in range(_CALIBRATED):
            _nothing()
        sys.setprofile(None)
        self._cost = self._spent.total() / self._events.total()

    def profile(self, frame: FrameType, what: str, arg: Any) -> None:
        """Charge the time since the last call or return."""
        now = time.thread_time_ns()
        place = self._place
        if not place.serves:
            return
        self._spent[place.layer] += now - place.since
        self._events[place.layer] += 1
        if what == "return":
            place.layer = NATIVE if frame.f_back is None else layer_of_file(frame.f_back.f_code.co_filename)
        elif what == "c_call":
            place.layer = layer_of_function(arg) or layer_of_file(frame.f_code.co_filename)
        else:
            place.layer = layer_of_file(frame.f_code.co_filename)
        place.since = time.thread_time_ns()

    def found(self) -> dict[str, float]:
        """Return the microseconds by layer so far."""
        events = dict(self._events)
        return {layer: (self._spent[layer] - self._cost * count) / 1e3 for layer, count in events.items()}


def _nothing() -> None:
    """Do nothing."""


Meter = Counts | WholeTime | LayerClock
"""Has hooks, `profile` and `trace`, that are set on all threads, and tells what it `found` since it was made."""
