"""Clients that keep a server busy: each does one thing after another at random and writes down what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from typing import Any

from tests.system.chaos.caller import Caller, new_id
from tests.system.chaos.history import History
from tests.system.chaos.reader import follow

OPERATIONS_PER_RUN = 40
READERS = 3
"""How many runs a client follows at a time: with each new one it leaves the oldest."""


class Worker:
    """One client; `shared` are runs that several clients write to."""

    def __init__(
        self,
        number: int,
        history: History,
        address: str,
        shared: list[str],
        seed: int,
        *,
        pause: float = 0.0,
        patience: float = 60.0,
        gives_up: float = 0.1,
        caller: type[Caller] = Caller,
    ) -> None:
        self.name = f"c{number}"
        self.operations = 0
        self.caller = caller(history, address, self.name, patience=patience)
        self._history = history
        self._shared = shared
        self._random = random.Random(f"{seed}/{number}")
        self._pause = pause
        self._gives_up = gives_up
        self._run = ""
        self._left = 0
        self._counter = 0
        self._questions: deque[tuple[str, str]] = deque()
        self._answered: list[tuple[str, str, str, dict[str, Any]]] = []
        self._readers: list[asyncio.Task[None]] = []
        self._progress = asyncio.Event()

    async def work(self, stop: asyncio.Event, operations: int | None = None) -> None:
        """Work until told to stop, or for a number of operations."""
        while not stop.is_set() and (operations is None or self.operations < operations):
            await self._act()
            self.operations += 1
            self._progress.set()
            await asyncio.sleep(self._pause * self._random.random())

    async def did_something(self) -> None:
        """Wait until it has finished one more operation."""
        self._progress.clear()
        await self._progress.wait()

    async def close(self) -> None:
        """Stop reading and close the connection."""
        for task in self._readers:
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await self.caller.close()

    def _read(self, run: str) -> None:
        """Follow a run; keep its questions to answer them."""

        def on_entry(entry: list[Any]) -> None:
            if entry[2] == "Question":
                self._questions.append((run, entry[3]["token"]))

        name = f"{self.name}-{new_id()}"
        internal = self._random.random() < 0.5
        task = asyncio.create_task(
            follow(self.caller.runs, self._history, run, name, internal=internal, on_entry=on_entry)
        )
        self._readers = [*(reader for reader in self._readers if not reader.done()), task]
        for oldest in self._readers[:-READERS]:
            oldest.cancel()

    async def _act(self) -> None:
        rng = self._random
        once = rng.random() < self._gives_up
        if self._left <= 0 or not self._run:
            await self._renew(once)
            return
        self._left -= 1
        run = rng.choice(self._shared) if self._shared and rng.random() < 0.3 else self._run
        token = new_id()
        kind = rng.choices(
            ("Ping", "Tick", "Part", "Ask", "Answer", "Slow", "SlowSync", "Note", "publish", "set", "get", "again"),
            (20, 6, 8, 6, 12, 3, 2, 6, 4, 16, 6, 8),
        )[0]
        if kind == "publish":
            await self.caller.publish(run, once=once, token=token)
        elif kind == "set":
            await self._set(run, once)
        elif kind == "get":
            await self.caller.get(run)
        elif kind == "again":
            await self._again()
        elif kind == "Answer":
            if self._questions:
                run, asked = self._questions.popleft()
                await self._send(run, "Answer", {"token": asked, "text": token}, once)
        else:
            await self._send(run, kind, {"token": token}, once)

    async def _renew(self, once: bool) -> None:
        """End or leave the present run and start another, sometimes for all."""
        rng = self._random
        if self._run and rng.random() < 0.3:
            await self._send(self._run, "Close", {"token": new_id()}, False)
        self._left = OPERATIONS_PER_RUN
        self._run = await self.caller.start(once=once)
        if not self._run:
            return
        self._read(self._run)
        if len(self._shared) < 2:
            self._shared.append(self._run)
        elif rng.random() < 0.3:
            self._shared[rng.randrange(len(self._shared))] = self._run

    async def _send(self, run: str, type_name: str, fields: dict[str, Any], once: bool) -> None:
        request_id = new_id()
        await self.caller.send(run, type_name, once=once, request_id=request_id, **fields)
        self._answered = [*self._answered[-20:], (run, type_name, request_id, fields)]

    async def _set(self, run: str, once: bool) -> None:
        """Set two keys of this client's own to the same number, atomically."""
        self._counter += 1
        await self.caller.set(run, {f"{self.name}_a": self._counter, f"{self.name}_b": self._counter}, once=once)

    async def _again(self) -> None:
        """Repeat a request that was made before, as a client does that lost the answer."""
        if self._answered:
            run, type_name, request_id, fields = self._random.choice(self._answered)
            await self.caller.send(run, type_name, request_id=request_id, **fields)


class Crowd:
    """Several workers at once; an async context manager that lets them work until it is left."""

    def __init__(self, history: History, address: str, seed: int, *, clients: int = 8, **options: Any) -> None:
        shared: list[str] = []
        self.workers = [Worker(number, history, address, shared, seed, **options) for number in range(clients)]
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def operations(self) -> int:
        """How many operations were done until now."""
        return sum(worker.operations for worker in self.workers)

    async def each_did_something(self) -> None:
        """Wait until each worker has finished one more operation; TimeoutError when one does not."""
        async with asyncio.timeout(180):
            await asyncio.gather(*(worker.did_something() for worker in self.workers))

    async def __aenter__(self) -> Crowd:
        self._tasks = [asyncio.create_task(worker.work(self._stop)) for worker in self.workers]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if exc[0] is not None:
            await self.abandon()
            return
        await self.rest()
        for worker in self.workers:
            await worker.close()

    async def rest(self) -> None:
        """Let each worker finish what it is at, and stop."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def abandon(self) -> None:
        """Stop everything at once."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self.workers:
            await worker.close()
