"""The tables in PostgreSQL: the migrations that make them, each from the version before."""

from __future__ import annotations

from typing import Final

from stepwire.server.store.limits import LONG_LOG

LOCK: Final = 0x53545057
"""The key of the advisory lock under which one process at a time migrates."""

QUOTA_LOCK: Final = LOCK + 1
"""With the hash of a caller the key of the advisory lock under which its runs are counted."""

CHANNEL: Final = "stepwire"
"""The channel on which replicas tell each other what they did to runs."""

UNFINISHED: Final = "status IN ('QUEUED', 'RUNNING', 'WAITING', 'PAUSED')"
"""Unfinished and unblocked: the condition of an index."""

LONG: Final = f"last_sequence - first_available >= {LONG_LOG}"
"""Having a long log: the condition of an index."""

MIGRATIONS: Final[tuple[str, ...]] = (
    # 1. A later commit updates its row of runs; room in each page lets that stay on the page and away from the
    # indexes (heap-only tuples) while status and times to wake do not change. Deltas and chunks are not compressed:
    # they are read whole, and JSON of a few kilobytes is not worth the time.
    """
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
    CREATE INDEX runs_labels ON runs USING gin (label_set jsonb_path_ops) WHERE label_set <> '{}';
    CREATE INDEX runs_ended ON runs (ended_at, pk) WHERE ended_at IS NOT NULL;
    CREATE INDEX runs_wake ON runs (wake_at, pk) WHERE wake_at IS NOT NULL
        AND status IN ('QUEUED', 'RUNNING', 'WAITING');

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
    # 3. Replicas. runs.owner is the replica that has a run in memory: it owns the run as long as it is in `replicas`.
    # A run of a workflow with num_concurrent_runs has a place from when it may go until it has ended; a function gives
    # them, because each of its statements sees what was committed before it got the lock. runs.code is the version of
    # the workflow that wrote the run last.
    f"""
    ALTER TABLE runs
        ADD owner bigint,
        ADD principal text COLLATE "C" NOT NULL DEFAULT '',
        ADD code text COLLATE "C" NOT NULL DEFAULT '';
    UPDATE runs SET
        principal = coalesce(substring(info from '"principal":"((?:[^"\\\\]|\\\\.)*)"'), ''),
        code = coalesce(substring(info from '"version":"((?:[^"\\\\]|\\\\.)*)"'), '');
    CREATE INDEX runs_owner ON runs (owner) WHERE owner IS NOT NULL;
    CREATE INDEX runs_principal ON runs (namespace, principal) WHERE ended_at IS NULL;
    CREATE INDEX runs_queued ON runs (workflow, created_at, namespace, run_id) WHERE status = 'QUEUED';

    CREATE TABLE replicas (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        address text NOT NULL,
        versions jsonb NOT NULL,
        draining boolean NOT NULL DEFAULT false,
        joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        beat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        beat bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50);

    CREATE TABLE places (run bigint PRIMARY KEY, workflow text COLLATE "C" NOT NULL);
    CREATE INDEX places_workflow ON places (workflow);

    CREATE FUNCTION take_places(chosen text, most bigint) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE found record;
    BEGIN
        PERFORM pg_advisory_xact_lock({LOCK}, hashtext(chosen));
        DELETE FROM places p WHERE p.workflow = chosen AND NOT EXISTS
            (SELECT 1 FROM runs r WHERE r.pk = p.run AND r.status IN ('QUEUED', 'RUNNING', 'WAITING'));
        FOR found IN
            INSERT INTO places (run, workflow)
            SELECT r.pk, chosen FROM runs r WHERE r.workflow = chosen AND r.status = 'QUEUED'
                AND NOT EXISTS (SELECT 1 FROM places p WHERE p.run = r.pk)
            ORDER BY r.created_at, r.namespace, r.run_id
            LIMIT greatest(0, most - (SELECT count(*) FROM places p WHERE p.workflow = chosen))
            RETURNING run
        LOOP
            PERFORM pg_notify('{CHANNEL}', json_build_array('placed', 0, r.namespace, r.run_id)::text)
                FROM runs r WHERE r.pk = found.run;
        END LOOP;
    END $$;
    """,
    # 4. Runs and workflows can be paused. A paused run is woken for the deadlines of its waits.
    f"""
    DROP INDEX runs_wake;
    CREATE INDEX runs_wake ON runs (wake_at, pk) WHERE wake_at IS NOT NULL AND {UNFINISHED};

    CREATE OR REPLACE FUNCTION take_places(chosen text, most bigint) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE found record;
    BEGIN
        PERFORM pg_advisory_xact_lock({LOCK}, hashtext(chosen));
        DELETE FROM places p WHERE p.workflow = chosen AND NOT EXISTS
            (SELECT 1 FROM runs r WHERE r.pk = p.run AND r.{UNFINISHED});
        FOR found IN
            INSERT INTO places (run, workflow)
            SELECT r.pk, chosen FROM runs r WHERE r.workflow = chosen AND r.status = 'QUEUED'
                AND NOT EXISTS (SELECT 1 FROM places p WHERE p.run = r.pk)
            ORDER BY r.created_at, r.namespace, r.run_id
            LIMIT greatest(0, most - (SELECT count(*) FROM places p WHERE p.workflow = chosen))
            RETURNING run
        LOOP
            PERFORM pg_notify('{CHANNEL}', json_build_array('placed', 0, r.namespace, r.run_id)::text)
                FROM runs r WHERE r.pk = found.run;
        END LOOP;
    END $$;

    CREATE TABLE pauses (
        namespace text COLLATE "C" NOT NULL,
        workflow text COLLATE "C" NOT NULL,
        since double precision,
        paused_by text NOT NULL,
        reason text NOT NULL,
        total double precision NOT NULL,
        waking boolean NOT NULL,
        PRIMARY KEY (namespace, workflow)
    );
    """,
    # 5. Runs are found by what they fail with, where they wait and for what, who started them, and when they ended.
    """
    ALTER TABLE runs ADD terms text NOT NULL DEFAULT '[]';

    CREATE TABLE terms (
        namespace text COLLATE "C" NOT NULL,
        term text COLLATE "C" NOT NULL,
        created_at double precision NOT NULL,
        run_id text COLLATE "C" NOT NULL,
        workflow text COLLATE "C" NOT NULL,
        run bigint NOT NULL,
        PRIMARY KEY (namespace, term, created_at, run_id)
    );

    CREATE FUNCTION keep_terms() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM terms t USING jsonb_array_elements_text(OLD.terms::jsonb) AS gone (value)
                WHERE t.namespace = OLD.namespace AND t.term = gone.value AND t.created_at = OLD.created_at
                AND t.run_id = OLD.run_id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO terms SELECT NEW.namespace, value, NEW.created_at, NEW.run_id, NEW.workflow, NEW.pk
                FROM jsonb_array_elements_text(NEW.terms::jsonb) ON CONFLICT DO NOTHING;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER runs_terms_new AFTER INSERT ON runs FOR EACH ROW WHEN (NEW.terms <> '[]')
        EXECUTE FUNCTION keep_terms();
    CREATE TRIGGER runs_terms_changed AFTER UPDATE OF terms ON runs FOR EACH ROW WHEN (OLD.terms <> NEW.terms)
        EXECUTE FUNCTION keep_terms();
    CREATE TRIGGER runs_terms_gone AFTER DELETE ON runs FOR EACH ROW WHEN (OLD.terms <> '[]')
        EXECUTE FUNCTION keep_terms();

    UPDATE runs SET terms = (SELECT coalesce(jsonb_agg(term)::text, '[]') FROM (
        SELECT 'by=' || nullif(principal, '') AS term
        UNION SELECT 'error=' || nullif(info::jsonb #>> '{outcome,failure,error_type}', '')
        UNION SELECT 'step=' || nullif(info::jsonb #>> '{outcome,failure,step}', '')
        UNION SELECT 'event=' || (question::jsonb ->> 'event_type') FROM questions
            WHERE run = pk AND question NOT LIKE '%\\\\u0000%'
        UNION SELECT 'step=' || (question::jsonb ->> 'step') FROM questions
            WHERE run = pk AND question NOT LIKE '%\\\\u0000%'
    ) AS found WHERE term IS NOT NULL) WHERE info NOT LIKE '%\\\\u0000%';
    """,
    # 6. Replicas may have leases of different lengths: the others take each for dead by its own.
    "ALTER TABLE replicas ADD lease double precision NOT NULL DEFAULT 3",
    # 7. Each filter has an index with its runs in the order of a list: see `list_queries`. Rows of labels are written
    # when a run's labels change, where the index of label_set was written with each change of status.
    """
    CREATE INDEX runs_flow ON runs (namespace, (workflow || ''), created_at, run_id);
    CREATE INDEX runs_flow_status ON runs (namespace, (workflow || '/' || status), created_at, run_id);
    DROP INDEX runs_workflow;
    DROP INDEX runs_labels;

    CREATE TABLE labels (
        namespace text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        value text COLLATE "C" NOT NULL,
        created_at double precision NOT NULL,
        run_id text COLLATE "C" NOT NULL,
        workflow text COLLATE "C" NOT NULL,
        run bigint NOT NULL,
        PRIMARY KEY (namespace, name, value, created_at, run_id)
    );
    CREATE FUNCTION keep_labels() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM labels l USING jsonb_each_text(OLD.label_set) AS gone (name, value)
                WHERE l.namespace = OLD.namespace AND l.name = gone.name AND l.value = gone.value
                AND l.created_at = OLD.created_at AND l.run_id = OLD.run_id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO labels SELECT NEW.namespace, key, value, NEW.created_at, NEW.run_id, NEW.workflow, NEW.pk
                FROM jsonb_each_text(NEW.label_set) ON CONFLICT DO NOTHING;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER runs_labels_new AFTER INSERT ON runs FOR EACH ROW WHEN (NEW.label_set <> '{}')
        EXECUTE FUNCTION keep_labels();
    CREATE TRIGGER runs_labels_changed AFTER UPDATE OF label_set ON runs FOR EACH ROW
        WHEN (OLD.label_set <> NEW.label_set) EXECUTE FUNCTION keep_labels();
    CREATE TRIGGER runs_labels_gone AFTER DELETE ON runs FOR EACH ROW WHEN (OLD.label_set <> '{}')
        EXECUTE FUNCTION keep_labels();
    INSERT INTO labels SELECT namespace, key, value, created_at, run_id, workflow, pk
        FROM runs, jsonb_each_text(label_set) WHERE label_set <> '{}';
    """,
    # 8. Terms of new runs are kept once for a group of them, not row by row.
    """
    CREATE FUNCTION keep_new_terms() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO terms SELECT namespace, value, created_at, run_id, workflow, pk
            FROM added, jsonb_array_elements_text(added.terms::jsonb) WHERE added.terms <> '[]' ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
    DROP TRIGGER runs_terms_new ON runs;
    CREATE TRIGGER runs_terms_new AFTER INSERT ON runs REFERENCING NEW TABLE AS added FOR EACH STATEMENT
        EXECUTE FUNCTION keep_new_terms();
    """,
    # 9. Quotas of unfinished runs hold exactly. Functions count, because each of their statements sees what was
    # committed before it got the lock. An allowance lets a replica start so many runs without a count: whoever finds
    # too little room beside the allowances takes them back. Starts by an allowance share the lock, so that a count
    # sees all of them or takes back what they start by.
    f"""
    CREATE TABLE allowances (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        namespace text COLLATE "C" NOT NULL,
        principal text COLLATE "C" NOT NULL,
        runs bigint NOT NULL
    );
    CREATE INDEX allowances_principal ON allowances (namespace, principal);

    CREATE FUNCTION room_for_runs(space text, caller text, most bigint, wanted bigint) RETURNS bigint
    LANGUAGE plpgsql AS $$
    DECLARE room bigint; allowed bigint;
    BEGIN
        PERFORM pg_advisory_xact_lock({QUOTA_LOCK}, hashtext(space || '/' || caller));
        room := most - (SELECT count(*) FROM (SELECT 1 FROM runs
            WHERE namespace = space AND principal = caller AND ended_at IS NULL LIMIT most) AS found);
        allowed := (SELECT coalesce(sum(runs), 0) FROM allowances WHERE namespace = space AND principal = caller);
        IF allowed > 0 AND room - allowed < wanted THEN
            DELETE FROM allowances WHERE namespace = space AND principal = caller;
            allowed := 0;
        END IF;
        RETURN room - allowed;
    END $$;

    CREATE FUNCTION allow_runs(
        space text, caller text, most bigint, fewest bigint, OUT room bigint, OUT allowance bigint, OUT runs bigint
    ) LANGUAGE plpgsql AS $$
    BEGIN
        room := room_for_runs(space, caller, most, 4 * fewest);
        IF room >= 4 * fewest THEN
            INSERT INTO allowances (namespace, principal, runs) VALUES (space, caller, room / 4)
                RETURNING id, allowances.runs INTO allowance, runs;
        END IF;
    END $$;

    CREATE FUNCTION may_start(space text, caller text, most bigint, wanted bigint, allowed bigint) RETURNS bigint
    LANGUAGE plpgsql AS $$
    BEGIN
        IF allowed IS NULL THEN
            RETURN room_for_runs(space, caller, most, wanted);
        END IF;
        PERFORM pg_advisory_xact_lock_shared({QUOTA_LOCK}, hashtext(space || '/' || caller));
        RETURN CASE WHEN EXISTS (SELECT FROM allowances WHERE id = allowed) THEN wanted ELSE 0 END;
    END $$;
    """,
)
"""Migration n brings the schema from version n to n + 1. Never change one that was released; add another."""
