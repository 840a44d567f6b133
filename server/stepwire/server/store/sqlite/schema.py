"""The tables of the SQLite store: the migrations that make them, each from the version before."""

from __future__ import annotations

from stepwire.server.store.limits import LONG_LOG

DATABASE = "stepwire.db"
"""The name of the database in a data directory."""

APPLICATION_ID = 0x53545057  # "STPW": tells a store from any other SQLite file

UNFINISHED = "status IN ('QUEUED', 'RUNNING', 'WAITING')"
"""Unfinished and unblocked. Queries use the very text of the index: SQLite uses a partial index only then."""

LONG = f"last_sequence - first_available >= {LONG_LOG}"
"""Having a long log. Queries use the very text of the index."""

MIGRATIONS: tuple[str, ...] = (
    # 1. A run's rows are appended to the end of a table and found through a narrow index. Clustered
    # by run, each commit would rewrite pages of its own, at half the throughput. AUTOINCREMENT: were
    # a pk used again, the claim of a deleted run could fit a new one.
    f"""
    CREATE TABLE runs (
        pk INTEGER PRIMARY KEY AUTOINCREMENT,
        token INTEGER NOT NULL,
        namespace TEXT NOT NULL,
        run_id TEXT NOT NULL,
        workflow TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        ended_at REAL,
        wake_at REAL,
        last_sequence INTEGER NOT NULL,
        first_available INTEGER NOT NULL,
        labels TEXT NOT NULL,
        start_request_id TEXT NOT NULL,
        start_digest TEXT NOT NULL,
        info TEXT NOT NULL,
        began INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX runs_key ON runs (namespace, run_id);
    CREATE UNIQUE INDEX runs_start ON runs (namespace, start_request_id)
        WHERE start_request_id != '';
    CREATE INDEX runs_status ON runs (namespace, status, created_at, run_id);
    CREATE INDEX runs_workflow ON runs (namespace, workflow, status, created_at, run_id);
    CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX runs_wake ON runs (wake_at) WHERE wake_at IS NOT NULL AND {UNFINISHED};

    CREATE TABLE commits (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        at REAL NOT NULL,
        full INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        delta BLOB NOT NULL
    );
    CREATE INDEX commits_run ON commits (run, sequence);
    CREATE INDEX commits_full ON commits (run, sequence) WHERE full = 1;

    CREATE TABLE log (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        public BLOB,
        internal BLOB
    );
    CREATE UNIQUE INDEX log_run ON log (run, first);

    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        at REAL NOT NULL,
        checksum INTEGER NOT NULL,
        request TEXT NOT NULL
    );
    CREATE INDEX requests_run ON requests (run);

    -- Deleted runs that still have rows in the other tables.
    CREATE TABLE doomed (run INTEGER PRIMARY KEY);
    """,
    # 2. Logs can be trimmed. The version changes because earlier code takes a trimmed log for damaged.
    f"""
    CREATE INDEX runs_long ON runs (workflow) WHERE {LONG};
    """,
)
"""Migration n brings the schema from version n to n + 1. Never change one that was released; add another."""
