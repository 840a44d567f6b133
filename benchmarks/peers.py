"""The peer in an environment of its own inside .venv, and figures of its server beside ours, each by its own client."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import PEER, Bench, Row, Sample, Skipped, alternate, cost, output, row
from benchmarks.memory import CACHES
from benchmarks.servers import MEMORY, SQLITE, Server, server, stepwire_server
from tests.serving import ROOT

HERE = Path(__file__).resolve().parent / "peer"
INSTALL_SECONDS = 300.0
LOAD_SECONDS = 240.0
FIRST_SECONDS = 60.0
"""How long the first run of an agent may take on the peer's server."""
SERVER = ("llama-agents-server", "llama-agents-client")


class Figure(NamedTuple):
    """What both servers do: a load of `peer/loads.py`, and its sizes in full and quick runs."""

    load: str
    title: str
    unit: str
    sizes: tuple[int, int]


FIGURES = (
    Figure("runs", "start → result, 64 in flight", "1/s", (400, 100)),
    Figure("stream", "one run's stream", "events/s", (5_000, 1_000)),
    Figure("human", "answer → next question, p50", "s", (50, 15)),
)
AGENTS = (
    Figure("team_runs", "agent: message → answer, 64 in flight", "1/s", (100, 16)),
    Figure("team_token", "agent: start → first streamed token, p50", "s", (30, 5)),
    Figure("team_human", "agent: approval → answer, p50", "s", (20, 3)),
    Figure("team_memory", "agent: memory of one that waits for a person", "B", (200, 100)),
)


async def run_json(seconds: float, *command: str | Path) -> Any:
    """Run a program and return the JSON that it prints last. RuntimeError, also when it takes too long."""
    return json.loads((await output(seconds, *command)).strip().splitlines()[-1])


class Peer(NamedTuple):
    """An installed peer: its interpreter, and its main package with the version."""

    python: Path
    name: str


async def peer(bench: Bench, folder: str, *requirements: str) -> Peer:
    """Return the environment with these packages. Skipped when they cannot be installed."""
    home = ROOT / ".venv" / "peers" / folder
    python, stamp, wanted = home / "bin" / "python", home / ".installed", " ".join(requirements)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        bench.say(f"installing {wanted} into an environment of its own")
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        try:
            await output(INSTALL_SECONDS, sys.executable, "-m", "venv", "--clear", home)
            await output(INSTALL_SECONDS, python, *pip)
        except RuntimeError as error:
            raise Skipped(f"{wanted} could not be installed: {error}") from error
        stamp.write_text(wanted, encoding="utf-8")
    package = requirements[0].partition("==")[0]
    code = f"import importlib.metadata as m, json; print(json.dumps(m.version('{package}')))"
    return Peer(python, f"{package} {await run_json(60, python, '-c', code)}")


class Side(NamedTuple):
    """A server, and the interpreter and the name of the client that loads it."""

    server: Server
    python: str | Path
    client: str

    async def load(self, load: str, size: int, seconds: float = LOAD_SECONDS) -> tuple[float, int]:
        """Load the server; return the value and the operations."""
        command = [self.python, HERE / "loads.py", self.client, self.server.address, load, str(size)]
        found = await run_json(seconds, *command)
        return found["value"], found["operations"]

    async def measure(self, figure: Figure, size: int) -> Sample:
        """Measure a figure once."""
        work = partial(self.load, figure.load, size)
        if figure.unit != "B":
            return await cost(self.server, work)
        await work()  # what the process takes for so many at once, and keeps
        before = await self.server.settled(2.0)
        await work()
        return Sample(max(0.0, (await self.server.settled(2.0) - before) / size))


async def peer_server(bench: Bench) -> list[Row]:
    """Measure runs, streamed events and answers, in memory and on SQLite."""
    rows: list[Row] = []
    found = await peer(bench, "server", *SERVER)
    for kind in (MEMORY, SQLITE):
        with server(kind, bench) as ours, _server(bench, found, kind) as theirs:
            rows += await _beside(bench, found, ours, theirs, FIGURES, kind)
    return rows


async def agents(bench: Bench) -> list[Row]:
    """Measure runs, first tokens, approvals and the memory of agents that wait, on SQLite."""
    here = await peer(bench, "stepwire-agents", "llama-index-core", "-e", f"{ROOT}[llamaindex]")
    found = await peer(bench, "agents", *SERVER, "llama-index-core")
    specs = [f"{HERE / 'approver.py'}:{name}" for name in ("team", "approver")]
    command = [str(here.python.with_name("stepwire"))]
    served = stepwire_server(bench.data(), workflows=specs, idle_after="1s", command=command, timeout=200)
    with served as ours, _server(bench, found, SQLITE, {"BENCH_AGENTS": "1"}) as theirs:
        try:
            await Side(theirs, found.python, "peer").load("team_runs", 1, FIRST_SECONDS)
        except RuntimeError as error:
            raise Skipped(f"{found.name} has ended no run of the agents: {error}") from error
        return await _beside(bench, found, ours, theirs, AGENTS)


def _server(bench: Bench, found: Peer, kind: str, env: Mapping[str, str] | None = None) -> Server:
    data = ":memory:" if kind == MEMORY else bench.data() / "peer.db"
    return Server(data, [], command=[str(found.python), str(HERE / "server.py")], env=env, timeout=200)


async def _beside(
    bench: Bench, found: Peer, ours: Server, theirs: Server, figures: Sequence[Figure], kind: str = ""
) -> list[Row]:
    """Measure the figures on both servers in turn; note those whose load failed."""
    sides = {"Stepwire": Side(ours, sys.executable, "stepwire"), "peer": Side(theirs, found.python, "peer")}
    for side in sides.values():
        await side.load(figures[0].load, 8)  # caches
    rows: list[Row] = []
    for figure in figures:
        size, title = bench.scaled(*figure.sizes), f"{figure.title} ({kind})" if kind else figure.title
        measures = {name: partial(side.measure, figure, size) for name, side in sides.items()}
        try:
            both = await alternate(bench, title, measures, 1 if figure.unit == "B" else bench.repeats)
        except RuntimeError as error:
            bench.notes.append(f"{found.name}: {title}: no figure, its load failed: {error}")
            continue
        if not all(sample.value for sample in both["peer"]):
            bench.notes.append(f"{found.name}: {title}: no figure, it does not stand out of what the process keeps")
            continue
        key = "_".join(filter(None, ("peer", figure.load, kind.lower())))
        samples = both["Stepwire"], both["peer"], both["peer"]
        note = CACHES if figure.unit == "B" else ""
        rows.append(row(key, title, figure.unit, found.name, *samples, group=PEER, guarded=False, note=note))
    return rows
