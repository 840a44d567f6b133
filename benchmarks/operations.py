"""Measure operations on a server in this process: see `benchmarks.budget`.

The calls are made by gRPC without asyncio, on a thread of its own that nothing is measured on.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
from benchmarks.load import OPTIONS, event, start_request
from benchmarks.meters import Meter
from benchmarks.peer import flows
from benchmarks.web import server_sent

from stepwire.server.app import Server, Settings
from stepwire.server.registry import Registry
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import run_service_pb2_grpc, state_service_pb2_grpc, types_pb2
from stepwire.v1 import state_service_pb2 as state

_STREAMED: Final = 1024
"""Events of a stream that is read."""


class Operation(NamedTuple):
    """Something to measure: `prepare` returns what does it `times` times."""

    prepare: Callable[[], Callable[[], object]]
    times: int


Operations = Mapping[str, Operation]


async def measured(
    directory: Path, meter: Meter, operations: Callable[[Server], Operations], *, web: bool = False
) -> dict[str, Any]:
    """Return what the meter says of operations once caches are filled, on a server that runs on the running event loop.

    The server has the benchmarks' workflows, SQLite and no watchdog.

    Args:
        directory: Where the server keeps its data.
        meter: Measures the threads of the server between `begin` and `end`, by hooks that are set on all of them.
        operations: Returns them for the server.
        web: Whether the server serves the web too.
    """
    registry = Registry()
    for workflow in (flows.Trivial, flows.Park, flows.Talk, flows.Survey):
        registry.add(workflow.__name__, workflow(timeout=None))
    shown = "127.0.0.1:0" if web else "off"

    def measure(server: Server) -> dict[str, Any]:
        sys.setprofile(None)
        sys.settrace(None)
        found = {}
        for name, operation in operations(server).items():
            operation.prepare()()
            work = operation.prepare()
            meter.begin()
            work()
            found[name] = meter.end(operation.times)
        return found

    _hook(meter.profile, meter.trace)
    try:
        server = Server(registry, Settings(address="127.0.0.1:0", data=str(directory), watchdog=0, web_address=shown))
        await server.start()
        try:
            return await asyncio.to_thread(measure, server)
        finally:
            await server.stop()
    finally:
        _hook(None, None)


def _hook(profile: Any, trace: Any) -> None:
    """Set hooks on this thread and on those that begin from now on."""
    for set_profile in (threading.setprofile, sys.setprofile):
        set_profile(profile)
    for set_trace in (threading.settrace, sys.settrace):
        set_trace(trace)


class Client:
    """Makes the operations: of a unary one so many calls, `in_flight` at a time."""

    def __init__(self, address: str, calls: int = 40, in_flight: int = 1) -> None:
        channel = grpc.insecure_channel(address, (("grpc.use_local_subchannel_pool", 1),))
        self._runs: Any = run_service_pb2_grpc.RunServiceStub(channel)
        self._state: Any = state_service_pb2_grpc.StateServiceStub(channel)
        self._calls, self._in_flight = calls, in_flight

    def operations(self, questions: Sequence[int] = ()) -> dict[str, Operation]:
        """Return the operations; with answers beside so many open questions of a run each."""
        ids, read = [self._start("Park") for _ in range(self._in_flight)], types_pb2.PAYLOAD_ENCODING_JSON
        sends = [runs.SendEventRequest(run_id=run_id, event=event("Ping")) for run_id in ids]
        reads = [state.GetStateRequest(run_id=run_id, path="text", encoding=read) for run_id in ids]
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
