"""What is counted is what happened: calls, runs, steps, refusals, as a scrape tells."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry
from tests.integration.durability.support import until
from tests.integration.operations.flows import HELD
from tests.integration.operations.support import operated, page, scrape
from tests.integration.rpc_serving import event, refused

from stepwire.server.telemetry.metrics import Histogram, Metrics
from stepwire.server.telemetry.prometheus import FAMILIES, registry_of

DOCS = Path(__file__).parents[3] / "docs" / "operations.md"
RUNS = "stepwire.v1.RunService/"


async def test_calls_are_counted_by_method_and_code(tmp_path: Path) -> None:
    async with operated(str(tmp_path), heartbeat=0.05) as rpc:
        run = await rpc.start("work")
        await rpc.ended(run.run_id)
        for _ in range(3):
            await rpc.get(run.run_id)
        assert (await refused(rpc.get("nobody"))).code is grpc.StatusCode.NOT_FOUND
        assert (await refused(rpc.start("missing"))).code is grpc.StatusCode.NOT_FOUND
        [_ async for _ in rpc.stream(run.run_id)]
        left = rpc.stream((await rpc.start("work", {"do": "wait"})).run_id)
        await left.read()
        value = await scrape(rpc)
        assert value("stepwire_calls", kind="stream") == 1
        left.cancel()
        await until(lambda: not rpc.server.calls.streams)
        await rpc.health.Check(health_pb2.HealthCheckRequest())
        value = await scrape(rpc)
    assert value("stepwire_calls", kind="stream") == 0
    assert value("stepwire_rpc_total", method=RUNS + "StartRun", code="OK") == 2
    assert value("stepwire_rpc_total", method=RUNS + "StartRun", code="NOT_FOUND") == 1
    assert value("stepwire_rpc_total", method=RUNS + "GetRun", code="OK") == 3
    assert value("stepwire_rpc_total", method=RUNS + "GetRun", code="NOT_FOUND") == 1
    assert value("stepwire_rpc_total", method=RUNS + "WaitRun", code="OK") == 1
    assert value("stepwire_rpc_total", method=RUNS + "StreamEvents", code="OK") == 1
    assert value("stepwire_rpc_total", method=RUNS + "StreamEvents", code="CANCELLED") == 1
    assert value("stepwire_rpc_total", method="grpc.health.v1.Health/Check", code="OK") == 1
    assert value("stepwire_rpc_duration_seconds_count", method=RUNS + "GetRun") == 4
    assert 0 < value("stepwire_rpc_duration_seconds_sum", method=RUNS + "GetRun") < 100
    assert value("stepwire_rpc_duration_seconds_bucket", method=RUNS + "GetRun", le="+Inf") == 4


async def test_runs_and_steps_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    async with operated(str(tmp_path)) as rpc:
        for doing in ("return", "return", "fail"):
            await rpc.ended((await rpc.start("work", {"do": doing})).run_id)
        slow = await rpc.start("work", {"do": "leave"})
        await rpc.send(slow.run_id, event("Answer"))
        await rpc.ended(slow.run_id)
        waiting = await rpc.start("work", {"do": "wait"})
        await rpc.status(waiting.run_id, "WAITING")
        value = await scrape(rpc)
        assert value("stepwire_runs", workflow="work", status="waiting") == 1
        assert value("stepwire_waiters", workflow="work") == 1
        assert value("stepwire_runs_in_memory") == 1
        cancelled = await rpc.start("work", {"do": "wait"})
        await rpc.runs.CancelRun(_cancel(cancelled.run_id))
        value = await scrape(rpc)
    assert value("stepwire_runs_started_total", workflow="work") == 6
    assert value("stepwire_runs_finished_total", workflow="work", status="completed") == 2
    assert value("stepwire_runs_finished_total", workflow="work", status="failed") == 2
    assert value("stepwire_runs_finished_total", workflow="work", status="cancelled") == 1
    assert value("stepwire_runs", workflow="work", status="running") == 0
    for outcome, count in {"completed": 3, "failed": 1, "abandoned": 1}.items():
        labels = {"workflow": "work", "step": "work", "outcome": outcome}
        assert value("stepwire_step_duration_seconds_count", **labels) == count, outcome
    labels = {"workflow": "work", "step": "hurry", "outcome": "timed_out"}
    assert value("stepwire_step_duration_seconds_count", **labels) == 1
    assert 0 < value("stepwire_step_duration_seconds_sum", **labels) < 100
    assert value("stepwire_commit_duration_seconds_count") >= 10
    assert value("stepwire_commit_batch_items_count") >= 5
    assert value("stepwire_commits_queued") == 0
    assert value("stepwire_database_bytes") > 10_000
    assert value("process_open_fds") > 0
    assert value("process_resident_memory_bytes") > 1 << 20


async def test_runs_that_were_there_before_count_and_come_and_go(tmp_path: Path) -> None:
    async with operated(str(tmp_path)) as rpc:
        run = await rpc.start("work", {"do": "wait"})
        await rpc.status(run.run_id, "WAITING")
    async with operated(str(tmp_path), idle_after=0.05) as rpc:
        value = await scrape(rpc)
        assert value("stepwire_runs", workflow="work", status="waiting") == 1
        assert value("stepwire_runs_started_total", workflow="work") == 0
        other = await rpc.start("work", {"do": "wait"})
        await until(lambda: len(rpc.pool) == 0)
        await rpc.send(run.run_id, event("Answer"))
        await rpc.ended(run.run_id)

        async def counted() -> bool:  # the answer does not wait for the count
            finished = (await scrape(rpc))("stepwire_runs_finished_total", workflow="work", status="completed")
            return finished == 1

        await until(counted)
        value = await scrape(rpc)
        assert value("stepwire_runs_loaded_total") == 1
        assert value("stepwire_runs_released_total") == 1
        assert value("stepwire_runs", workflow="work", status="waiting") == 1
        await rpc.runs.CancelRun(_cancel(other.run_id))


async def test_what_is_refused_is_counted_by_limit(tmp_path: Path) -> None:
    async with operated(max_event_bytes=100) as rpc:
        before = (await scrape(rpc))("stepwire_limits_refused_total", limit="event_bytes")
        for _ in range(2):
            refusal = await refused(rpc.start("work", {"text": "x" * 200}))
            assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        value = await scrape(rpc)
    assert value("stepwire_limits_refused_total", limit="event_bytes") == before + 2
    assert value("stepwire_rpc_total", method=RUNS + "StartRun", code="RESOURCE_EXHAUSTED") == 2


async def test_sync_steps_that_wait_hold_a_thread_or_were_given_up_are_told_apart() -> None:
    HELD.clear()
    try:
        async with operated(sync_threads=1) as rpc:
            first, second = await rpc.start("hold"), await rpc.start("hold")
            await until(lambda: rpc.pool.thread_load[:2] == (1, 1))
            value = await scrape(rpc)
            assert value("stepwire_sync_steps_running") == 1
            assert value("stepwire_sync_steps_queued") == 1
            assert value("stepwire_sync_steps_given_up") == 0
            assert value("stepwire_sync_step_longest_wait_seconds") > 0
            await rpc.runs.CancelRun(_cancel(first.run_id))
            await until(lambda: rpc.pool.thread_load[:3] == (0, 1, 1))
            value = await scrape(rpc)
            assert value("stepwire_sync_steps_given_up") == 1
            assert value("stepwire_sync_step_longest_wait_seconds") == 0
            HELD.set()
            await rpc.ended(second.run_id)
    finally:
        HELD.set()


async def test_each_server_of_a_process_counts_its_own() -> None:
    async with operated() as one, operated() as other:
        await one.ended((await one.start("work")).run_id)
        await refused(one.start("work", {"text": "x" * (2 << 20)}))
        first, second = await scrape(one), await scrape(other)
    assert first("stepwire_runs_started_total", workflow="work") == 1
    assert second("stepwire_runs_started_total", workflow="work") == 0
    assert first("stepwire_limits_refused_total", limit="event_bytes") == 1
    assert second("stepwire_limits_refused_total", limit="event_bytes") == 0


async def test_no_label_is_of_a_run() -> None:
    async with operated() as rpc:
        run = await rpc.start("work", run_id="a-very-special-run")
        await rpc.ended(run.run_id)
        await refused(rpc.get("another-special-run"))
        _, text = await page(rpc, "/metrics")
    assert "special" not in text


async def test_a_scrape_reads_while_calls_go_on() -> None:
    async with operated() as rpc:
        scrapes = asyncio.gather(*(page(rpc, "/metrics") for _ in range(20)))
        for _ in range(30):
            await rpc.start("work")
        assert {status for status, _ in await scrapes} == {200}


def test_the_documentation_has_every_metric_and_no_other() -> None:
    rows = re.findall(r"^\| `(stepwire_\w+)` +\| (\w+) +\| ([^|]*?) *\| (.*?) *\|$", DOCS.read_text(), re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}
    assert told == {name: (family.kind, family.labels, family.help) for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_names_follow_the_conventions(name: str) -> None:
    kind, labels, _ = FAMILIES[name]
    assert name.endswith("_total") == (kind == "counter")
    if kind == "histogram":
        assert name.endswith(("_seconds", "_items"))
    assert not {"run", "run_id", "caller", "namespace", "principal"} & set(labels)


def test_a_histogram_is_cumulated_when_it_is_read() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.002, 0.002, 100.0):
        metrics.store.seconds.observe(seconds)
    registry: CollectorRegistry = registry_of(metrics, "1", lambda: ())

    def bucket(bound: str) -> float | None:
        return registry.get_sample_value("stepwire_commit_duration_seconds_bucket", {"le": bound})

    assert [bucket(bound) for bound in ("0.0005", "0.001", "0.002", "5", "+Inf")] == [1, 1, 3, 3, 4]
    assert registry.get_sample_value("stepwire_commit_duration_seconds_sum") == pytest.approx(100.0045)
    assert Histogram((1.0,)).counts == [0, 0]


def _cancel(run_id: str) -> object:
    from stepwire.v1 import run_service_pb2

    return run_service_pb2.CancelRunRequest(run_id=run_id)
