"""Large runs leave other runs their turn: their fan-out, their commits and their loading are made in slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.durability.support import crash, key_of, life, until
from tests.integration.rpc_serving import Rpc
from tests.unit.semantics.test_large_results import MANY, FanOut, Turns

from stepwire.server.runs.hosting.commits import delta
from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes
from stepwire.server.store import RunKey
from stepwire.workflow.broker.broker import SLICE
from stepwire.workflow.broker.deliveries.work import Work
from stepwire.workflow.broker.snapshot import reader as parts_reader
from stepwire.workflow.broker.snapshot import writer as snapshot
from stepwire.workflow.broker.snapshot.reader import PartsReader

BOUNDS = {"max_queued_events": 10 * MANY, "max_log_entries": 100 * MANY}


async def started(rpc: Rpc) -> str:
    run_id = (await rpc.start("flow", {})).run_id
    run = rpc.pool.in_memory(key_of(run_id))
    assert run is not None
    await until(lambda: run.record.last_sequence > MANY)
    return run_id


async def test_a_large_run_is_saved_and_loaded_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = FanOut()
    enqueued = Turns(monkeypatch, Work, "enqueue")
    encoded = Turns(monkeypatch, snapshot, "_delivery_part")
    async with life(tmp_path, flow, **BOUNDS) as rpc:
        run_id = await started(rpc)
        assert max(enqueued.by_turn.values()) <= SLICE
        assert max(encoded.by_turn.values()) <= 2 * SLICE
        await crash(rpc)
    monkeypatch.setattr(delta, "_SLICE_BYTES", 4096)
    parsed = Turns(monkeypatch, delta, "_decode")
    read = Turns(monkeypatch, PartsReader, "delivery")
    queued = Turns(monkeypatch, Work, "requeue")
    encoded.by_turn.clear()
    async with life(tmp_path, flow, **BOUNDS) as rpc:
        assert (await rpc.ended(run_id)).outcome.result.json == b'"worked"'
    assert flow.worked.keys() == set(range(MANY))
    assert sum(read.by_turn.values()) > MANY / 2
    for turns in (read, queued, encoded):
        assert max(turns.by_turn.values()) <= 2 * SLICE
    assert parsed.by_turn
    assert max(parsed.by_turn.values()) <= SLICE


async def test_while_a_run_is_loaded_only_its_slices_are_noted_as_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = FanOut()
    async with life(tmp_path, flow, **BOUNDS) as rpc:
        run_id = await started(rpc)
        await crash(rpc)
    noted: list[RunKey] = []
    loading = CrashNotes.loading

    def note(self: CrashNotes, key: RunKey) -> Any:
        noted.append(key)
        return loading(self, key)

    monkeypatch.setattr(CrashNotes, "loading", note)
    monkeypatch.setattr(parts_reader, "SLICE", 50)
    async with life(tmp_path, flow, **BOUNDS) as rpc:
        await rpc.ended(run_id)
    assert len(noted) > 10
    assert set(noted) == {key_of(run_id)}
