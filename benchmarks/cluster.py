"""Three replicas on one PostgreSQL beside one: what an operation costs them, the database and a follower elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from statistics import median

from benchmarks.harness import Bench, Row, Skipped, Works, alternate, cpus, row
from benchmarks.load import event, one_at_a_time, saturate
from benchmarks.peer.loads import IN_FLIGHT, together
from benchmarks.servers import WARM, Server, cpu_of, running, stepwire_server
from tests.postgres import MISSING, PostgresServer, programs

from stepwire.v1 import run_service_pb2 as runs

REPLICAS = 3
_row = partial(row, unit="s", guarded=False)


async def cluster(bench: Bench) -> AsyncIterator[Row]:
    """Measure one replica and three on the same database, in turns."""
    if programs() is None:
        raise Skipped(MISSING)
    with PostgresServer() as database:
        names = [f"replica {number + 1}" for number in range(REPLICAS)]
        async with running(bench, {name: stepwire_server(database.dsn) for name in names}) as servers:
            replicas = list(servers.values())
            for figure in await _trivial(bench, database, replicas):
                yield figure
            for method in ("SendEvent", "GetState"):
                yield await _forwarded(bench, replicas[:2], method)
            yield await _follower(bench, *replicas[:2])


async def _trivial(bench: Bench, database: PostgresServer, replicas: Sequence[Server]) -> list[Row]:
    """Start trivial runs, 64 in flight for each replica."""
    everyone = partial(cpu_of, *(each.pid for each in replicas))
    on_one, *others = (partial(saturate, each.caller.run_to_end(), bench.seconds) for each in replicas)

    async def on_all() -> tuple[float, int]:
        found = await asyncio.gather(*(work() for work in (on_one, *others)))
        return sum(rate for rate, _ in found), sum(count for _, count in found)

    title = f"CPU of replicas for a trivial run, {REPLICAS} replicas, 64 in flight for each"
    # The database works for one replica as it does for three: it is measured while it works for one.
    works: Works = {
        "three": (everyone, on_all),
        "one": (everyone, on_one),
        "database": (partial(cpu_of, database.pid), on_one),
    }
    samples = await alternate(bench, title, works)
    three, one, stored = map(cpus, samples.values())
    note = f"{median(sample.value for sample in samples['three']):,.0f} runs a second"
    told = "CPU of PostgreSQL for a trivial run"
    return [
        _row("cluster_cpu", title, limit_name="one replica", ours=three, limits=one, target=1.25, note=note),
        _row("cluster_database", told, limit_name="0.7 ms", ours=stored, limits=0.0007, target=1),
    ]


async def _forwarded(bench: Bench, pair: Sequence[Server], method: str) -> Row:
    """Call a method for runs at their owner and through another replica."""
    owner, other = (each.caller for each in pair)
    parked = await owner.start_many("Park")
    await together(other.each("SendEvent", parked), range(IN_FLIGHT))  # the other replica learns who has them
    title = f"CPU of replicas for {method} through another replica, 64 in flight"
    cpu = partial(cpu_of, *(each.pid for each in pair))
    works: Works = {
        name: (cpu, partial(saturate, caller.each(method, parked), bench.seconds))
        for name, caller in (("owner", owner), ("other", other))
    }
    here, through = map(cpus, (await alternate(bench, title, works)).values())
    return _row(f"cluster_forwarded_{method}", title, limit_name="at the owner", ours=through, limits=here, target=2.2)


async def _follower(bench: Bench, owner: Server, other: Server) -> Row:
    """Follow a run on a replica that does not own it: how long after the commit an event is there."""
    run_id = await owner.caller.start("Park")
    stream = other.caller.stream(run_id)
    request = runs.PublishEventRequest(run_id=run_id, event=event("Token"))
    seen = 0

    async def publish(number: int) -> float:
        """Return the seconds between the acknowledgement, which comes after the commit, and the event."""
        nonlocal seen
        sequence = (await owner.caller.runs.PublishEvent(request)).sequence
        acknowledged = time.perf_counter()
        async with asyncio.timeout(10):
            while seen < sequence:
                seen = max(seen, (await stream.read()).events.to_sequence)
        return time.perf_counter() - acknowledged

    await one_at_a_time(publish, WARM)
    title = "an event at a follower on another replica, after its commit, p50"
    works: Works = {"follower": (None, partial(one_at_a_time, publish, bench.seconds))}
    samples = (await alternate(bench, title, works))["follower"]
    stream.cancel()
    return _row("cluster_follower", title, limit_name="3 ms", ours=samples, limits=0.003, target=1)
