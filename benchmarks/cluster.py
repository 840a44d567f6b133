"""Three replicas on one PostgreSQL beside one: what an operation costs them, the database and a follower elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.harness import Bench, Row, Sample, Skipped, Work, alternate, cost, cpus, row
from benchmarks.load import IN_FLIGHT, event, one_at_a_time, saturate, shared
from benchmarks.servers import WARM, Processes, Side, running, stepwire_server
from tests.postgres import MISSING, PostgresServer, programs

from stepwire.v1 import run_service_pb2 as runs

REPLICAS = 3
_row = partial(row, unit="s", guarded=False)


async def cluster(bench: Bench) -> list[Row]:
    """Measure one replica and three on the same database, in turns."""
    if programs() is None:
        raise Skipped(MISSING)
    with PostgresServer() as database:
        names = [f"replica {number + 1}" for number in range(REPLICAS)]
        async with running(bench, {name: stepwire_server(database.dsn) for name in names}) as replicas:
            sides = list(replicas.values())
            return [
                *await _trivial(bench, database, sides),
                *[await _forwarded(bench, sides, method) for method in ("SendEvent", "GetState")],
                await _follower(bench, sides),
            ]


async def _trivial(bench: Bench, database: PostgresServer, sides: Sequence[Side]) -> list[Row]:
    """Start trivial runs, 64 in flight for each replica."""
    everyone = Processes(*(side.server.pid for side in sides))
    on_one, *others = (partial(saturate, side.caller.run_to_end(), bench.seconds) for side in sides)

    async def on_all() -> tuple[float, int]:
        found = await asyncio.gather(*(work() for work in (on_one, *others)))
        return sum(rate for rate, _ in found), sum(count for _, count in found)

    title = f"CPU of replicas for a trivial run, {REPLICAS} replicas, 64 in flight for each"
    # The database works for one replica as it does for three: it is measured while it works for one.
    works: dict[str, tuple[Processes, Work]] = {
        "three": (everyone, on_all),
        "one": (everyone, on_one),
        "database": (Processes(database.pid), on_one),
    }
    samples = await alternate(bench, title, {name: partial(cost, *each) for name, each in works.items()})
    three, one, stored = (cpus(samples[name]) for name in works)
    note = f"{median(sample.value for sample in samples['three']):,.0f} runs a second"
    told = "CPU of PostgreSQL for a trivial run"
    return [
        _row("cluster_cpu", title, limit_name="one replica", ours=three, limits=one, target=1.25, note=note),
        _row("cluster_database", told, limit_name="0.7 ms", ours=stored, limits=0.0007, target=1),
    ]


async def _forwarded(bench: Bench, sides: Sequence[Side], method: str) -> Row:
    """Call a method for runs at their owner and through another replica."""
    owner, other = (side.caller for side in sides[:2])
    parked = await owner.start_many("Park")
    await shared(other.each("SendEvent", parked), IN_FLIGHT)  # the other replica learns who has them
    title = f"CPU of replicas for {method} through another replica, 64 in flight"
    pair = Processes(*(side.server.pid for side in sides[:2]))
    works = {
        name: partial(saturate, caller.each(method, parked), bench.seconds)
        for name, caller in (("owner", owner), ("other", other))
    }
    samples = await alternate(bench, title, {name: partial(cost, pair, work) for name, work in works.items()})
    here, through = cpus(samples["owner"]), cpus(samples["other"])
    return _row(f"cluster_forwarded_{method}", title, limit_name="at the owner", ours=through, limits=here, target=2.2)


async def _follower(bench: Bench, sides: Sequence[Side]) -> Row:
    """Follow a run on a replica that does not own it: how long after the commit an event is there."""
    owner, other = (side.caller for side in sides[:2])
    run_id = await owner.start("Park")
    stream = other.stream(run_id)
    seen: dict[int, float] = {}
    news = asyncio.Condition()

    async def follow() -> None:
        async for frame in stream:
            now = time.perf_counter()
            async with news:
                seen.update((entry.sequence, now) for entry in frame.events.entries)
                news.notify_all()

    following = asyncio.create_task(follow())
    request = runs.PublishEventRequest(run_id=run_id, event=event("Token"))

    async def publish(number: int) -> float:
        """Return the seconds between the acknowledgement, which comes after the commit, and the event."""
        sequence = (await owner.runs.PublishEvent(request)).sequence
        acknowledged = time.perf_counter()
        async with asyncio.timeout(10), news:
            await news.wait_for(lambda: sequence in seen)
        return max(0.0, seen[sequence] - acknowledged)

    async def measured() -> Sample:
        return Sample((await one_at_a_time(publish, bench.seconds))[0])

    await one_at_a_time(publish, WARM)
    title = "an event at a follower on another replica, after its commit, p50"
    samples = (await alternate(bench, title, {"follower": measured}))["follower"]
    stream.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return _row("cluster_follower", title, limit_name="3 ms", ours=samples, limits=0.003, target=1)
