"""Latency figures: one operation at a time, beside raw round trips and bare commits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.commits import CommitLoop
from benchmarks.load import Caller, one_at_a_time
from benchmarks.measure import AT_MOST, Bench, Measure, Row, Sample, alternate, cost, make_row, median, values
from benchmarks.servers import MEMORY, RAW, SQLITE, Process, servers

__all__ = ["Bound", "beside_commits", "start_to_result"]

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


def _ms(samples: list[Sample]) -> str:
    return f"{median(values(samples)) * 1000:.2f} ms"
