-- 020_registry_settle.sql: how a change of evidence becomes a status, a row of history and an event.
--
-- Of all functions that change instances: rows are locked in this order: users by id, usage sessions by id, instances
-- by id, whatever hangs on them, the event log's lock last. Times are bore.clock() under the row's lock, and never
-- before what the instance's history ends with.

-- One change of an instance: the row as it shall be (its status fields as they were), who caused it ('user', 'client',
-- 'server', 'monitor'), on which bore-server, and an event that goes before that of the status, if any.
CREATE TYPE bore.step AS (
    instance  bore.instances,
    actor     text,
    server_id text,
    notice    bore.new_event
);

-- Writes evidence and status of locked instances: each change of status becomes a row of history and a `status` event.
-- A reason that changes alone is written, and not told. Answers what is to be appended. The steps are ordered by their
-- instances' ids, because heartbeats are locked on the way; of several steps of one instance each has its turn.
CREATE FUNCTION bore.settle(steps bore.step[], idle_timeout interval) RETURNS bore.new_event[]
    LANGUAGE plpgsql AS $$
DECLARE
    rows   bore.instances[] := ARRAY (SELECT step.instance FROM unnest(steps) AS step);
    turns  bigint[];
    events bore.new_event[];
    now    timestamptz;
BEGIN
    IF cardinality(rows) = 0 THEN
        RETURN NULL;
    ELSIF (SELECT count(DISTINCT (instance).id) FROM unnest(steps)) < cardinality(steps) THEN
        turns := ARRAY (SELECT row_number() OVER (PARTITION BY (step.instance).id ORDER BY n)
                        FROM unnest(steps) WITH ORDINALITY AS step (instance, actor, server_id, notice, n) ORDER BY n);
        PERFORM 1 FROM bore.heartbeats
        WHERE instance_id = ANY (ARRAY (SELECT id FROM unnest(rows))) ORDER BY instance_id FOR NO KEY UPDATE;
        FOR turn IN 1 .. (SELECT max(n) FROM unnest(turns) AS n) LOOP
            events := events || bore.settle(ARRAY (
                SELECT ROW (step.instance, step.actor, step.server_id, step.notice)::bore.step
                FROM unnest(steps) WITH ORDINALITY AS step (instance, actor, server_id, notice, n)
                WHERE turns[n] = turn ORDER BY n), idle_timeout);
        END LOOP;
        RETURN events;
    END IF;
    now := bore.clock();
    WITH judged AS MATERIALIZED (
        SELECT before.at AS place, before.phase AS phase_before, before.phase_since AS since_before,
               before.status AS previous, verdict.status AS next_status, verdict.reason AS next_reason,
               greatest(now, before.status_since) AS at,
               CASE WHEN verdict.status <> before.status THEN greatest(now, before.status_since)
                    ELSE before.status_since END AS since, copy.steady,
               heard.instance_id IS NOT NULL
                   AND (heard.owner, heard.steady, heard.vscode, heard.code) IS DISTINCT FROM (
                       told.user_id, copy.steady, told.vscode_responsive, told.has_code_server) AS copies, told.*
        FROM ROWS FROM (unnest(rows), unnest(steps)) AS told
        CROSS JOIN LATERAL (SELECT ctid AS at, phase, phase_since, status, status_since FROM bore.instances
                            WHERE id = told.id LIMIT 1) AS before
        LEFT JOIN LATERAL (SELECT instance_id, last_activity, owner, steady, vscode, code FROM bore.heartbeats
                           WHERE instance_id = told.id LIMIT 1) AS heard ON true
        CROSS JOIN LATERAL bore.instance_status(told.phase, told.phase_reason, told.heartbeat_session, told.silent,
            told.has_code_server, told.vscode_responsive, heard.last_activity, now, idle_timeout) AS verdict
        CROSS JOIN LATERAL (
            SELECT CASE WHEN told.phase = 'connected' AND told.heartbeat_session AND NOT told.silent
                        THEN verdict.status END AS steady) AS copy),
    history AS (
        INSERT INTO bore.status_history (instance_id, status, reason, at)
        SELECT id, next_status, next_reason, at FROM judged WHERE next_status <> previous),
    waits AS (
        INSERT INTO bore.waiting (instance_id, due)
        SELECT id, 0 FROM judged
        WHERE phase = 'starting' AND (phase_before <> 'starting' OR since_before <> phase_since)
        ON CONFLICT (instance_id) DO UPDATE SET due = 0),
    came AS (
        DELETE FROM bore.waiting
        WHERE instance_id = ANY (ARRAY (SELECT id FROM judged WHERE phase <> 'starting' AND phase_before = 'starting'))),
    written AS (
        UPDATE bore.instances SET
            server_host = judged.server_host, assigned_server = judged.assigned_server,
            remote_port = judged.remote_port, public_url = judged.public_url, updated_at = judged.at,
            phase = judged.phase, phase_reason = judged.phase_reason, phase_since = judged.phase_since,
            server_reported = judged.server_reported, current_session = judged.current_session,
            heartbeat_session = judged.heartbeat_session, silent = judged.silent,
            has_code_server = judged.has_code_server, vscode_responsive = judged.vscode_responsive,
            status = judged.next_status, status_reason = judged.next_reason, status_since = judged.since
        FROM judged WHERE instances.ctid = judged.place),
    copied AS ( -- not by ctid: a heartbeat that locks no instance may have written the row meanwhile
        UPDATE bore.heartbeats AS heard SET
            owner = judged.user_id, steady = judged.steady, vscode = judged.vscode_responsive,
            code = judged.has_code_server
        FROM judged WHERE heard.instance_id = judged.id AND judged.copies)
    SELECT array_agg(event) INTO events
    FROM judged CROSS JOIN LATERAL (VALUES
        (notice),
        (CASE WHEN next_status <> previous THEN
             ROW ('status', user_id, id,
                  jsonb_object(ARRAY ['status', next_status, 'previous_status', previous, 'reason', next_reason,
                                      'name', name, 'actor', actor, 'server_id', server_id]), at)::bore.new_event
         END)) AS told (event)
    WHERE (event).kind IS NOT NULL;
    RETURN events;
END $$;

-- For those who wrote the evidence of locked instances themselves: makes their status follow.
CREATE FUNCTION bore.settle_instances(ids text[], actor text, server_id text, idle_timeout interval)
    RETURNS bore.new_event[]
    LANGUAGE plpgsql AS $$
DECLARE
    steps bore.step[];
BEGIN
    SELECT array_agg(ROW (instances, actor, server_id, NULL)::bore.step ORDER BY instances.id) INTO steps
    FROM bore.instances WHERE id = ANY (ids);
    RETURN bore.settle(steps, idle_timeout);
END $$;

-- A tunnel session begins: what an earlier one's heartbeats said is no evidence in it. (The last activity that they told
-- counts no more either: the first heartbeat of the new session replaces it.)
CREATE FUNCTION bore.forget_heartbeats(INOUT instance bore.instances)
    LANGUAGE plpgsql AS $$
BEGIN
    instance.heartbeat_session := false;
    instance.silent := false;
    instance.has_code_server := NULL;
    instance.vscode_responsive := NULL;
END $$;

-- The phase of an instance changes. Without a tunnel there is no address, and silence means nothing.
CREATE FUNCTION bore.with_phase(INOUT instance bore.instances, new_phase text, why text, now timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    IF new_phase <> 'connected' THEN
        instance.current_session := NULL;
        instance.remote_port := NULL;
        instance.public_url := NULL;
        instance.heartbeat_session := false;
        instance.silent := false;
    END IF;
    instance.phase := new_phase;
    instance.phase_reason := why;
    instance.phase_since := greatest(now, instance.phase_since);
END $$;
