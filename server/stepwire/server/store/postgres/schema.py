"""The tables in PostgreSQL: the migrations that make them, each from the version before."""

from __future__ import annotations

from typing import Final

from stepwire.server.store.limits import LONG_LOG

LOCK: Final = 0x53545057
"""The key of the advisory lock under which one process at a time migrates."""

UNFINISHED: Final = "status IN ('QUEUED', 'RUNNING', 'WAITING')"
"""Unfinished and unblocked: the condition of an index."""

LONG: Final = f"last_sequence - first_available >= {LONG_LOG}"
"""Having a long log: the condition of an index."""

MIGRATIONS: Final[tuple[str, ...]] = (
    # 1. A later commit updates its row of runs; room in each page lets that stay on the page and away from the
    # indexes (heap-only tuples) while status and times to wake do not change. Deltas and chunks are not compressed:
    # they are read whole, and JSON of a few kilobytes is not worth the time.
    f"""
    CREATE TABLE runs (
        pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        token bigint NOT NULL,
        version bigint NOT NULL,
        nonce bigint NOT NULL,
        namespace text COLLATE "C" NOT NULL,
        run_id text COLLATE "C" NOT NULL,
        workflow text COLLATE "C" NOT NULL,
        status text COLLATE "C" NOT NULL,
        created_at double precision NOT NULL,
        updated_at double precision NOT NULL,
        ended_at double precision,
        wake_at double precision,
        last_sequence bigint NOT NULL,
        first_available bigint NOT NULL,
        labels text NOT NULL,
        label_set jsonb NOT NULL,
        start_request_id text COLLATE "C" NOT NULL,
        start_digest text NOT NULL,
        info text NOT NULL,
        began bigint NOT NULL,
        checksum bigint NOT NULL
    ) WITH (fillfactor = 70);
    CREATE UNIQUE INDEX runs_key ON runs (namespace, run_id);
    CREATE UNIQUE INDEX runs_start ON runs (namespace, start_request_id) WHERE start_request_id <> '';
    CREATE INDEX runs_created ON runs (namespace, created_at, run_id);
    CREATE INDEX runs_status ON runs (namespace, status, created_at, run_id);
    CREATE INDEX runs_workflow ON runs (namespace, workflow, status, created_at, run_id);
    CREATE INDEX runs_labels ON runs USING gin (label_set jsonb_path_ops) WHERE label_set <> '{{}}';
    CREATE INDEX runs_ended ON runs (ended_at, pk) WHERE ended_at IS NOT NULL;
    CREATE INDEX runs_wake ON runs (wake_at, pk) WHERE wake_at IS NOT NULL AND {UNFINISHED};

    CREATE TABLE commits (
        id bigint GENERATED ALWAYS AS IDENTITY,
        run bigint NOT NULL,
        sequence bigint NOT NULL,
        at double precision NOT NULL,
        "full" boolean NOT NULL,
        again boolean NOT NULL,
        checksum bigint NOT NULL,
        delta bytea NOT NULL,
        PRIMARY KEY (run, id)
    );
    ALTER TABLE commits ALTER delta SET STORAGE EXTERNAL;

    CREATE TABLE log (
        run bigint NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        checksum bigint NOT NULL,
        public bytea,
        internal bytea,
        PRIMARY KEY (run, first)
    );
    ALTER TABLE log ALTER public SET STORAGE EXTERNAL, ALTER internal SET STORAGE EXTERNAL;

    CREATE TABLE requests (
        id bigint GENERATED ALWAYS AS IDENTITY,
        run bigint NOT NULL,
        at double precision NOT NULL,
        checksum bigint NOT NULL,
        request text NOT NULL,
        PRIMARY KEY (run, id)
    );

    -- Deleted runs that still have rows in the other tables.
    CREATE TABLE doomed (run bigint PRIMARY KEY);

    CREATE TABLE pruned_starts (
        namespace text COLLATE "C" NOT NULL,
        request_id text COLLATE "C" NOT NULL,
        run_id text NOT NULL,
        digest text NOT NULL,
        created_at double precision NOT NULL,
        PRIMARY KEY (namespace, request_id)
    );
    CREATE INDEX pruned_starts_created ON pruned_starts (created_at);

    CREATE TABLE gaps (began double precision NOT NULL, ended double precision NOT NULL);

    CREATE TABLE secrets (name text PRIMARY KEY, value bytea NOT NULL);

    -- One row, rewritten to see whether writing works and to wait for a synchronous standby.
    CREATE TABLE probe (written bigint NOT NULL);
    INSERT INTO probe VALUES (0);
    """,
    # 2. Open questions are rows, no longer a part of runs.info: a commit writes those that changed.
    """
    CREATE TABLE questions (
        run bigint NOT NULL,
        number bigint NOT NULL,
        checksum bigint NOT NULL,
        question text NOT NULL,
        PRIMARY KEY (run, number)
    );
    """,
)
"""Migration n brings the schema from version n to n + 1. Never change one that was released; add another."""
