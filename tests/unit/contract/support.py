"""Commits for the tests of stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepwire.server.store import (
    Claim,
    Commit,
    RequestRecord,
    RunKey,
    RunQuery,
    RunRecord,
    RunStore,
    Status,
    StoredSnapshot,
)

Adapter = Callable[[Path, Callable[[], float]], RunStore]
"""Makes a store in a directory, with a clock."""
SERVED = ("orders", "other", "mail")


def record(run_id: str = "r1", **fields: Any) -> RunRecord:
    values: dict[str, Any] = {
        "workflow": "orders",
        "status": Status.RUNNING,
        "created_at": 100.0,
        "updated_at": 100.0,
        "namespace": "default",
    }
    values |= fields
    return RunRecord(key=RunKey(values.pop("namespace"), run_id), **values)


def first(run: RunRecord, **fields: Any) -> Commit:
    return Commit(run, None, fields.pop("delta", b"full"), fields.pop("full", True), **fields)


def later(run: RunRecord, claim: Claim, sequence: int, delta: bytes, **fields: Any) -> Commit:
    run = replace(run, last_sequence=sequence, updated_at=100.0 + sequence)
    return Commit(run, claim, delta, fields.pop("full", False), **fields)


async def create(store: RunStore, run_id: str = "r1", **fields: Any) -> Claim:
    return await store.commit(first(record(run_id, **fields)))


async def commit_chain(store: RunStore, *commits: tuple[int, bytes]) -> RunKey:
    """Commit (sequence, delta) after (sequence, delta); capital letters are full."""
    run = replace(record(), last_sequence=commits[0][0], updated_at=100.0 + commits[0][0])
    claim = await store.commit(first(run, delta=commits[0][1]))
    for sequence, delta in commits[1:]:
        await store.commit(later(run, claim, sequence, delta, full=delta.isupper()))
    return run.key


def answered(number: int, at: float) -> RequestRecord:
    return RequestRecord(f"q{number}", f"d{number}", {"sequence": number, "ö": [None]}, at)


async def ids(store: RunStore, **fields: Any) -> list[str]:
    query = RunQuery(**({"namespace": "default"} | fields))
    return [found.key.run_id for found in await store.list(query)]


async def loadable(store: RunStore, key: RunKey) -> dict[int, StoredSnapshot]:
    found = {sequence: await store.load(key, sequence) for sequence in range(8)}
    return {sequence: snapshot for sequence, snapshot in found.items() if snapshot}
