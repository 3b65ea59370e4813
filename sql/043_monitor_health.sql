-- 043_monitor_health.sql: an instance's health as its user asks for it: the record `health_reply` of proto/messages.def.

-- With the last `most` samples, newest first, as JSON. What a heartbeat left out is null in its sample; above them stands
-- what is known by all.
CREATE FUNCTION bore.instance_health(account text, wanted text, most integer)
    RETURNS TABLE (instance_id text, status text, status_reason text, tunnel_connected boolean,
                   vscode_responsive boolean, has_code_server boolean, cpu_usage double precision,
                   memory_usage double precision, last_activity bigint, last_heartbeat bigint, heartbeat_age_ms bigint,
                   samples text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    own bore.instances := bore.own_instance(account, wanted);
BEGIN
    RETURN QUERY
        SELECT own.id, own.status, own.status_reason, own.phase = 'connected', own.vscode_responsive,
               own.has_code_server, last.cpu_usage, last.memory_usage, last.last_activity, bore.ms(last.at),
               bore.age_ms(last.at),
               (SELECT coalesce(json_agg(json_build_object(
                           'timestamp', bore.ms(sample.at), 'vscode_responsive', sample.vscode_responsive,
                           'has_code_server', sample.has_code_server, 'cpu_usage', sample.cpu_usage,
                           'memory_usage', sample.memory_usage, 'last_activity', sample.last_activity)
                       ORDER BY back), '[]')::text
                FROM generate_series(1, least(most, last.samples, 1000)) AS back
                JOIN bore.health_metrics AS sample
                    ON sample.instance_id = wanted AND sample.slot = ((last.samples - back) % 1000)::smallint)
        FROM (SELECT 1) AS always LEFT JOIN bore.heartbeats AS last ON last.instance_id = wanted;
END $$;
