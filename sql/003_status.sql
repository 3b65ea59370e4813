-- 003_status.sql: the one rule of status (docs: the table "Status" of the README).
--
-- Every statement that writes a status calls this under the row's lock, so replicas cannot disagree. Tiers, strongest
-- first: what bore-servers and users said of the tunnel (phase), silence of a client that had been sending heartbeats,
-- code-server health, activity. `now` and `idle_timeout` make it a pure function of its arguments.

CREATE FUNCTION bore.instance_status(
    phase text, phase_reason text, heartbeat_session boolean, silent boolean, has_code_server boolean,
    vscode_responsive boolean, last_activity bigint, now timestamptz, idle_timeout interval,
    OUT status text, OUT reason text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        CASE
            WHEN phase = 'inactive' THEN 'inactive'
            WHEN phase = 'starting' THEN 'starting'
            WHEN phase = 'failed' THEN 'error'
            WHEN phase = 'disconnected' THEN 'offline'
            WHEN NOT heartbeat_session THEN 'active'
            WHEN silent THEN 'offline'
            WHEN coalesce(has_code_server, false) AND NOT coalesce(vscode_responsive, true) THEN 'degraded'
            WHEN last_activity IS NOT NULL AND now - to_timestamp(last_activity) > idle_timeout THEN 'idle'
            ELSE 'online'
        END,
        CASE
            WHEN phase IN ('inactive', 'starting', 'failed', 'disconnected') THEN phase_reason
            WHEN NOT heartbeat_session THEN 'tunnel connected'
            WHEN silent THEN 'heartbeats stopped'
            WHEN coalesce(has_code_server, false) AND NOT coalesce(vscode_responsive, true) THEN 'VSCode does not respond'
            WHEN last_activity IS NOT NULL AND now - to_timestamp(last_activity) > idle_timeout THEN 'no recent activity'
            ELSE 'tunnel connected, heartbeats arrive'
        END;
$$;
