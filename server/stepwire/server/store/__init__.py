"""Durable storage of runs: the port, and its adapters in memory and on SQLite."""

from stepwire.server.store.cluster import Cluster, News, Owner, Peer, Solo
from stepwire.server.store.errors import (
    AddressTakenError,
    CommitTooLargeError,
    OwnedElsewhereError,
    RunExistsError,
    StaleClaimError,
    StartRequestExistsError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    StoreUnreadableError,
    TakenForDeadError,
    level_of,
)
from stepwire.server.store.limits import KEPT_REQUESTS, LONG_LOG, first_chunks
from stepwire.server.store.memory import MemoryStore
from stepwire.server.store.port import CommitListener, RunReading, RunStore
from stepwire.server.store.records import (
    TERMINAL,
    Chunk,
    Claim,
    Commit,
    DueRun,
    EndedRun,
    LongRun,
    PrunedStart,
    RequestRecord,
    RunKey,
    RunQuery,
    RunRecord,
    SnapshotInfo,
    Status,
    StoredSnapshot,
    WorkflowPause,
    code_of,
)
from stepwire.server.store.sqlite.backup import backup_directory
from stepwire.server.store.sqlite.directory_lock import holder_of
from stepwire.server.store.sqlite.inspection import Inspection, inspect_directory
from stepwire.server.store.sqlite.reading import SqliteReading
from stepwire.server.store.sqlite.schema import DATABASE
from stepwire.server.store.sqlite.store import SqliteStore

__all__ = [
    "DATABASE",
    "KEPT_REQUESTS",
    "LONG_LOG",
    "TERMINAL",
    "AddressTakenError",
    "Chunk",
    "Claim",
    "Cluster",
    "Commit",
    "CommitListener",
    "CommitTooLargeError",
    "DueRun",
    "EndedRun",
    "Inspection",
    "LongRun",
    "MemoryStore",
    "News",
    "OwnedElsewhereError",
    "Owner",
    "Peer",
    "PrunedStart",
    "RequestRecord",
    "RunExistsError",
    "RunKey",
    "RunQuery",
    "RunReading",
    "RunRecord",
    "RunStore",
    "SnapshotInfo",
    "Solo",
    "SqliteReading",
    "SqliteStore",
    "StaleClaimError",
    "StartRequestExistsError",
    "Status",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "StoreUnavailableError",
    "StoreUnreadableError",
    "StoredSnapshot",
    "TakenForDeadError",
    "WorkflowPause",
    "backup_directory",
    "code_of",
    "first_chunks",
    "holder_of",
    "inspect_directory",
    "level_of",
]
