-- 060_metrics.sql: what `metrics` keeps, so that no counter moves backwards or up twice: one row, and one a kind of event.
--
-- One metrics process is active at a time: the one whose session holds an advisory lock, which ends with its connection.
-- `writer` says whose state is stored: who finds another one there has not been active all the time, and goes on from
-- what is stored.

CREATE TABLE bore.metrics_state (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    writer    text NOT NULL DEFAULT '',
    state     text NOT NULL DEFAULT '{"totals":[],"processes":[],"folded":[]}', -- METRICS_STATE of proto/messages.def
    stored_at timestamptz,
    event_id  bigint NOT NULL DEFAULT 0 -- events up to here are counted below
) WITH (fillfactor = 50);
INSERT INTO bore.metrics_state DEFAULT VALUES;

CREATE TABLE bore.metrics_events (
    kind   text NOT NULL,
    status text NOT NULL DEFAULT '', -- of kind status: the new one
    count  bigint NOT NULL,
    PRIMARY KEY (kind, status)
) WITH (fillfactor = 50);

-- Counts what is new in the event log, at most so many rows, in the transaction that moves the cursor: each row once.
-- What was trimmed before it was counted is passed over. Never a scan of the whole log, whatever the planner knows of it.
CREATE FUNCTION bore.metrics_count_events(most integer) RETURNS void
    LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    after   bigint;
    through bigint;
BEGIN
    SELECT least(greatest(event_id, coalesce((SELECT min(id) - 1 FROM bore.events), 0)),
                 coalesce((SELECT max(id) FROM bore.events), 0))
    INTO after FROM bore.metrics_state FOR UPDATE;
    SELECT least(after + most, coalesce(max(id), 0)) INTO through FROM bore.events;
    INSERT INTO bore.metrics_events AS known (kind, status, count)
        SELECT kind, CASE kind WHEN 'status' THEN coalesce(payload ->> 'status', '') ELSE '' END, count(*)
        FROM bore.events WHERE id > after AND id <= through
        GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (kind, status) DO UPDATE SET count = known.count + excluded.count;
    UPDATE bore.metrics_state SET event_id = through WHERE event_id <> through;
END $$;

-- Stores what the active one knows (NULL: it is not active yet). Outcome: `waiting`, another one is active; `stored`; or
-- `adopted`: the caller is active from now on and begins with the answered state, its own being void.
-- A session that is silent for 15 s ends, so a frozen holder does not keep the lock. Asking for the lock again counts in
-- the session and nothing else.
CREATE FUNCTION bore.metrics_store(me text, given text, most integer DEFAULT 20000,
                                   OUT outcome text, OUT state text, OUT events text)
    LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    IF NOT pg_try_advisory_lock(x'626f7265'::int, 60) THEN
        outcome := 'waiting';
        RETURN;
    END IF;
    PERFORM set_config('idle_session_timeout', '15s', false);
    UPDATE bore.metrics_state SET state = given, stored_at = clock_timestamp()
    WHERE writer = me AND given IS NOT NULL;
    outcome := 'stored';
    IF NOT FOUND THEN
        UPDATE bore.metrics_state SET writer = me RETURNING metrics_state.state INTO metrics_store.state;
        outcome := 'adopted';
    END IF;
    PERFORM bore.metrics_count_events(most);
    SELECT json_agg(json_build_object('kind', kind, 'status', status, 'count', count) ORDER BY kind, status)::text
    INTO metrics_store.events FROM bore.metrics_events;
END $$;
