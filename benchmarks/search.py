"""ListRuns over many runs: the server's CPU for the first page, by every filter."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from statistics import median_high
from typing import Any

from benchmarks.harness import Bench, Row, row
from benchmarks.servers import cpu_of, stepwire_server
from google.protobuf.timestamp_pb2 import Timestamp
from tests.postgres import MISSING, PostgresServer, programs
from tests.unit.contract.support import first, record

from stepwire.server.store import RunRecord, RunStore, SqliteStore, Status
from stepwire.server.store.postgres import PostgresStore
from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types

CALLS = 30
"""Calls whose CPU is measured together: a process's CPU time is counted in hundredths of a second."""
GROUP = 2000
"""Runs that are written together."""


async def search(bench: Bench) -> AsyncIterator[Row]:
    """List the first page of many runs by each filter, and by pairs of them; tell of the dearest one of each store."""
    data = bench.data()
    yield await _dearest(bench, "search", "SQLite", SqliteStore(data), str(data))
    if programs() is None:
        bench.notes.append(f"search: {MISSING}")
        return
    # The work of autovacuum and of a checkpoint on what was just written is no filter's. So there are no statistics.
    with PostgresServer(["fsync=off", "autovacuum=off"]) as database:
        store = PostgresStore(database.dsn)
        yield await _dearest(bench, "search_postgres", "PostgreSQL", store, database.dsn, database)


async def _dearest(
    bench: Bench, key: str, name: str, store: RunStore, data: str, database: PostgresServer | None = None
) -> Row:
    """Measure a store; the CPU of a database's processes counts as the server's."""
    count = bench.scaled(200_000, 50_000)
    bench.say(f"search, {name}: writing {count:,} runs")
    began = time.time() - count
    await _fill(store, count, began)
    if database is not None:
        database.sql("CHECKPOINT")
    costs: dict[str, float] = {}
    async with stepwire_server(data).called() as process:
        pids = [process.pid, *([database.pid] if database else [])]
        await process.settled(1.0, *pids[1:])  # the server looks through all runs when it starts
        for told, fields in _filters(count, began).items():
            bench.say(f"search, {name}: {told}")
            request = runs.ListRunsRequest(page_size=100, **fields)
            await process.caller.runs.ListRuns(request)
            before = cpu_of(*pids)
            for _ in range(CALLS):
                await process.caller.runs.ListRuns(request)
            costs[told] = (cpu_of(*pids) - before) / CALLS
    dearest = max(costs, key=costs.__getitem__)
    title = f"ListRuns, first page of {count:,} runs, the dearest of {len(costs)} filters ({name})"
    note = f"{dearest}; the median {median_high(costs.values()) * 1000:.1f} ms"
    return row(key, title, "s", "50 ms of server CPU", costs[dearest], 0.05, target=1, note=note)


def _filters(count: int, began: float) -> dict[str, dict[str, Any]]:
    def at(n: int) -> Timestamp:
        return Timestamp(seconds=int(began + n))

    failed, waiting = [types.RUN_STATUS_FAILED], [types.RUN_STATUS_WAITING]
    return {
        "none": {},
        "workflow": {"workflow": "flow1"},
        "status": {"statuses": failed},
        "label": {"labels": {"team": "t3"}},
        "error type": {"error_type": "ConnectionError"},
        "step": {"step": "step3"},
        "awaited event": {"waiting_for": "Approval"},
        "parent": {"parent_run_id": "parent-7"},
        "parent that is not there": {"parent_run_id": "none"},
        "caller": {"started_by": "caller-3"},
        "a long prefix": {"run_id_prefix": "0ab1"},
        "a short prefix": {"run_id_prefix": "0"},
        "a prefix that is not there": {"run_id_prefix": "zz"},
        "the end, lately": {"ended_after": at(count - 1000)},
        "the end, long ago": {"ended_before": at(1000)},
        "the end, at any time": {"ended_after": at(0)},
        "the end, in between": {"ended_after": at(count // 2), "ended_before": at(count // 2 + 9000)},
        "workflow and error type": {"workflow": "flow1", "error_type": "ConnectionError"},
        "caller and a workflow that it never starts": {"started_by": "caller-3", "workflow": "flow1"},
        "caller and status": {"started_by": "caller-3", "statuses": waiting},
        "caller and the end, long ago": {"started_by": "caller-3", "ended_before": at(1000)},
        "status and the end, long ago": {"statuses": failed, "ended_before": at(count // 4)},
        "error type and prefix": {"error_type": "ConnectionError", "run_id_prefix": "0"},
    }


async def _fill(store: RunStore, count: int, began: float) -> None:
    """Write runs, one a second, into the store of a server."""
    chance = random.Random(1)
    await store.open()
    for start in range(0, count, GROUP):
        numbers = range(start, min(count, start + GROUP))
        await asyncio.gather(*(store.commit(first(_record(n, began + n, chance), delta=b"{}")) for n in numbers))
    await store.close()


def _record(n: int, at: float, chance: random.Random) -> RunRecord:
    status = chance.choices([Status.COMPLETED, Status.FAILED, Status.WAITING, Status.CANCELLED], [80, 10, 8, 2])[0]
    caller, step = f"caller-{n % 20}", f"step{n % 10}"
    terms = [f"by={caller}", *([f"parent=parent-{n % 50}"] if n % 1000 < 50 else [])]
    info: dict[str, Any] = {"principal": caller, "version": "1"}
    if status == Status.WAITING:
        terms += ["event=Approval", f"step={step}"]
    elif status == Status.FAILED:
        failure = {"step": step, "error_type": chance.choice(["ValueError", "ConnectionError", "KeyError"])}
        terms += [f"error={failure['error_type']}", f"step={step}"]
        info["outcome"] = {"status": status, "event_type": "WorkflowFailedEvent", "failure": failure}
    else:
        info["outcome"] = {"status": status, "event_type": "StopEvent", "result": f'"{"x" * 200}"'}
    return record(
        f"{chance.getrandbits(64):016x}",
        workflow=f"flow{n % 5}",
        status=status,
        created_at=at,
        updated_at=at,
        ended_at=None if status == Status.WAITING else at + 10,
        labels={"team": f"t{n % 7}"},
        info=info,
        terms=tuple(sorted(terms)),
    )
