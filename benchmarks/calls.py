"""Count the calls that an operation costs a server, by layer; `benchmarks.budget` shows them.

Times say little on a busy machine; calls of functions, of Python and of C, are the same each time. The server runs in
this process on SQLite. Counted are its event loop's thread and its store's, not the client's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.layers import layer_of_file
from benchmarks.load import event
from benchmarks.operations import STREAMED, WARM, Client, counted, hooked

from stepwire.server.app import Server
from stepwire.v1 import run_service_pb2 as runs

__all__ = ["LOOP", "count_calls", "count_streamed"]

LOOP = {
    "create_task": "tasks",
    "create_future": "futures",
    "_run_once": "loop iterations",
    "copy_context": "context copies",
}
"""What is counted of the event loop, by the function that makes it."""
_OPERATIONS = 40


class _Counter:
    """Count calls, by layer and by what was called, on each thread that it is set on."""

    def __init__(self) -> None:
        self.on = False
        self.calls: Counter[str] = Counter()
        self.loop: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()

    def __call__(self, frame: FrameType, what: str, arg: Any) -> None:
        """Note one call; a hook for `sys.setprofile`."""
        if not self.on or what not in ("call", "c_call"):
            return
        code = frame.f_code
        layer = layer_of_file(code.co_filename)
        self.calls[layer] += 1
        if what == "call":
            self.functions[f"{layer}: {code.co_qualname}"] += 1
            if layer == "event loop" and code.co_name in LOOP:
                self.loop[LOOP[code.co_name]] += 1
            elif layer == "runner" and code.co_name == "start_body":  # it makes the task by itself
                self.loop[LOOP["create_task"]] += 1
        else:
            if arg is copy_context or getattr(arg, "__qualname__", "") == "Context.copy":
                self.loop[LOOP["copy_context"]] += 1
            self.functions[f"{layer}: {getattr(arg, '__qualname__', arg)} in {code.co_qualname}"] += 1

    def take(self, operations: int) -> tuple[Counter[str], Counter[str], Counter[str]]:
        """Return what one operation cost: calls, what the loop did and functions; begin anew."""
        found = []
        for counts in (self.calls, self.loop, self.functions):
            found.append(Counter({name: round(number / operations) for name, number in counts.items()}))
            counts.clear()
        return found[0], found[1], found[2]


class _Counting:
    """Make the operations one after the other, and count."""

    def __init__(self, counter: _Counter, address: str) -> None:
        self._counter = counter
        self._client = Client(address)

    def _count(self, call: Callable[[], object]) -> Any:
        counted(self._counter, _OPERATIONS, call)
        return self._counter.take(_OPERATIONS)

    def measure(self, questions: tuple[int, ...]) -> dict[str, Any]:
        """Return what each operation cost."""
        found = {name: self._count(call) for name, call in self._client.unary().items()}
        found["a streamed event"] = self._stream()
        for count in questions:
            found[f"an answer beside {count}"] = self._answer(count)
        return found

    def _stream(self) -> Any:
        stream = self._client.talk()
        self._counter.on = True
        stream()
        self._counter.on = False
        return self._counter.take(STREAMED)

    def _answer(self, count: int) -> Any:
        client, questions = self._client, count + _OPERATIONS + WARM
        run_id = client.start("Survey", b'{"count":%d}' % questions)
        while len(client.runs.GetRun(runs.GetRunRequest(run_id=run_id)).run.pending_waiters) < questions:
            pass
        numbers = iter(range(questions))
        return self._count(lambda: client.send(run_id, event("Answer", b'{"number":%d}' % next(numbers))))


async def count_calls(directory: Path, questions: tuple[int, ...] = (10, 200), *, web: bool = False) -> dict[str, Any]:
    """Return what one of each operation costs: calls by layer, what the loop did, and calls by function.

    Args:
        directory: Where the server keeps its data.
        questions: Beside how many open questions to answer one.
        web: Whether the server serves the web too, which nobody uses.
    """
    counter = _Counter()
    return await hooked(
        directory, counter, lambda server: _Counting(counter, server.address).measure(questions), web=web
    )


async def count_streamed(directory: Path) -> dict[str, Counter[str]]:
    """Return what a live event of a run costs by StreamEvents and by server-sent events: calls by layer."""
    counter = _Counter()

    def streamed(server: Server) -> dict[str, Counter[str]]:
        assert server.web_address is not None
        client, found = Client(server.address), {}
        for way, read in (("StreamEvents", client.talk()), ("server-sent events", client.talk(server.web_address))):
            counter.on = True
            read()
            counter.on = False
            found[way] = counter.take(STREAMED)[0]
        return found

    return await hooked(directory, counter, streamed, web=True)
