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

-- Writes evidence and status of locked instances: several steps of one instance are taken in their order, each change
-- of status becomes a row of history and a `status` event. A reason that changes alone is written, and not told.
-- Answers what is to be appended.
CREATE FUNCTION bore.settle(steps bore.step[], idle_timeout interval) RETURNS bore.new_event[]
    LANGUAGE plpgsql AS $$
DECLARE
    rows   bore.instances[] := ARRAY (SELECT step.instance FROM unnest(steps) AS step);
    events bore.new_event[];
    now    timestamptz;
BEGIN
    IF cardinality(rows) = 0 THEN
        RETURN NULL;
    END IF;
    now := bore.clock();
    WITH judged AS MATERIALIZED (
        SELECT told.ordinality AS position, told.actor, told.server_id, told.notice, told.id, told.user_id, told.name,
               told.server_host, told.assigned_server, told.remote_port, told.public_url, told.phase,
               told.phase_reason, told.phase_since, told.server_reported, told.current_session, told.heartbeat_session,
               told.silent, told.has_code_server, told.vscode_responsive, told.status_since,
               greatest(now, told.status_since) AS at, verdict.status AS next_status, verdict.reason AS next_reason,
               coalesce(lag(verdict.status) OVER (PARTITION BY told.id ORDER BY told.ordinality), told.status)
                   AS previous
        FROM ROWS FROM (unnest(rows), unnest(steps)) WITH ORDINALITY AS told
        LEFT JOIN bore.heartbeats AS heard ON heard.instance_id = told.id
        CROSS JOIN LATERAL bore.instance_status(told.phase, told.phase_reason, told.heartbeat_session, told.silent,
            told.has_code_server, told.vscode_responsive, heard.last_activity, now, idle_timeout) AS verdict),
    history AS (
        INSERT INTO bore.status_history (instance_id, status, reason, at)
        SELECT id, next_status, next_reason, at FROM judged WHERE next_status <> previous ORDER BY position),
    last AS (
        SELECT DISTINCT ON (id) *, bool_or(next_status <> previous) OVER (PARTITION BY id) AS changed
        FROM judged ORDER BY id, position DESC),
    written AS (
        UPDATE bore.instances SET
            server_host = last.server_host, assigned_server = last.assigned_server, remote_port = last.remote_port,
            public_url = last.public_url, updated_at = last.at, phase = last.phase, phase_reason = last.phase_reason,
            phase_since = last.phase_since,
            due = CASE WHEN last.phase <> 'starting' THEN NULL
                       WHEN instances.phase = 'starting' AND instances.phase_since = last.phase_since THEN instances.due
                       ELSE 0 END,
            server_reported = last.server_reported,
            current_session = last.current_session, heartbeat_session = last.heartbeat_session, silent = last.silent,
            has_code_server = last.has_code_server, vscode_responsive = last.vscode_responsive,
            status = last.next_status, status_reason = last.next_reason,
            status_since = CASE WHEN last.changed THEN last.at ELSE last.status_since END
        FROM last WHERE instances.id = last.id),
    copied AS (
        UPDATE bore.heartbeats AS heard SET
            owner = last.user_id,
            steady = CASE WHEN last.phase = 'connected' AND last.heartbeat_session AND NOT last.silent
                          THEN last.next_status END,
            vscode = last.vscode_responsive, code = last.has_code_server
        FROM last WHERE heard.instance_id = last.id)
    SELECT array_agg(event.told ORDER BY event.position, event.part) INTO events
    FROM (SELECT position, 1 AS part, notice AS told FROM judged WHERE (notice).kind IS NOT NULL
          UNION ALL
          SELECT position, 2, ROW ('status', user_id, id,
                     jsonb_build_object('status', next_status, 'previous_status', previous, 'reason', next_reason,
                                        'name', name, 'actor', actor, 'server_id', server_id), at)::bore.new_event
          FROM judged WHERE next_status <> previous) AS event;
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
