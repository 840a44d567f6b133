"""Export the metrics of a server to Prometheus: each scrape reads the numbers of `metrics` and other readings.

Labels are bounded: methods, codes, workflows, steps, statuses, limits; never a run or a caller.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

import grpc
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from stepwire.server.telemetry.metrics import Histogram, Labels, Metrics, Reading

__all__ = ["FAMILIES", "Family", "registry_of"]


class Family(NamedTuple):
    """The kind, labels and help text of a metric."""

    kind: str
    labels: Labels
    help: str


FAMILIES: Final[dict[str, Family]] = {
    "stepwire_build_info": Family("gauge", ("version", "python"), "Always 1; what is running, in the labels."),
    "stepwire_ready": Family(
        "gauge", (), "1 while the server takes calls, can commit and its event loop answers, else 0."
    ),
    "stepwire_rpc_total": Family("counter", ("method", "code"), "Calls that are over, by gRPC status code."),
    "stepwire_rpc_duration_seconds": Family(
        "histogram", ("method",), "How long calls took, streams and waits from their opening to their end."
    ),
    "stepwire_calls": Family("gauge", ("kind",), "Calls under way: unary, wait (WaitRun, WaitForEvent) or stream."),
    "stepwire_limits_refused_total": Family("counter", ("limit",), "Calls and frames refused because of a limit."),
    "stepwire_unauthenticated_total": Family(
        "counter", ("reason",), "Calls refused because the credential was missing or not valid."
    ),
    "stepwire_permission_denied_total": Family(
        "counter", ("action",), "Calls refused because the caller lacks a scope."
    ),
    "stepwire_streams_ended_total": Family(
        "counter", ("reason",), "Streams that this server ended: stalled, expired or revoked."
    ),
    "stepwire_runs_started_total": Family("counter", ("workflow",), "Runs started."),
    "stepwire_runs_finished_total": Family("counter", ("workflow", "status"), "Runs ended."),
    "stepwire_runs": Family(
        "gauge", ("workflow", "status"), "Runs that have not ended, in memory or not; of replicas, one tells."
    ),
    "stepwire_schedule_due_times_total": Family(
        "counter",
        ("workflow", "outcome"),
        "Due times of schedules that this server acted on: started, skipped, missed or failed.",
    ),
    "stepwire_runs_in_memory": Family("gauge", (), "Runs in memory."),
    "stepwire_runs_loaded_total": Family("counter", (), "Runs brought into memory from the store."),
    "stepwire_runs_released_total": Family("counter", (), "Waiting runs that left memory."),
    "stepwire_step_duration_seconds": Family(
        "histogram",
        ("workflow", "step", "outcome"),
        "How long executions of steps took, their waits included: completed, failed, timed_out, or abandoned"
        " (the run ended, was released or stopped before the step returned).",
    ),
    "stepwire_deliveries_queued": Family(
        "gauge", ("workflow",), "Deliveries that wait for a worker of their step, of runs in memory."
    ),
    "stepwire_waiters": Family("gauge", ("workflow",), "Open wait_for_event, of runs in memory."),
    "stepwire_sync_steps_queued": Family("gauge", (), "Sync steps that wait for a thread."),
    "stepwire_sync_steps_running": Family("gauge", (), "Sync steps that run in a thread."),
    "stepwire_sync_steps_given_up": Family(
        "gauge", (), "Sync steps that go on in a thread though their attempt was given up."
    ),
    "stepwire_sync_step_longest_wait_seconds": Family(
        "gauge", (), "How long the first of the sync steps that wait for a thread has waited."
    ),
    "stepwire_commit_duration_seconds": Family(
        "histogram", (), "How long commits took, from when they were handed to the store until they were durable."
    ),
    "stepwire_commit_batch_items": Family("histogram", (), "Commits and other writes in one transaction."),
    "stepwire_commit_failures_total": Family("counter", (), "Transactions that failed."),
    "stepwire_commit_resends_total": Family(
        "counter", (), "Groups of commits that were sent to PostgreSQL again after a lost connection."
    ),
    "stepwire_replicas": Family("gauge", (), "Living replicas, with this one."),
    "stepwire_beat_age_seconds": Family(
        "gauge", (), "How old this replica's last acknowledged beat is; it grows while the database is away."
    ),
    "stepwire_runs_owned": Family("gauge", (), "Runs that this replica has in memory and no other may change."),
    "stepwire_replicas_unreached": Family(
        "gauge", (), "Living replicas that this one does not reach at their address."
    ),
    "stepwire_takeovers_total": Family("counter", (), "Runs taken over from replicas that died or were unreachable."),
    "stepwire_forwards_total": Family(
        "counter",
        ("outcome",),
        "Calls passed on to the replica that has the run: answered, refused, again (looked up anew) or failed.",
    ),
    "stepwire_relays_open": Family("gauge", (), "Streams to other replicas on which calls are passed on."),
    "stepwire_commits_queued": Family("gauge", (), "Commits and other writes handed to the store and not done."),
    "stepwire_database_bytes": Family("gauge", (), "Size of the database with its write-ahead log."),
    "stepwire_disk_free_bytes": Family("gauge", (), "Space left where the data directory is."),
    "stepwire_log_records_dropped_total": Family(
        "counter", (), "Log records that were dropped because standard error was not read fast enough."
    ),
    "stepwire_event_loop_lag_seconds": Family(
        "histogram",
        (),
        "How late the watchdog's timer went off on the event loop. It does so four times in the span of `--watchdog`.",
    ),
    "stepwire_event_loop_blocks_total": Family(
        "counter", ("workflow", "step"), "Times that the event loop was blocked; an empty step: by other code."
    ),
    "stepwire_event_loop_blocked_seconds_total": Family(
        "counter", ("workflow", "step"), "How long the event loop was blocked."
    ),
}
"""Every exported metric, besides process_* of prometheus-client; docs/operations.md has the same table."""

_REFUSALS: Final = {
    "limit": "stepwire_limits_refused_total",
    "credential": "stepwire_unauthenticated_total",
    "scope": "stepwire_permission_denied_total",
}
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


def registry_of(metrics: Metrics, version: str, others: Callable[[], Iterable[Reading]]) -> CollectorRegistry:
    """Return the registry of one server.

    Args:
        metrics: What the server counted.
        version: Stepwire's version, a label of `stepwire_build_info`.
        others: Called at each scrape, on the scraper's thread, for what is read and not counted.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scraped(metrics, version, others))
    ProcessCollector(registry=registry)
    return registry


class _Scraped(Collector):
    def __init__(self, metrics: Metrics, version: str, others: Callable[[], Iterable[Reading]]) -> None:
        self._metrics = metrics
        self._version = version
        self._others = others

    def describe(self) -> Iterator[Metric]:
        """Yield all metrics without values."""
        return iter(_families().values())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics with their present values."""
        families = _families()
        for reading in self._readings():
            family = families[reading.name]
            value = reading.value
            if isinstance(value, Histogram):
                assert isinstance(family, HistogramMetricFamily)
                family.add_metric(reading.labels, _buckets(value), value.sum)
            else:
                assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
                family.add_metric(reading.labels, value)
        return iter(families.values())

    def _readings(self) -> Iterator[Reading]:
        metrics = self._metrics
        yield Reading("stepwire_build_info", (self._version, platform.python_version()), 1)
        # Copy each table first: the event loop adds to it meanwhile.
        for method, rpc in list(metrics.rpcs.items()):
            name = method.removeprefix("/")
            for code, count in list(rpc.codes.items()):
                yield Reading("stepwire_rpc_total", (name, _CODES.get(code, "UNKNOWN")), count)
            yield Reading("stepwire_rpc_duration_seconds", (name,), rpc.seconds)
        for (kind, label), count in list(metrics.refused.items()):
            yield Reading(_REFUSALS[kind], (label,), count)
        for reason, count in list(metrics.streams_ended.items()):
            yield Reading("stepwire_streams_ended_total", (reason,), count)
        for labels, count in list(metrics.due_times.items()):
            yield Reading("stepwire_schedule_due_times_total", labels, count)
        for workflow, runs in list(metrics.workflows.items()):
            if workflow.startswith("~"):
                continue  # a workflow of the server itself
            yield Reading("stepwire_runs_started_total", (workflow,), runs.started)
            for status, count in list(runs.finished.items()):
                yield Reading("stepwire_runs_finished_total", (workflow, status.lower()), count)
            for status, count in list(runs.unfinished.items()) if metrics.counts_all else ():
                yield Reading("stepwire_runs", (workflow, status.lower()), count)
            for (step, outcome), seconds in list(runs.steps.items()):
                yield Reading("stepwire_step_duration_seconds", (workflow, step, outcome), seconds)
        yield Reading("stepwire_runs_loaded_total", (), metrics.loaded)
        yield Reading("stepwire_runs_released_total", (), metrics.released)
        store, loop = metrics.store, metrics.loop
        yield Reading("stepwire_commit_duration_seconds", (), store.seconds)
        yield Reading("stepwire_commit_batch_items", (), store.items)
        yield Reading("stepwire_commit_failures_total", (), store.failures)
        yield Reading("stepwire_commit_resends_total", (), store.resends)
        yield Reading("stepwire_commits_queued", (), store.queued)
        for outcome, count in list(metrics.forwards.items()):
            yield Reading("stepwire_forwards_total", (outcome,), count)
        yield Reading("stepwire_relays_open", (), metrics.relays)
        yield Reading("stepwire_event_loop_lag_seconds", (), loop.lag)
        for labels, count in list(loop.blocks.items()):
            yield Reading("stepwire_event_loop_blocks_total", labels, count)
        for labels, blocked in list(loop.blocked.items()):
            yield Reading("stepwire_event_loop_blocked_seconds_total", labels, blocked)
        yield from self._others()


def _families() -> dict[str, Metric]:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    return {name: kinds[kind](name, text, labels=labels) for name, (kind, labels, text) in FAMILIES.items()}


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [f"{bound:g}" for bound in histogram.bounds] + ["+Inf"]
    return list(zip(bounds, accumulate(list(histogram.counts)), strict=True))
