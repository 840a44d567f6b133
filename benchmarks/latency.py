"""Latency figures: one operation at a time, beside raw round trips and bare commits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.commits import CommitLoop, SameRowsLoop
from benchmarks.load import Call, Caller, one_at_a_time
from benchmarks.measure import AT_MOST, Bench, Measure, Row, Sample, alternate, cost, make_row, median, values
from benchmarks.servers import MEMORY, RAW, SQLITE, Process, servers, stepwire_server

__all__ = ["Bound", "beside_commits", "commit", "start_to_result"]

Work = Callable[[], Awaitable[tuple[float, int]]]


@dataclass(frozen=True, slots=True)
class Bound:
    """A latency and what it is held to: `factor` raw round trips and some bare commits."""

    key: str
    title: str
    factor: float
    commits: int
    raw: str

    def of(self, raw: float, commit: float) -> float:
        """Return the bound in seconds."""
        return self.factor * raw + self.commits * commit


async def beside_commits(
    bench: Bench, name: str, ours: Callable[[Caller], Work], theirs: Callable[[Caller], Work], bound: Bound
) -> list[Row]:
    """Measure a latency against Stepwire and the raw server, and commits, in turn."""
    commits = CommitLoop(bench.data())
    async with AsyncExitStack() as stack:
        stack.callback(commits.close)
        processes = await servers(bench, stack)
        measures: dict[str, Measure] = {}
        for kind, process in processes.items():
            caller = await stack.enter_async_context(Caller.open(process.address))
            await one_at_a_time(caller.run_trivial(), 0.2)  # connection, caches
            work = theirs(caller) if kind == RAW else ours(caller)

            def measure(process: Process = process, work: Work = work) -> Awaitable[Sample]:
                return cost(process, work)

            measures[kind] = measure

        async def commit() -> Sample:
            return Sample(commits.p50(bench.seconds / 4))

        measures["commit"] = commit
        samples = await alternate(bench, name, measures)
    raw = samples[RAW]
    pairs = zip(raw, samples["commit"], strict=True)
    return [
        make_row(
            bound.key,
            bound.title,
            "s",
            samples[SQLITE],
            [bound.of(echo.value, bare.value) for echo, bare in pairs],
            limit_name=f"{bound.factor:g} {bound.raw} + {bound.commits} commits",
            raw=raw,
            sense=AT_MOST,
            target=1.0,
            note=f"{bound.raw} {_ms(raw)}, bare commit {_ms(samples['commit'])}",
        ),
        make_row(
            f"{bound.key}_memory",
            f"{bound.title} (memory)",
            "s",
            samples[MEMORY],
            values(raw),
            limit_name=bound.raw,
            raw=raw,
            sense=AT_MOST,
        ),
    ]


async def start_to_result(bench: Bench) -> list[Row]:
    """Start a trivial run and get its result, one at a time."""

    def work(caller: Caller) -> Work:
        return lambda: one_at_a_time(caller.run_trivial(), bench.seconds / 2)

    bound = Bound("latency", "start → result, one at a time, p50", 2, 3, "echo")
    return await beside_commits(bench, "start → result, one at a time", work, work, bound)


async def commit(bench: Bench) -> list[Row]:
    """Write an event to the stream of waiting runs, one at a time: what SQLite adds to the memory store's latency."""
    one, same = CommitLoop(bench.data()), SameRowsLoop(bench.data())
    async with AsyncExitStack() as stack:
        stack.callback(one.close)
        stack.callback(same.close)
        measures: dict[str, Measure] = {}
        for kind, data in ((SQLITE, bench.data()), (MEMORY, ":memory:")):
            process = stack.enter_context(stepwire_server(data))
            caller = await stack.enter_async_context(Caller.open(process.address))
            call = caller.publish(await caller.start_many("Park", 16))
            await one_at_a_time(call, 0.2)  # connection, caches

            def measure(process: Process = process, call: Call = call) -> Awaitable[Sample]:
                return cost(process, lambda: one_at_a_time(call, bench.seconds / 2))

            measures[kind] = measure

        async def one_row() -> Sample:
            return Sample(one.p50(bench.seconds / 4))

        async def same_rows() -> Sample:
            return Sample(same.p50(bench.seconds / 4))

        samples = await alternate(bench, "a commit", measures | {"one": one_row, "same": same_rows})
    pairs = zip(samples[SQLITE], samples[MEMORY], strict=True)
    added = [Sample(durable.value - memory.value) for durable, memory in pairs]
    title = "what a commit adds to PublishEvent, one at a time, p50"
    return [
        make_row(
            "commit_latency",
            title,
            "s",
            added,
            values(samples["same"]),
            limit_name="bare SQLite commit of the same rows",
            sense=AT_MOST,
            target=1.5,
            note=f"SQLite {_ms(samples[SQLITE])}, memory {_ms(samples[MEMORY])}",
        ),
        make_row(
            "commit_latency_one_row",
            f"{title}, beside one row",
            "s",
            added,
            values(samples["one"]),
            limit_name="bare SQLite commit of one row",
            sense=AT_MOST,
        ),
    ]


def _ms(samples: list[Sample]) -> str:
    return f"{median(values(samples)) * 1000:.2f} ms"
