"""Durable storage of runs: the port, and its adapters in memory and on SQLite."""

from stepwire.server.store._backup import backup_directory
from stepwire.server.store._inspect import Inspection, inspect_directory
from stepwire.server.store._lock import holder_of
from stepwire.server.store._schema import DATABASE
from stepwire.server.store.memory import MemoryStore
from stepwire.server.store.port import (
    TERMINAL,
    Chunk,
    Claim,
    Commit,
    CommitListener,
    DueRun,
    EndedRun,
    RequestRecord,
    RunExistsError,
    RunKey,
    RunQuery,
    RunRecord,
    RunStore,
    SnapshotInfo,
    StaleClaimError,
    StartRequestExistsError,
    Status,
    StoreCorruptError,
    StoredSnapshot,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    within,
)
from stepwire.server.store.sqlite import SqliteStore

__all__ = [
    "DATABASE",
    "TERMINAL",
    "Chunk",
    "Claim",
    "Commit",
    "CommitListener",
    "DueRun",
    "EndedRun",
    "Inspection",
    "MemoryStore",
    "RequestRecord",
    "RunExistsError",
    "RunKey",
    "RunQuery",
    "RunRecord",
    "RunStore",
    "SnapshotInfo",
    "SqliteStore",
    "StaleClaimError",
    "StartRequestExistsError",
    "Status",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "StoreUnavailableError",
    "StoredSnapshot",
    "backup_directory",
    "holder_of",
    "inspect_directory",
    "within",
]
