"""The engine in process beside a bare asyncio loop; the peer's engine and server, each in an environment of its own."""

import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import Bench, Row, Sample, Skipped, Works, alternate, output, row
from benchmarks.memory import CACHES, FLAT
from benchmarks.servers import BEFORE, MEMORY, SQLITE, Server, server, stepwire_server
from tests.serving import ROOT

HERE = Path(__file__).resolve().parent / "peer"
SECONDS = 300.0
"""How long a program may take: one that installs, measures or loads."""
FIRST_SECONDS = 60.0
"""How long the first run of an agent may take on the peer's server."""
PARKED, KEPT = 8 * 1024, 4
"""Bytes that a parked run may take; bytes for an event that count as 0: what an interpreter's own tables do."""
ENGINES = (("workflows-1.0.1", "llama-index-workflows==1.0.1"), ("workflows-newest", "llama-index-workflows"))
PEER = "beside the peer, each by its own Python client"
SERVER = ("llama-agents-server", "llama-agents-client")
_row = partial(row, group="the engine in process")


class Engine(NamedTuple):
    """Stepwire, or a peer: its name, the interpreter that has it, and the package of its engine."""

    name: str
    python: str | Path
    package: str = "workflows"

    async def run(self, program: str, *arguments: object, seconds: float = SECONDS) -> Any:
        """Return the JSON that a program of `peer` prints last. RuntimeError, also when it takes too long."""
        told = await output(seconds, self.python, HERE / program, self.package, *map(str, arguments))
        return json.loads(told.strip().splitlines()[-1])


STEPWIRE = Engine("Stepwire", sys.executable, "stepwire.workflow")


async def peer(bench: Bench, folder: str, *requirements: str) -> Engine:
    """Return the engine in the environment with these packages. Skipped when they cannot be installed."""
    home = ROOT / ".venv" / "peers" / folder
    python, stamp, wanted = home / "bin" / "python", home / ".installed", " ".join(requirements)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        bench.say(f"installing {wanted} into an environment of its own")
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        try:
            await output(SECONDS, sys.executable, "-m", "venv", "--clear", home)
            await output(SECONDS, python, *pip)
        except RuntimeError as error:
            raise Skipped(f"{wanted} could not be installed: {error}") from error
        stamp.write_text(wanted, encoding="utf-8")
    package = requirements[0].partition("==")[0]
    code = f"from importlib.metadata import version; print(version('{package}'))"
    return Engine(f"{package} {(await output(SECONDS, python, '-c', code)).strip()}", python)


class Timed(NamedTuple):
    """A time that `peer/engine.py` measures beside that of a bare loop.

    `sizes` and `grown` are for full and quick runs; an operation of a grown one is to take the same time. `bound` is
    the ratio to reach.
    """

    case: str
    title: str
    limit: str
    sizes: tuple[int, int]
    bound: float
    grown: tuple[int, int] | None = None

    def row(self, size: int, found: dict[str, list[float]], **more: Any) -> Row:
        """Return the line of the rounds that were found for a size."""
        ours, bare = (list(map(Sample, found[name])) for name in ("ours", "bare"))
        return _row(f"engine_{self.case}", f"{self.title} ({size:,})", "s", self.limit, ours, bare, **more)

    def ratio(self, what: str, title: str, limit: str, ours: Row, other: Row, **more: Any) -> Row:
        """Return the line of a ratio of ratios: each beside the bare loop of its own process."""
        told = _row(f"engine_{self.case}_{what}", f"{self.title}{title}", "s", limit, ours.ours, other.ours, **more)
        return replace(told, ratio=ours.ratio / other.ratio)


TIMED = (
    Timed("chain", "a step of a chain", "bare tasks", (2_000, 2_000), 2.5, (50_000, 10_000)),
    Timed("fan_out", "fan-out over 8 workers, collected, an event", "bare tasks", (1_000,) * 2, 4.0, (20_000, 4_000)),
    Timed("trivial", "a trivial run, one after the other", "bare tasks", (2_000, 1_000), 1 / 0.2),
    Timed("stream", "stream write and read, an event", "asyncio.Queue", (50_000, 20_000), 1 / 0.6),
)


async def _measure(bench: Bench, engine: Engine, case: str, size: int) -> Any:
    """Return what `peer/engine.py` measures of a case, in a process of its own. RuntimeError."""
    bench.say(f"engine: {case}, {size:,}, {engine.name}")
    return await engine.run("engine.py", case, size)


def _parked(size: int, found: dict[str, float], **more: Any) -> Row:
    return _row("engine_parked", "memory of a parked run", "B", "8 KiB", found["bytes"], PARKED, **more)


async def engine(bench: Bench) -> AsyncIterator[Row]:
    """Measure the engine, then the same cases at their small sizes of the peers."""
    measure = partial(_measure, bench, STEPWIRE)
    for each in TIMED:
        size = bench.scaled(*each.sizes)
        small = each.row(size, await measure(each.case, size), target=each.bound)
        yield small
        if bench.beside:
            other = Engine(BEFORE, bench.beside / ".venv/bin/python", STEPWIRE.package)
            found = each.row(size, await _measure(bench, other, each.case, size))
            yield each.ratio("beside", f", beside {bench.beside.name}", BEFORE, small, found, guarded=False)
        if each.grown:
            grown = bench.scaled(*each.grown)
            large = each.row(grown, await measure(each.case, grown))
            title, limit = f": {grown:,} beside {size:,}", f"the same at {size:,}"
            yield each.ratio("growth", title, limit, large, small, target=FLAT)
    count = bench.scaled(50_000, 5_000)
    few, many = await measure("snapshot", 50), await measure("snapshot", count)
    for what, word, unit in (("seconds", "time", "s"), ("bytes", "size", "B")):
        title = f"to_dict after {count:,} events, {word}"
        yield _row(f"engine_snapshot_{what}", title, unit, "after 50 events", many[what], few[what], target=FLAT)
    size = bench.scaled(2_000, 500)
    yield _parked(size, await measure("parked", size), target=1.0)
    passed = max(0.0, (await measure("passed", count))["bytes"])
    title, limit = "memory that a passed event leaves", f"{KEPT} B for 0"
    yield _row("engine_passed", title, "B", limit, passed, KEPT, target=1.0, guarded=False)
    for folder, requirement in ENGINES:
        for figure in await _theirs(bench, folder, requirement):
            yield figure


async def _theirs(bench: Bench, folder: str, requirement: str) -> list[Row]:
    """Measure what the peer can do; note what it cannot."""
    rows: list[Row] = []
    try:
        theirs = await peer(bench, folder, requirement)
    except Skipped as missing:
        bench.notes.append(str(missing))
        return rows
    cases: list[tuple[str, int, Callable[..., Row]]] = [(each.case, each.sizes[1], each.row) for each in TIMED]
    for case, size, made in [*cases, ("parked", 200, _parked)]:
        try:
            told = made(size, await _measure(bench, theirs, case, size), guarded=False)
        except RuntimeError as error:
            bench.notes.append(f"{theirs.name}: {case} of {size:,}: no figure ({error})")
            continue
        rows.append(replace(told, key=f"peer_{theirs.name}_{told.key}", group=f"the same with {theirs.name}"))
    return rows


# A load of `peer/loads.py`, its title and unit, and its sizes in full and quick runs.
PLAIN = (
    ("runs", "start → result, 64 in flight", "1/s", (400, 100)),
    ("stream", "one run's stream", "events/s", (5_000, 1_000)),
    ("human", "answer → next question, p50", "s", (50, 15)),
)
AGENTS = (
    ("team_runs", "agent: message → answer, 64 in flight", "1/s", (100, 16)),
    ("team_token", "agent: start → first streamed token, p50", "s", (30, 5)),
    ("team_human", "agent: approval → answer, p50", "s", (20, 3)),
    ("team_memory", "agent: memory of one that waits for a person", "B", (200, 100)),
)


async def _load(engine: Engine, server: Server, load: str, size: int, **more: float) -> tuple[float, int]:
    """Load a server; return the value and the operations."""
    return await engine.run("loads.py", server.address, load, size, **more), size


async def _growth(engine: Engine, server: Server, load: str, size: int) -> tuple[float, int]:
    """Load a server twice; return the bytes that the second time leaves for each operation, and the operations."""
    await _load(engine, server, load, size)  # what the process takes for so many at once, and keeps
    before = await server.settled(2.0)
    await _load(engine, server, load, size)
    return max(0.0, (await server.settled(2.0) - before) / size), size


async def peer_server(bench: Bench) -> AsyncIterator[Row]:
    """Measure runs, streamed events and answers, in memory and on SQLite."""
    theirs = await peer(bench, "server", *SERVER)
    for kind in (MEMORY, SQLITE):
        with server(kind, bench) as ours, _server(bench, theirs, kind) as other:
            for figure in await _beside(bench, theirs, ours, other, PLAIN, kind):
                yield figure


async def agents(bench: Bench) -> AsyncIterator[Row]:
    """Measure runs, first tokens, approvals and the memory of agents that wait, on SQLite."""
    here = await peer(bench, "stepwire-agents", "llama-index-core", "-e", f"{ROOT}[llamaindex]")
    theirs = await peer(bench, "agents", *SERVER, "llama-index-core")
    specs = [f"{HERE / 'approver.py'}:{name}" for name in ("team", "approver")]
    command = [str(Path(here.python).with_name("stepwire"))]
    served = stepwire_server(bench.data(), workflows=specs, idle_after="1s", command=command, timeout=200)
    with served as ours, _server(bench, theirs, SQLITE, {"BENCH_AGENTS": "1"}) as other:
        try:
            await _load(theirs, other, "team_runs", 1, seconds=FIRST_SECONDS)
        except RuntimeError as error:
            raise Skipped(f"{theirs.name} has ended no run of the agents: {error}") from error
        for figure in await _beside(bench, theirs, ours, other, AGENTS):
            yield figure


def _server(bench: Bench, peer: Engine, kind: str, env: Mapping[str, str] | None = None) -> Server:
    data = ":memory:" if kind == MEMORY else bench.data() / "peer.db"
    return Server(data, [], command=[str(peer.python), str(HERE / "server.py")], env=env, timeout=200)


async def _beside(
    bench: Bench, peer: Engine, ours: Server, other: Server, figures: Sequence[Any], kind: str = ""
) -> list[Row]:
    """Measure the figures on both servers in turn; note those whose load failed."""
    sides = {"Stepwire": (STEPWIRE, ours), "peer": (peer, other)}
    for side in sides.values():
        await _load(*side, figures[0][0], 8)  # caches
    rows: list[Row] = []
    for load, title, unit, sizes in figures:
        size, title = bench.scaled(*sizes), f"{title} ({kind})" if kind else title
        works: Works = {name: (side[1].cpu, partial(_load, *side, load, size)) for name, side in sides.items()}
        note, rounds = "", bench.repeats
        if unit == "B":
            works = {name: (None, partial(_growth, *side, load, size)) for name, side in sides.items()}
            note, rounds = CACHES, 1
        try:
            mine, theirs = (await alternate(bench, title, works, rounds)).values()
        except RuntimeError as error:
            bench.notes.append(f"{peer.name}: {title}: no figure, its load failed: {error}")
            continue
        if not all(sample.value for sample in theirs):
            bench.notes.append(f"{peer.name}: {title}: no figure, it does not stand out of what the process keeps")
            continue
        key = "_".join(filter(None, ("peer", load, kind.lower())))
        rows.append(row(key, title, unit, peer.name, mine, theirs, group=PEER, guarded=False, note=note))
    return rows
