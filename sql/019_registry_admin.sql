-- 019_registry_admin.sql: the leases of bore-servers, what admins see of instances, and housekeeping.

-- ---- bore-servers ---------------------------------------------------------------------------------------------------

-- A bore-server registers or renews its lease; what it leaves out is the default, each time. Answers the tunnels that it
-- shall close: again and again until it reports their end, or for an hour. A tunnel that its user has opened again there
-- meanwhile is not among them.
CREATE FUNCTION bore.server_renew(server text, given_host text, given_port integer, given_region text,
                                  given_tunnels integer, given_active boolean, lease_ms bigint,
                                  OUT success boolean, OUT lease_seconds bigint, OUT close text[], OUT warning text)
    LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz := bore.clock();
BEGIN
    PERFORM bore.require_host(given_host, 'host');
    PERFORM bore.require_name(given_region, 'region');
    INSERT INTO bore.servers (id, host, port, region, max_tunnels, active, registered_at, renewed_at, lease_expires_at,
                              lease_covered)
    VALUES (server, given_host, given_port, coalesce(given_region, 'local'), coalesce(given_tunnels, 100),
            coalesce(given_active, true), now, now, now + bore.duration(lease_ms), bore.covered_now() + lease_ms)
    ON CONFLICT (id) DO UPDATE
        SET host = excluded.host, port = excluded.port, region = excluded.region, max_tunnels = excluded.max_tunnels,
            active = excluded.active, renewed_at = excluded.renewed_at,
            lease_expires_at = excluded.lease_expires_at,
            lease_covered = greatest(servers.lease_covered, excluded.lease_covered);
    close := ARRAY (
        SELECT asked.instance_id FROM bore.pending_closes AS asked
        WHERE asked.server_id = server AND asked.created_at > now - interval '1 hour'
          AND NOT EXISTS (SELECT 1 FROM bore.instances AS wanted
                          WHERE wanted.id = asked.instance_id AND wanted.assigned_server = server
                            AND wanted.phase IN ('starting', 'connected'))
        ORDER BY asked.created_at, asked.instance_id LIMIT 10000);
    success := true;
    lease_seconds := greatest(1, lease_ms / 1000);
    IF given_port <> 7835 THEN
        warning := format('Clients in the field always dial port 7835, whatever port is announced: %s is reached by '
                          'newer ones only.', given_port);
    END IF;
END $$;

-- Whether its lease has not ended. In covered time: one that could not renew it, because nobody listened, is alive.
CREATE FUNCTION bore.is_alive(server bore.servers) RETURNS boolean
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN server.lease_covered > (SELECT covered FROM bore.coverage);
END $$;

-- How many tunnels are open on each registered bore-server, and its share in use: from 0 (none) to 1 (full).
CREATE VIEW bore.server_row AS
    SELECT servers.id, servers.host, servers.port, servers.region, servers.max_tunnels, open.tunnels, servers.active,
           bore.is_alive(servers) AS alive, bore.ms(servers.lease_expires_at) AS lease_expires_at,
           CASE WHEN servers.max_tunnels > 0 THEN round(open.tunnels::numeric / servers.max_tunnels, 4) ELSE 1 END
               AS utilization
    FROM bore.servers CROSS JOIN LATERAL (
        SELECT count(*) AS tunnels FROM bore.tunnel_sessions
        WHERE server_id = servers.id AND live AND state = 'open') AS open;

-- ---- admins ---------------------------------------------------------------------------------------------------------

-- An instance with its owner and its health: the record `admin_instance` of proto/messages.def.
CREATE VIEW bore.admin_instance_row AS
    SELECT seen.*, users.email AS user_email, users.name AS user_name, evidence.vscode_responsive,
           evidence.has_code_server, heard.cpu_usage, heard.memory_usage, heard.last_activity
    FROM bore.instance_row AS seen
    JOIN bore.instances AS evidence ON evidence.id = seen.id
    LEFT JOIN bore.heartbeats AS heard ON heard.instance_id = seen.id
    JOIN bore.users ON users.id = seen.user_id;

-- All instances of that status (NULL: any) whose id is q, or whose name or owner's e-mail contains it.
CREATE FUNCTION bore.admin_instance_list(admin text, wanted_status text, q text, most integer, mark text)
    RETURNS TABLE (total bigint, cursor text, next_cursor text, instance bore.admin_instance_row)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    after record := bore.page_at(mark);
BEGIN
    PERFORM bore.require_admin(admin);
    IF wanted_status NOT IN ('inactive', 'starting', 'active', 'online', 'degraded', 'idle', 'offline', 'error') THEN
        PERFORM bore.refuse('validation_error', 'is not a status', 'status');
    END IF;
    RETURN QUERY
        WITH matching AS (
            SELECT any_one.id, any_one.created_at
            FROM bore.instances AS any_one JOIN bore.users AS owner ON owner.id = any_one.user_id
            WHERE (wanted_status IS NULL OR any_one.status = wanted_status)
              AND (coalesce(q, '') = '' OR any_one.id = q OR position(lower(q) IN lower(any_one.name)) > 0
                   OR position(lower(q) IN lower(owner.email)) > 0)),
        page AS (
            SELECT matching.id, matching.created_at,
                   row_number() OVER (ORDER BY matching.created_at DESC, matching.id DESC) AS place
            FROM matching WHERE (matching.created_at, matching.id) < (after.at, after.id)
            ORDER BY matching.created_at DESC, matching.id DESC LIMIT most + 1)
        SELECT (SELECT count(*) FROM matching),
               (SELECT bore.event_cursor()),
               (SELECT bore.page_mark(last.created_at, last.id) FROM page AS last
                WHERE last.place = most AND EXISTS (SELECT 1 FROM page AS further WHERE further.place > most)),
               seen
        FROM (SELECT 1) AS always
        LEFT JOIN (page JOIN bore.admin_instance_row AS seen ON seen.id = page.id) ON page.place <= most
        ORDER BY page.place;
END $$;

-- The whole in numbers, all of one snapshot.
CREATE FUNCTION bore.admin_stats(admin text)
    RETURNS TABLE (total_users bigint, total_instances bigint, active_tunnels bigint, by_status text, servers text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    PERFORM bore.require_admin(admin);
    RETURN QUERY
        SELECT (SELECT count(*) FROM bore.users), count(*), count(*) FILTER (WHERE phase = 'connected'),
               json_build_object(
                   'inactive', count(*) FILTER (WHERE status = 'inactive'),
                   'starting', count(*) FILTER (WHERE status = 'starting'),
                   'active', count(*) FILTER (WHERE status = 'active'),
                   'online', count(*) FILTER (WHERE status = 'online'),
                   'degraded', count(*) FILTER (WHERE status = 'degraded'),
                   'idle', count(*) FILTER (WHERE status = 'idle'),
                   'offline', count(*) FILTER (WHERE status = 'offline'),
                   'error', count(*) FILTER (WHERE status = 'error'))::text,
               (SELECT coalesce(json_agg(row_to_json(known) ORDER BY known.id), '[]')::text
                FROM (SELECT * FROM bore.server_row ORDER BY alive DESC, id LIMIT 1000) AS known)
        FROM bore.instances;
END $$;

-- ---- housekeeping ---------------------------------------------------------------------------------------------------

-- Deletes what has no meaning any more, at most `most` rows of each kind; answers how many. What ended usage sessions
-- told is in their tunnel sessions and users. One caller at a time: the others answer 0.
CREATE FUNCTION bore.registry_sweep(retention_ms bigint, most integer) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    now   timestamptz := bore.clock();
    total integer := 0;
    gone  integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(x'626f7265'::int, 20) THEN
        RETURN 0;
    END IF;
    total := bore.trim_events(bore.duration(retention_ms), most);
    DELETE FROM bore.pending_closes WHERE (server_id, instance_id) IN (
        SELECT server_id, instance_id FROM bore.pending_closes WHERE created_at < now - interval '1 hour'
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.tunnel_tokens WHERE token_hash IN (
        SELECT token_hash FROM bore.tunnel_tokens WHERE expires_at < now - interval '1 day'
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.idempotency WHERE (scope, key) IN (
        SELECT scope, key FROM bore.idempotency WHERE created_at < now - interval '24 hours'
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.usage_sessions WHERE id IN (
        SELECT id FROM bore.usage_sessions WHERE ended_at < now - interval '7 days' LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.servers WHERE id IN (
        SELECT id FROM bore.servers WHERE lease_expires_at < now - interval '30 days'
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END $$;
