-- 017_instance_row.sql: what an instance is to those who ask for it.
--
-- Somebody else's instance is none at all.

-- How long ago, when the statement began; NULL for never. Being STABLE, it leaves the view below inlined in its queries.
CREATE FUNCTION bore.age_ms(moment timestamptz) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN moment IS NOT NULL THEN greatest(0, bore.ms(statement_timestamp()) - bore.ms(moment)) END;

-- An instance as it is answered: the record `instance` of proto/messages.def.
CREATE VIEW bore.instance_row AS
    SELECT id, user_id, name, local_port, remote_port, region, server_host, assigned_server, status,
           status_reason, bore.ms(status_since) AS status_since, phase = 'connected' AS tunnel_connected, public_url,
           bore.ms(heartbeats.at) AS last_heartbeat, bore.age_ms(heartbeats.at) AS heartbeat_age_ms,
           bore.ms(created_at) AS created_at, bore.ms(updated_at) AS updated_at
    FROM bore.instances LEFT JOIN bore.heartbeats ON instance_id = id;

-- The instance, if it is the user's; refuses otherwise.
CREATE FUNCTION bore.own_instance(account text, wanted text) RETURNS bore.instances
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_instance bore.instances;
BEGIN
    SELECT * INTO found_instance FROM bore.instances WHERE id = wanted AND user_id = account;
    IF NOT FOUND THEN
        PERFORM bore.refuse('instance_not_found');
    END IF;
    RETURN found_instance;
END $$;
