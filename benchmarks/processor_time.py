"""Measure the processor time that an operation costs a server, by layer; `benchmarks.budget` shows it.

The time between two calls or returns belongs to the layer that was entered last. What measuring takes is left out, and
what remains of that is evened out: the layers are scaled to the time that the same calls cost without measuring. The
event loop is uvloop, as in a server, and 64 calls are in flight. Counted are the threads of the event loop and of the
store, not those of gRPC itself, which run nothing of Python.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvloop
from benchmarks.layers import NATIVE, layer_of_file, layer_of_function
from benchmarks.operations import Client, hooked

__all__ = ["measure_times"]

_CALIBRATED: Final = 20_000
_ROUNDS: Final = 5
_STORE_THREAD: Final = "stepwire-store-writer"

Times = dict[str, dict[str, float]]
"""Microseconds by operation and layer."""


class _Place(threading.local):
    """Which layer a thread is in, and since when; 0 while nothing is measured."""

    def __init__(self) -> None:
        self.layer = NATIVE
        self.since = 0
        thread = threading.current_thread()
        self.serves = thread is threading.main_thread() or thread.name == _STORE_THREAD


class LayerClock:
    """Charge the time of each thread that it is set on to layers: a hook for `sys.setprofile`."""

    def __init__(self) -> None:
        self.on = False
        self.times: Counter[str] = Counter()
        """Nanoseconds by layer."""
        self.events: Counter[str] = Counter()
        """Calls and returns by layer: measuring each adds some time to the layer."""
        self._place = _Place()
        self._cost = self._calibrated()

    def __call__(self, frame: FrameType, what: str, arg: Any) -> None:
        """Charge the time since the last call or return."""
        now = time.thread_time_ns()
        place = self._place
        if not place.serves:
            return
        if self.on and place.since:
            self.times[place.layer] += now - place.since
            self.events[place.layer] += 1
        if what == "return":
            place.layer = NATIVE if frame.f_back is None else layer_of_file(frame.f_back.f_code.co_filename)
        elif what == "c_call":
            place.layer = layer_of_function(arg) or layer_of_file(frame.f_code.co_filename)
        else:
            place.layer = layer_of_file(frame.f_code.co_filename)
        place.since = time.thread_time_ns() if self.on else 0

    def _calibrated(self) -> float:
        """Return the nanoseconds that measuring one call or return adds to a layer."""
        self.on = True
        sys.setprofile(self)
        for _ in range(_CALIBRATED):
            _nothing()
        sys.setprofile(None)
        self.on = False
        cost = sum(self.times.values()) / sum(self.events.values())
        self._place.since = 0
        self.times.clear()
        self.events.clear()
        return cost

    def take(self, real: float) -> dict[str, float]:
        """Return the microseconds of one operation by layer, which are `real` in all, and begin anew."""
        bare = {layer: max(0.0, spent - self._cost * self.events[layer]) for layer, spent in self.times.items()}
        whole = sum(bare.values())
        self.times.clear()
        self.events.clear()
        return {layer: spent * real / whole for layer, spent in bare.items()}


def _nothing() -> None:
    """Do nothing."""


def _seconds_of(loop_thread: int) -> float:
    """Return the processor time of the threads that serve calls, read from another thread."""
    idents = [loop_thread]
    idents += [thread.ident for thread in threading.enumerate() if thread.name == _STORE_THREAD and thread.ident]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in idents)


def _unmeasured(address: str, loop_thread: int) -> dict[str, float]:
    """Return the microseconds that each operation costs: the least of some rounds, since other work only adds."""
    client = Client(address)
    found: dict[str, float] = {}
    for name, operation in client.operations().items():
        operation.make()  # caches are filled
        for _ in range(_ROUNDS):
            before = _seconds_of(loop_thread)
            operation.make()
            spent = (_seconds_of(loop_thread) - before) / operation.times * 1e6
            found[name] = min(spent, found.get(name, spent))
    return found


def _measured(address: str, clock: LayerClock, real: dict[str, float]) -> Times:
    client = Client(address)
    found: Times = {}
    for name, operation in client.operations().items():
        operation.make()
        clock.on = True
        operation.make()
        clock.on = False
        found[name] = clock.take(real[name])
    return found


def measure_times(directory: Path) -> Times:
    """Return the microseconds that one of each operation costs, by layer; `directory` is for the data of servers."""
    clock = LayerClock()

    def run(name: str, hook: LayerClock | None, work: Callable[[str], Any]) -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(hooked(directory / name, hook, lambda server: work(server.address)))

    here = threading.get_ident()
    real = run("first", None, lambda address: _unmeasured(address, here))
    found: Times = run("second", clock, lambda address: _measured(address, clock, real))
    return found
