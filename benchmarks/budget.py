"""Show what an operation costs a server, by layer: `make profile`, or `python -m benchmarks.budget`.

Calls and opcodes are the same each time, on any machine. The times are of this machine, and of what else it does. The
server is in this process. The calls are made by gRPC without asyncio, on a thread of its own that nothing is measured
on.
"""

import argparse
import asyncio
import heapq
import itertools
import platform
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import uvloop
from benchmarks.load import JSON, OPTIONS, event, start_request
from benchmarks.meters import LAYERS, LOOP, Costs, Counts, LayerClock, Meter, WholeTime
from benchmarks.peer import flows
from benchmarks.report import markdown
from benchmarks.web import server_sent
from tests.integration.rpc_serving import registry_of, serving

from stepwire.server.app import Server
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc
from stepwire.v1 import state_service_pb2 as state

_PAGE: Final = Path(__file__).parent.parent / "docs" / "processor-time.md"
_HEAD: Final = Path(__file__).with_name("processor-time.md")
_ROUNDS: Final = 5
_STREAMED: Final = 1024
"""Events of a stream that is read."""

Layers = Mapping[str, Mapping[str, float]]
"""What each operation cost, by layer."""


class Operation(NamedTuple):
    """Something to measure: `prepare` returns what does it `times` times."""

    prepare: Callable[[], Callable[[], object]]
    times: int


class Client:
    """Makes the operations: of a unary one so many calls, `in_flight` at a time."""

    def __init__(self, address: str, calls: int = 40, in_flight: int = 1) -> None:
        channel = grpc.insecure_channel(address, (("grpc.use_local_subchannel_pool", 1),))
        self._runs: Any = run_service_pb2_grpc.RunServiceStub(channel)
        self._state: Any = state_service_pb2_grpc.StateServiceStub(channel)
        self._calls, self._in_flight = calls, in_flight

    def operations(self, questions: Sequence[int] = ()) -> dict[str, Operation]:
        """Return the operations; with answers beside so many open questions of a run each."""
        ids = [self._start("Park") for _ in range(self._in_flight)]
        sends = [runs.SendEventRequest(run_id=run_id, event=event("Ping")) for run_id in ids]
        reads = [state.GetStateRequest(run_id=run_id, path="text", encoding=JSON) for run_id in ids]
        return {
            "StartRun(wait)": self._unary(self._runs.StartRun, [start_request("Trivial", wait=30)]),
            "SendEvent": self._unary(self._runs.SendEvent, sends),
            "GetState": self._unary(self._state.GetState, reads),
            "a streamed event": self.talk(),
            **{f"an answer beside {count}": self._answer(count) for count in questions},
        }

    def talk(self, web: str = "") -> Operation:
        """Have a run write events and read all of them, by StreamEvents or as server-sent events of `web`."""

        def prepare() -> Callable[[], object]:
            run_id = self._start("Talk", b'{"count":0}')
            if web:
                parts: Iterator[object] = server_sent(web, run_id)
                next(parts)  # the stream is open
            else:
                parts = self._runs.StreamEvents(runs.StreamEventsRequest(run_id=run_id, options=OPTIONS))
            go = runs.SendEventRequest(run_id=run_id, event=event("Go", b'{"count":%d}' % _STREAMED))
            return lambda: (self._runs.SendEvent(go), deque(parts, maxlen=0))

        return Operation(prepare, _STREAMED)

    def _start(self, workflow: str, payload: bytes = b"{}") -> str:
        return str(self._runs.StartRun(start_request(workflow, payload)).run.run_id)

    def _answer(self, count: int) -> Operation:
        questions = count + 2 * self._calls
        run_id = self._start("Survey", b'{"count":%d}' % questions)
        while len(self._runs.GetRun(runs.GetRunRequest(run_id=run_id)).run.pending_waiters) < questions:
            pass
        answers = (event("Answer", b'{"number":%d}' % number) for number in range(questions))
        return self._unary(self._runs.SendEvent, (runs.SendEventRequest(run_id=run_id, event=each) for each in answers))

    def _unary(self, method: Any, requests: Iterable[Any]) -> Operation:
        """Call with one request after the other; those of a list again and again."""
        left = itertools.cycle(requests) if isinstance(requests, list) else requests

        def calls() -> None:
            under_way: deque[Any] = deque()
            for request in itertools.islice(left, self._calls):
                if len(under_way) == self._in_flight:
                    under_way.popleft().result()
                under_way.append(method.future(request))
            for call in under_way:
                call.result()

        return Operation(lambda: calls, self._calls)


async def measured(
    directory: Path, meter: Meter, operations: Callable[[Server], Mapping[str, Operation]], *, web: bool = False
) -> dict[str, Costs]:
    """Return what the meter says of operations once caches are filled, on a server that runs on the running event loop.

    The server has the benchmarks' workflows, SQLite, no watchdog, and releases no run; with `web` it serves the web.
    """
    served = {kind.__name__: kind(timeout=None) for kind in (flows.Trivial, flows.Park, flows.Talk, flows.Survey)}
    settings: dict[str, Any] = {"watchdog": 0, "idle_after": 86_400, "web_address": "127.0.0.1:0" if web else "off"}

    def measure(server: Server) -> dict[str, Costs]:
        sys.setprofile(None)
        sys.settrace(None)
        costs = {}
        for name, operation in operations(server).items():
            operation.prepare()()
            work, before = operation.prepare(), meter.found()
            work()
            spent = {what: (cost - before.get(what, 0)) / operation.times for what, cost in meter.found().items()}
            costs[name] = Costs({what: cost for what, cost in spent.items() if cost > 0})
        return costs

    _hook(meter.profile, meter.trace)
    try:
        async with serving(registry_of(**served), str(directory), **settings) as rpc:
            return await asyncio.to_thread(measure, rpc.server)
    finally:
        _hook(None, None)


def _hook(profile: Any, trace: Any) -> None:
    """Set hooks on this thread and on those that begin from now on."""
    for threads in (threading, sys):
        threads.setprofile(profile)
        threads.settrace(trace)


def _timed(directory: Path) -> Layers:
    """Return the microseconds of each operation by layer, scaled to the least of some rounds: other work only adds."""

    def measure(name: str, meter: Meter) -> dict[str, Costs]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            operations = measured(directory / name, meter, lambda server: Client(server.address, 320, 64).operations())
            return runner.run(operations)

    wholes = [measure(f"round-{number}", WholeTime()) for number in range(_ROUNDS)]
    found: dict[str, dict[str, float]] = {}
    for name, layers in measure("layers", LayerClock()).items():
        scale = min(whole[name]["all"] for whole in wholes) / sum(layers.values())
        found[name] = {layer: spent * scale for layer, spent in layers.items()}
    return found


def _counted(directory: Path, opcodes: bool) -> dict[str, Costs]:
    """Return the calls of each operation, made one after the other, or its opcodes."""
    meter = Counts(opcodes=opcodes)
    return asyncio.run(measured(directory, meter, lambda server: Client(server.address).operations((10, 200))))


def _table(title: str, found: Layers, more: Sequence[list[str]] = (), decimals: int = 0) -> str:
    shown = [layer for layer in LAYERS if any(values.get(layer, 0) >= 0.5 for values in found.values())]
    lines = [[layer, *(f"{values.get(layer, 0):.{decimals}f}" for values in found.values())] for layer in shown]
    whole = ["all", *(f"{sum(values.values()):.{decimals}f}" for values in found.values())]
    return markdown([title, *found], [*lines, whole, *more])


def main() -> None:
    """Print the tables, or write them to the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--functions", type=int, default=0, help="also print so many functions for each operation")
    parser.add_argument("--calls", action="store_true", help="count calls and opcodes only")
    parser.add_argument("--write-docs", action="store_true", help="write docs/processor-time.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        tables = [] if options.calls else [_table("µs of processor time", _timed(Path(directory)), decimals=1)]
        calls, opcodes = (_counted(Path(directory, kind), kind == "opcodes") for kind in ("calls", "opcodes"))
    loop = [[name, *(str(each.loop[name]) for each in calls.values())] for name in LOOP]
    tables.append(_table("calls", {name: each.layers for name, each in calls.items()}, loop))
    tables.append(_table("opcodes", {name: each.layers for name, each in opcodes.items()}))
    print("\n\n".join(tables))
    if options.write_docs:
        machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
        facts = {"date": datetime.now(UTC).date(), "machine": machine, "python": platform.python_version()}
        head = _HEAD.read_text("utf-8").format(**facts).rstrip()
        _PAGE.write_text("\n\n".join([head, *tables]) + "\n", encoding="utf-8")
        print(f"wrote {_PAGE.name}")
    if options.functions:
        for name, each in calls.items():
            functions = heapq.nlargest(options.functions, each.items(), key=itemgetter(1))
            lines = [f"{count:6.0f} {function}" for function, count in functions]
            print("\n".join(["", name, *lines]))


if __name__ == "__main__":
    main()
