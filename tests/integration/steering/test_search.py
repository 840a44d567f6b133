"""ListRuns by what runs fail with, where they wait and for what, who started them, their ids and their ends."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.rpc_serving import JSON, Rpc, event, refused, registry_of, serving
from tests.integration.steering_flows import Approve, Dependency, Flaky, Pay

from stepwire.v1 import run_service_pb2 as runs
from stepwire.v1 import types_pb2 as types


async def found(rpc: Rpc, **filters: Any) -> set[str]:
    """Return the ids of the runs that meet all filters, read in pages of one."""
    ids: set[str] = set()
    token = ""
    while True:
        request = runs.ListRunsRequest(page_size=1, page_token=token, encoding=JSON, **filters)
        answer = await rpc.runs.ListRuns(request)
        ids.update(run.run_id for run in answer.runs)
        token = answer.next_page_token
        if not token:
            return ids


@pytest.mark.parametrize("data", ["memory", "disk"])
async def test_runs_are_found_by_what_they_fail_with_and_where_they_wait(tmp_path: Any, data: str) -> None:
    dependency = Dependency(up=False)
    registry = registry_of(
        pay=Pay(dependency, timeout=None),
        approve=Approve(timeout=None),
        flaky=Flaky(dependency, timeout=None),
    )
    where = str(tmp_path) if data == "disk" else ":memory:"
    async with serving(registry, where) as rpc:
        failed = await rpc.ended((await rpc.start("pay", {"name": "a"}, run_id="pay-1")).run_id)
        waiting = await rpc.start("approve", {"name": "a"}, run_id="approve-1")
        await rpc.status(waiting.run_id, "WAITING")
        repeating = await rpc.start("flaky", {"name": "a"}, run_id="flaky-1")
        await dependency.until(lambda: len(dependency.tried) >= 6)
        assert await found(rpc, error_type="ConnectionError") == {"pay-1", "flaky-1"}
        assert await found(rpc, error_type="ConnectionError", statuses=[types.RUN_STATUS_FAILED]) == {"pay-1"}
        assert await found(rpc, error_type="ValueError") == set()
        assert await found(rpc, step="charge") == {"pay-1"}
        assert await found(rpc, step="ask") == {"approve-1"}
        assert await found(rpc, step="try_it") == {"flaky-1"}
        assert await found(rpc, waiting_for="Confirmed") == {"approve-1"}
        assert await found(rpc, started_by="anonymous") == {"pay-1", "approve-1", "flaky-1"}
        assert await found(rpc, started_by="ada") == set()
        assert await found(rpc, started_by="anonymous", workflow="pay") == {"pay-1"}
        assert await found(rpc, run_id_prefix="pa") == {"pay-1"}
        assert await found(rpc, run_id_prefix="x") == set()
        assert await found(rpc, parent_run_id="pay-1") == set()
        assert await found(rpc, ended_after=failed.ended_at) == {"pay-1"}
        assert await found(rpc, ended_before=failed.ended_at) == set()
        # What changes is not found as it was.
        dependency.up = True
        await rpc.ended(repeating.run_id)
        assert await found(rpc, error_type="ConnectionError") == {"pay-1"}
        assert await found(rpc, step="try_it") == set()
        await rpc.send(waiting.run_id, event("Confirmed", yes=True))
        await rpc.ended(waiting.run_id)
        assert await found(rpc, waiting_for="Confirmed") == set()
        assert await found(rpc, step="ask") == set()
        assert await found(rpc, ended_after=failed.ended_at) == {"pay-1", "approve-1", "flaky-1"}


async def test_a_run_that_repeats_is_found_after_a_restart(tmp_path: Any) -> None:
    dependency = Dependency(up=False)
    registry = registry_of(flaky=Flaky(dependency, timeout=None))
    async with serving(registry, str(tmp_path), grace=0.0) as rpc:
        run = await rpc.start("flaky", {"name": "a"})
        await dependency.until(lambda: len(dependency.tried) >= 2)
    async with serving(registry, str(tmp_path)) as rpc:
        assert await found(rpc, error_type="ConnectionError") == {run.run_id}
        dependency.up = True
        await rpc.ended(run.run_id)
        assert await found(rpc, error_type="ConnectionError") == set()


async def test_a_page_token_belongs_to_its_filters() -> None:
    async with serving(registry_of(approve=Approve(timeout=None))) as rpc:
        for n in range(3):
            await rpc.start("approve", {"name": str(n)})
        first = await rpc.runs.ListRuns(runs.ListRunsRequest(page_size=1, started_by="anonymous"))
        other = runs.ListRunsRequest(page_size=1, page_token=first.next_page_token, started_by="ada")
        assert (await refused(rpc.runs.ListRuns(other))).reason == "INVALID_PAGE_TOKEN"
        long = runs.ListRunsRequest(step="x" * 600)
        assert (await refused(rpc.runs.ListRuns(long))).fields.keys() == {"step"}
