-- 003_status.sql: the one rule of status (docs: the table "Status" of the README).
--
-- Every statement that writes a status follows this under the row's lock, so replicas cannot disagree. Tiers, strongest
-- first: what bore-servers and users said of the tunnel (phase), silence of a client that had been sending heartbeats,
-- code-server health, activity. `now` and `idle_timeout` make it a pure function of its arguments; it never fails,
-- whatever a client claims as its last activity. As a set-returning function of one SELECT it is inlined where it is
-- used in FROM, so it costs a batch of heartbeats next to nothing. (date_part is a double's work, extract a numeric's.)

CREATE FUNCTION bore.instance_status(
    phase text, phase_reason text, heartbeat_session boolean, silent boolean, has_code_server boolean,
    vscode_responsive boolean, last_activity bigint, now timestamptz, idle_timeout interval)
    RETURNS TABLE (status text, reason text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT rule.status,
           CASE
               WHEN phase <> 'connected' OR rule.status = 'active' THEN phase_reason
               WHEN rule.status = 'offline' THEN 'heartbeats stopped'
               WHEN rule.status = 'degraded' THEN 'VSCode does not respond'
               WHEN rule.status = 'idle' THEN 'no recent activity'
               ELSE 'tunnel connected, heartbeats arrive'
           END
    FROM (SELECT CASE
              WHEN phase = 'inactive' THEN 'inactive'
              WHEN phase = 'starting' THEN 'starting'
              WHEN phase = 'failed' THEN 'error'
              WHEN phase = 'disconnected' THEN 'offline'
              WHEN NOT heartbeat_session THEN 'active'
              WHEN silent THEN 'offline'
              WHEN coalesce(has_code_server, false) AND NOT coalesce(vscode_responsive, true) THEN 'degraded'
              WHEN date_part('epoch', now) - last_activity > date_part('epoch', idle_timeout) THEN 'idle'
              ELSE 'online'
          END AS status OFFSET 0) AS rule; -- OFFSET 0: judged once, not at each mention of rule.status
$$;
