"""The tables of the SQLite store: the migrations that make them, each from the version before."""

from __future__ import annotations

from stepwire.server.store.limits import LONG_LOG

DATABASE = "stepwire.db"
"""The name of the database in a data directory."""

APPLICATION_ID = 0x53545057  # "STPW": tells a store from any other SQLite file

UNFINISHED = "status IN ('QUEUED', 'RUNNING', 'WAITING', 'PAUSED')"
"""Unfinished and unblocked. Queries use the very text of the index: SQLite uses a partial index only then."""

LONG = f"last_sequence - first_available >= {LONG_LOG}"
"""Having a long log. Queries use the very text of the index."""

_LABELS_OF = """
        SELECT {row}.namespace, key, value, {row}.created_at, {row}.run_id, {row}.pk
        FROM json_each(CASE WHEN json_valid({row}.labels) THEN {row}.labels ELSE '{{}}' END)"""
"""The rows of `labels` for a row of runs; none for a row that is damaged, which must not fail the others."""

_LABELS_TEXT = "CASE WHEN json_valid({row}.labels) THEN {row}.labels ELSE '{{}}' END"
"""The labels of a row of runs, none if they are damaged."""

_TERMS_OF = """
        SELECT {row}.namespace, value, {row}.created_at, {row}.run_id, {row}.workflow, {row}.pk
        FROM json_each(CASE WHEN json_valid({row}.terms) THEN {row}.terms ELSE '[]' END)"""
"""The rows of `terms` for a row of runs; none for a row that is damaged."""

MIGRATIONS: tuple[str, ...] = (
    # 1. A run's rows are appended to the end of a table and found through a narrow index. Clustered
    # by run, each commit would rewrite pages of its own, at half the throughput. AUTOINCREMENT: were
    # a pk used again, the claim of a deleted run could fit a new one.
    """
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
    CREATE INDEX runs_wake ON runs (wake_at) WHERE wake_at IS NOT NULL
        AND status IN ('QUEUED', 'RUNNING', 'WAITING');

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
    # 3. Runs are found by their labels. The request_ids of pruned runs are kept for a while. Gaps: see
    # `aging`. `again` is 1 unless a commit is the first at its sequence.
    f"""
    ALTER TABLE commits ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
    UPDATE commits SET again = 1 WHERE id > (SELECT min(id) FROM commits AS other
        WHERE other.run = commits.run AND other.sequence = commits.sequence);

    CREATE TABLE labels (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        created_at REAL NOT NULL,
        run_id TEXT NOT NULL,
        run INTEGER NOT NULL,
        PRIMARY KEY (namespace, name, value, created_at, run_id)
    ) WITHOUT ROWID;
    CREATE TRIGGER runs_labels_new AFTER INSERT ON runs WHEN NEW.labels != '{{}}' BEGIN
        INSERT OR REPLACE INTO labels {_LABELS_OF.format(row="NEW")};
    END;
    CREATE TRIGGER runs_labels_changed AFTER UPDATE OF labels ON runs WHEN OLD.labels != NEW.labels BEGIN
        DELETE FROM labels WHERE (namespace, name, value, created_at, run_id, run) IN ({_LABELS_OF.format(row="OLD")});
        INSERT OR REPLACE INTO labels {_LABELS_OF.format(row="NEW")};
    END;
    CREATE TRIGGER runs_labels_gone AFTER DELETE ON runs WHEN OLD.labels != '{{}}' BEGIN
        DELETE FROM labels WHERE (namespace, name, value, created_at, run_id, run) IN ({_LABELS_OF.format(row="OLD")});
    END;
    INSERT OR REPLACE INTO labels SELECT namespace, key, value, created_at, run_id, pk
        FROM (SELECT * FROM runs WHERE labels != '{{}}' AND json_valid(labels)) AS labelled, json_each(labelled.labels);

    CREATE TABLE pruned_starts (
        id INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        request_id TEXT NOT NULL,
        run_id TEXT NOT NULL,
        digest TEXT NOT NULL,
        created_at REAL NOT NULL
    );
    CREATE UNIQUE INDEX pruned_starts_request ON pruned_starts (namespace, request_id);
    CREATE INDEX pruned_starts_created ON pruned_starts (created_at);

    CREATE TABLE gaps (began REAL NOT NULL, ended REAL NOT NULL);
    """,
    # 4. Open questions are rows, no longer a part of runs.info: a commit writes those that changed.
    """
    CREATE TABLE questions (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        number INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        question TEXT NOT NULL
    );
    CREATE UNIQUE INDEX questions_run ON questions (run, number);
    """,
    # 5. Runs and workflows can be paused. A paused run is woken for the deadlines of its waits.
    f"""
    DROP INDEX runs_wake;
    CREATE INDEX runs_wake ON runs (wake_at) WHERE wake_at IS NOT NULL AND {UNFINISHED};

    CREATE TABLE pauses (
        namespace TEXT NOT NULL,
        workflow TEXT NOT NULL,
        since REAL,
        paused_by TEXT NOT NULL,
        reason TEXT NOT NULL,
        total REAL NOT NULL,
        waking INTEGER NOT NULL,
        PRIMARY KEY (namespace, workflow)
    );
    """,
    # 6. Runs are found by what they fail with, where they wait and for what, who started them, and when they ended.
    f"""
    DROP INDEX runs_status;
    CREATE INDEX runs_status ON runs (namespace, status, created_at, run_id, ended_at);
    DROP INDEX runs_workflow;
    CREATE INDEX runs_workflow ON runs (namespace, workflow, status, created_at, run_id, ended_at);

    ALTER TABLE runs ADD COLUMN terms TEXT NOT NULL DEFAULT '[]';
    CREATE TABLE terms (
        namespace TEXT NOT NULL,
        term TEXT NOT NULL,
        created_at REAL NOT NULL,
        run_id TEXT NOT NULL,
        workflow TEXT NOT NULL,
        run INTEGER NOT NULL,
        PRIMARY KEY (namespace, term, created_at, run_id)
    ) WITHOUT ROWID;
    CREATE TRIGGER runs_terms_new AFTER INSERT ON runs WHEN NEW.terms != '[]' BEGIN
        INSERT OR REPLACE INTO terms {_TERMS_OF.format(row="NEW")};
    END;
    CREATE TRIGGER runs_terms_changed AFTER UPDATE OF terms ON runs WHEN OLD.terms != NEW.terms BEGIN
        DELETE FROM terms WHERE namespace = OLD.namespace AND created_at = OLD.created_at AND run_id = OLD.run_id
            AND term IN (SELECT value FROM json_each(OLD.terms));
        INSERT INTO terms {_TERMS_OF.format(row="NEW")};
    END;
    CREATE TRIGGER runs_terms_gone AFTER DELETE ON runs WHEN OLD.terms != '[]' BEGIN
        DELETE FROM terms WHERE namespace = OLD.namespace AND created_at = OLD.created_at AND run_id = OLD.run_id
            AND term IN (SELECT value FROM json_each(CASE WHEN json_valid(OLD.terms) THEN OLD.terms ELSE '[]' END));
    END;
    -- The ones before compared tuples, and so looked at every run with the label.
    DROP TRIGGER runs_labels_changed;
    CREATE TRIGGER runs_labels_changed AFTER UPDATE OF labels ON runs WHEN OLD.labels != NEW.labels BEGIN
        DELETE FROM labels WHERE namespace = OLD.namespace AND created_at = OLD.created_at AND run_id = OLD.run_id
            AND (name, value) IN (SELECT key, value FROM json_each({_LABELS_TEXT.format(row="OLD")}));
        INSERT OR REPLACE INTO labels {_LABELS_OF.format(row="NEW")};
    END;
    DROP TRIGGER runs_labels_gone;
    CREATE TRIGGER runs_labels_gone AFTER DELETE ON runs WHEN OLD.labels != '{{}}' BEGIN
        DELETE FROM labels WHERE namespace = OLD.namespace AND created_at = OLD.created_at AND run_id = OLD.run_id
            AND (name, value) IN (SELECT key, value FROM json_each({_LABELS_TEXT.format(row="OLD")}));
    END;

    UPDATE runs SET terms = (SELECT json_group_array(term) FROM (
        SELECT 'by=' || json_extract(info, '$.principal') AS term
        UNION SELECT 'error=' || nullif(json_extract(info, '$.outcome.failure.error_type'), '')
        UNION SELECT 'step=' || nullif(json_extract(info, '$.outcome.failure.step'), '')
        UNION SELECT 'event=' || json_extract(question, '$.event_type') FROM questions
            WHERE run = runs.pk AND json_valid(question)
        UNION SELECT 'step=' || json_extract(question, '$.step') FROM questions
            WHERE run = runs.pk AND json_valid(question)
    ) WHERE term IS NOT NULL) WHERE json_valid(info);
    """,
)
"""Migration n brings the schema from version n to n + 1. Never change one that was released; add another."""
