"""Figures beside the peer: llama-agents-server with its own client, in an environment of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import AT_LEAST, AT_MOST, Bench, Measure, Row, Sample, alternate, cost, make_row, values
from benchmarks.servers import MEMORY, SQLITE, Process, stepwire_server
from benchmarks.unary import IN_FLIGHT
from benchmarks.venvs import Peer, peer, run_json

from stepwire.client import Client

__all__ = ["peer_server"]

HERE = Path(__file__).resolve().parent
PEER_SECONDS = 120.0

Work = Callable[[Client, int], Awaitable[tuple[float, int]]]


async def _runs(client: Client, size: int) -> tuple[float, int]:
    left = size

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            run = await client.start_run("Trivial")
            await run.result()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return size / (time.perf_counter() - began), size


async def _stream(client: Client, size: int) -> tuple[float, int]:
    began = time.perf_counter()
    run = await client.start_run("Talk", count=size)
    seen = 0
    async for _ in run.events():
        seen += 1
    return seen / (time.perf_counter() - began), seen


async def _human(client: Client, size: int) -> tuple[float, int]:
    run = await client.start_run("PingPong", count=size + 1)
    times: list[float] = []
    began = 0.0
    async with aclosing(run.events()) as events:
        async for event in events:
            if began:
                times.append(time.perf_counter() - began)
            if len(times) == size:
                break
            began = time.perf_counter()
            await run.context.send_event(("Answer", {"number": event.number}))
    times.sort()
    return times[len(times) // 2], len(times)


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured of both."""

    what: str
    title: str
    unit: str
    sense: str
    work: Work


FIGURES = (
    Figure("runs", "start → result, 64 in flight", "1/s", AT_LEAST, _runs),
    Figure("stream", "one run's stream", "events/s", AT_LEAST, _stream),
    Figure("human", "answer → next question, p50", "s", AT_MOST, _human),
)


async def peer_server(bench: Bench) -> list[Row]:
    """Measure runs, streamed events and answers by both Python clients, in turn."""
    found = await peer(bench, "server", ["llama-agents-server", "llama-agents-client"])
    if found is None:
        return []
    rows: list[Row] = []
    sizes = {"runs": bench.scaled(400, 100), "stream": bench.scaled(5_000, 1_000), "human": bench.scaled(50, 15)}
    for kind in (MEMORY, SQLITE):
        async with AsyncExitStack() as stack:
            bench.say(f"starting servers, {kind}")
            data = bench.data()
            ours = stack.enter_context(stepwire_server(":memory:" if kind == MEMORY else data))
            command = [str(found.python), str(HERE / "peer" / "serve.py")]
            command += [] if kind == MEMORY else [str(data / "peer.db")]
            theirs = stack.enter_context(Process(command, found.name))
            client = await stack.enter_async_context(Client(ours.address))
            await run_json(_load(found, theirs, "runs", 64), PEER_SECONDS)
            await _runs(client, 64)
            for figure in FIGURES:
                sample = _Pair(found, ours, theirs, client, figure, sizes[figure.what])
                try:
                    rows.append(await sample.row(bench, kind))
                except RuntimeError as error:
                    bench.notes.append(f"{found.name}, {kind}: {figure.title}: no figure, its load failed: {error}")
    return rows


@dataclass(frozen=True, slots=True)
class _Pair:
    """A figure of both servers."""

    found: Peer
    ours: Process
    theirs: Process
    client: Client
    figure: Figure
    size: int

    async def row(self, bench: Bench, kind: str) -> Row:
        """Measure them in turn."""
        figure = self.figure
        measures: dict[str, Measure] = {"Stepwire": self.mine, "peer": self.other}
        samples = await alternate(bench, f"{figure.title}, {kind}", measures)
        return make_row(
            f"peer_{figure.what}_{kind.lower()}",
            f"{figure.title} ({kind})",
            figure.unit,
            samples["Stepwire"],
            values(samples["peer"]),
            limit_name=self.found.name,
            raw=samples["peer"],
            sense=figure.sense,
            group="beside the peer, each by its own Python client",
            guarded=False,
        )

    async def mine(self) -> Sample:
        """Measure Stepwire."""
        return await cost(self.ours, lambda: self.figure.work(self.client, self.size))

    async def other(self) -> Sample:
        """Measure the peer."""
        before = self.theirs.cpu()
        seen = await run_json(_load(self.found, self.theirs, self.figure.what, self.size), PEER_SECONDS)
        return Sample(seen["value"], (self.theirs.cpu() - before) / seen["operations"])


def _load(found: Peer, process: Process, what: str, size: int) -> list[str]:
    return [str(found.python), str(HERE / "peer" / "load.py"), process.address, what, str(size)]
