"""Three replicas on one PostgreSQL beside one: what an operation costs them, the database and a follower elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from statistics import median

from benchmarks.harness import Bench, Row, Sample, Work, alternate, costs, row, spent
from benchmarks.load import IN_FLIGHT, Caller, event, one_at_a_time, saturate, shared
from benchmarks.processes import Server, Together, WithChildren, stepwire_server
from tests.postgres import MISSING, PostgresServer, programs

from stepwire.v1 import run_service_pb2 as runs

__all__ = ["cluster"]

REPLICAS = 3
WARM = 0.5


async def cluster(bench: Bench) -> list[Row]:
    """Measure one replica and three on the same database, in turns."""
    if programs() is None:
        bench.notes.append(f"cluster: {MISSING}")
        return []
    async with AsyncExitStack() as stack:
        database = stack.enter_context(PostgresServer())
        replicas, callers = [], []
        for number in range(REPLICAS):
            bench.say(f"starting replica {number + 1}")
            replicas.append(stack.enter_context(stepwire_server(database.dsn)))
            callers.append(await stack.enter_async_context(Caller.open(replicas[-1].address)))
            await saturate(callers[-1].run_trivial(), WARM)
        return [
            *await _trivial(bench, database, replicas, callers),
            *await _forwarded(bench, replicas, callers),
            *await _follower(bench, callers),
        ]


async def _trivial(
    bench: Bench, database: PostgresServer, replicas: Sequence[Server], callers: Sequence[Caller]
) -> list[Row]:
    """Start trivial runs, 64 in flight for each replica."""

    async def on_all() -> tuple[float, int]:
        found = await asyncio.gather(*(saturate(caller.run_trivial(), bench.seconds) for caller in callers))
        return sum(rate for rate, _ in found), sum(count for _, count in found)

    on_one = partial(saturate, callers[0].run_trivial(), bench.seconds)
    everyone, stored = Together(*replicas), WithChildren(database.pid)
    of_database: dict[str, list[Sample]] = {"one": [], "three": []}

    async def measured(name: str, work: Work) -> Sample:
        ours, theirs = await costs(work, everyone, stored)
        of_database[name].append(theirs)
        return Sample(ours.cpu or 0.0, ours.cpu)

    title = f"CPU of replicas for a trivial run, {REPLICAS} replicas, 64 in flight for each"
    works: dict[str, Work] = {"one": on_one, "three": on_all}
    samples = await alternate(bench, title, {name: partial(measured, name, work) for name, work in works.items()})
    rate = median(sample.value for sample in of_database["three"])
    # The database works for one replica as it does for three: the rounds of one are told.
    stored_cpu = [Sample(sample.cpu or 0.0) for sample in of_database["one"]]
    limits = [Sample(0.0007)] * len(stored_cpu)
    return [
        row("cluster_cpu", title, "s", "one replica", samples["three"], samples["one"], target=1.25,
            note=f"{rate:,.0f} runs a second", guarded=False),
        row("cluster_database", "CPU of PostgreSQL for a trivial run", "s", "0.7 ms", stored_cpu, limits, target=1,
            guarded=False),
    ]  # fmt: skip


async def _forwarded(bench: Bench, replicas: Sequence[Server], callers: Sequence[Caller]) -> list[Row]:
    """Send events to runs and read their states, at their owner and through another replica."""
    pair = Together(*replicas[:2])
    found = []
    for method in ("SendEvent", "GetState"):
        parked = await callers[0].start_many("Park", IN_FLIGHT)
        await shared(callers[1].each("SendEvent", parked), IN_FLIGHT)  # the other replica learns who has them
        here, through = (partial(saturate, caller.each(method, parked), bench.seconds) for caller in callers[:2])
        title = f"CPU of replicas for {method} through another replica, 64 in flight"
        samples = await alternate(
            bench, title, {"owner": partial(spent, pair, here), "other": partial(spent, pair, through)}
        )
        found.append(
            row(f"cluster_forwarded_{method}", title, "s", "at the owner", samples["other"], samples["owner"],
                target=2.2, guarded=False)
        )  # fmt: skip
    return found


async def _follower(bench: Bench, callers: Sequence[Caller]) -> list[Row]:
    """Follow a run on a replica that does not own it: how long after the commit an event is there."""
    run_id = await callers[0].start("Park")
    stream = callers[1].stream(run_id)
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
        sequence = (await callers[0].runs.PublishEvent(request)).sequence
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
    limits = [Sample(0.003)] * len(samples)
    return [row("cluster_follower", title, "s", "3 ms", samples, limits, target=1, guarded=False)]
