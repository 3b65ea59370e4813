-- 026_registry_connect.sql: how a user's tunnel begins and ends: a token and a bore-server for it, disconnect, delete,
-- and what the client says it saw.

-- ---- connect --------------------------------------------------------------------------------------------------------

-- 256 bits out of four random UUIDs (488 random bits).
CREATE FUNCTION bore.new_tunnel_token() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN 'tk_' || encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                                  || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');

-- How many tunnels are open, or may open with a token already given out, on the bore-servers of these regions that take
-- new ones.
CREATE FUNCTION bore.server_loads(regions text[], now timestamptz)
    RETURNS TABLE (id text, host text, port integer, region text, max_tunnels integer, load bigint)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT id, host, port, region, max_tunnels,
           (SELECT count(*) FROM bore.tunnel_sessions
            WHERE server_id = servers.id AND live)
           + (SELECT count(*) FROM bore.tunnel_tokens
              WHERE server_id = servers.id AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now)
    FROM bore.servers
    WHERE region = ANY (regions) AND active AND bore.is_alive(servers);
END $$;

-- One connect of a batch: the instance (NULL: there is none), why not (a wire code), or where to.
CREATE TYPE bore.connect_plan AS (
    ord integer, instance bore.instances, problem text, server_id text, host text, port integer, utilization numeric,
    token text, is_last boolean
);

-- What becomes of each request, in order of arrival. Users and instances are locked by the caller. A tunnel is in use
-- when a session is open or validated, or a token waits for its first use. The n-th request of a region takes the n-th
-- free place of its bore-servers, the emptiest first. Of several connects of one instance the last one's token is the
-- valid one.
CREATE FUNCTION bore.connect_plans(user_ids text[], instance_ids text[], default_host text, default_port integer,
                                   starting_timeout interval, now timestamptz) RETURNS bore.connect_plan[]
    LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
    WITH asked AS MATERIALIZED (
        SELECT given.ord::integer, given.user_id, instance, (instance).id AS instance_id, (instance).region,
               (instance).pinned_host, plan.max_concurrent_tunnels, busy.in_use, busy.is_busy,
               min(given.ord) OVER (PARTITION BY given.instance_id) AS first_ord,
               given.ord = max(given.ord) OVER (PARTITION BY given.instance_id) AS is_last,
               CASE
                   WHEN (instance).id IS NULL THEN 'instance_not_found'
                   WHEN owner.disabled THEN 'forbidden'
                   WHEN owner.plan_expires <= now THEN 'plan_expired'
               END AS refusal
        FROM unnest(user_ids, instance_ids) WITH ORDINALITY AS given (user_id, instance_id, ord)
        LEFT JOIN bore.instances AS instance ON instance.id = given.instance_id AND instance.user_id = given.user_id
        LEFT JOIN bore.users AS owner ON owner.id = given.user_id
        LEFT JOIN bore.plans AS plan ON plan.name = owner.plan
        CROSS JOIN LATERAL (
            SELECT count(DISTINCT used.instance_id) AS in_use,
                   coalesce(bool_or(used.instance_id = given.instance_id), false) AS is_busy
            FROM (SELECT session.instance_id FROM bore.tunnel_sessions AS session
                  WHERE session.user_id = given.user_id AND session.live
                    AND (session.state = 'open' OR session.created_at > now - starting_timeout)
                  UNION ALL
                  SELECT token.instance_id
                  FROM bore.tunnel_tokens AS token JOIN bore.instances AS other ON other.id = token.instance_id
                  WHERE token.user_id = given.user_id AND token.used_at IS NULL AND token.revoked_at IS NULL
                    AND token.expires_at > now AND other.phase IN ('starting', 'connected')) AS used) AS busy),
    judged AS MATERIALIZED (
        SELECT asked.*, coalesce(refusal,
                   CASE WHEN in_use - is_busy::integer
                             + CASE WHEN is_busy THEN 0
                                    ELSE dense_rank() OVER (PARTITION BY user_id, is_busy, refusal IS NULL
                                                            ORDER BY first_ord) - 1 END >= max_concurrent_tunnels
                        THEN 'tunnel_limit_reached' END) AS problem
        FROM asked),
    loads AS MATERIALIZED (
        SELECT * FROM bore.server_loads(
            ARRAY (SELECT DISTINCT region FROM judged WHERE problem IS NULL AND pinned_host IS NULL), now)),
    places AS (
        SELECT loads.*, (load + taken + 1)::numeric / max_tunnels AS utilization,
               row_number() OVER (PARTITION BY region ORDER BY (load + taken)::numeric / max_tunnels, id) AS place
        FROM loads, generate_series(0, least(max_tunnels - load, cardinality(user_ids)) - 1) AS taken),
    placed AS (
        SELECT judged.*, places.id AS server_id, places.host, places.port, places.utilization
        FROM (SELECT *, row_number() OVER (PARTITION BY region ORDER BY ord) AS place
              FROM judged WHERE problem IS NULL AND pinned_host IS NULL) AS judged
        LEFT JOIN places USING (region, place)
        UNION ALL
        SELECT judged.*, 0, pinned.id, judged.pinned_host, pinned.port, 0
        FROM judged LEFT JOIN LATERAL (
            SELECT id, port FROM bore.servers
            WHERE host = judged.pinned_host AND active AND bore.is_alive(servers) ORDER BY id LIMIT 1) AS pinned ON true
        WHERE problem IS NOT NULL OR pinned_host IS NOT NULL)
    SELECT array_agg(ROW (ord, instance,
               coalesce(problem, CASE WHEN host IS NULL AND EXISTS (SELECT 1 FROM bore.servers
                                                                    WHERE servers.region = placed.region)
                                      THEN 'no_servers_available' END),
               server_id, coalesce(host, default_host), coalesce(port, default_port),
               round(coalesce(utilization, 0), 4), bore.new_tunnel_token(), is_last)::bore.connect_plan ORDER BY ord)
    FROM placed);
END $$;

-- The instance waits for a tunnel with a token of that bore-server.
CREATE FUNCTION bore.instance_starts(INOUT instance bore.instances, host text, server text, now timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    instance := bore.with_phase(bore.forget_heartbeats(instance), 'starting', 'waiting for the tunnel', now);
    instance.server_reported := false;
    instance.server_host := host;
    instance.assigned_server := server;
END $$;

-- New tunnel tokens, many at a time; each replaces the instance's old ones. Limits are checked under the user's lock.
CREATE FUNCTION bore.instances_connect(user_ids text[], instance_ids text[], ttl_ms bigint, default_host text,
                                       default_port integer, starting_timeout interval, idle_timeout interval)
    RETURNS TABLE (ord integer, instance_id text, tunnel_token text, server_host text, server_port integer,
                   local_port integer, remote_port integer, ttl bigint, expires_at bigint, server_info text, error text,
                   error_message text, events text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    now   timestamptz;
    ends  timestamptz;
    plans bore.connect_plan[];
    steps bore.step[];
    told  text;
BEGIN
    PERFORM 1 FROM bore.users WHERE id = ANY (user_ids) ORDER BY id FOR NO KEY UPDATE;
    PERFORM 1 FROM bore.instances WHERE id = ANY (instance_ids) AND user_id = ANY (user_ids)
    ORDER BY id FOR NO KEY UPDATE;
    now := bore.clock();
    ends := now + bore.duration(ttl_ms);
    plans := bore.connect_plans(user_ids, instance_ids, default_host, default_port, starting_timeout, now);
    UPDATE bore.tunnel_tokens AS token SET revoked_at = now
    WHERE instance_id = ANY (ARRAY (SELECT (instance).id FROM unnest(plans) WHERE problem IS NULL))
      AND revoked_at IS NULL;
    INSERT INTO bore.tunnel_tokens (token_hash, instance_id, user_id, server_id, created_at, expires_at, revoked_at)
    SELECT bore.text_hash(token), (instance).id, (instance).user_id, server_id, now, ends,
           CASE WHEN NOT is_last THEN now END
    FROM unnest(plans) WHERE problem IS NULL;
    SELECT array_agg(ROW (bore.instance_starts(instance, host, server_id, now), 'user', server_id, NULL)::bore.step
                     ORDER BY (instance).id)
    INTO steps FROM unnest(plans) WHERE problem IS NULL AND is_last;
    told := bore.append_events(bore.settle(steps, idle_timeout));
    RETURN QUERY
        SELECT ord, (instance).id, token, host, port, (instance).local_port, 0, ttl_ms / 1000, bore.ms(ends),
               json_build_object('server_id', coalesce(server_id, 'default'), 'utilization', utilization)::text,
               problem, CASE problem WHEN 'forbidden' THEN 'This account is disabled.' END,
               CASE ord WHEN 1 THEN told END
        FROM unnest(plans);
END $$;

-- ---- disconnect and delete ------------------------------------------------------------------------------------------

-- Ends all tunnels and tokens of a locked instance, by its user's word; bore-servers that renew a lease are told to
-- close what is open there. Answers a notice for each session that was open.
CREATE FUNCTION bore.instance_close(target text, why text, now timestamptz) RETURNS bore.new_event[]
    LANGUAGE plpgsql AS $$
DECLARE
    notices bore.new_event[];
BEGIN
    UPDATE bore.tunnel_sessions SET doubtful_until = NULL
    WHERE instance_id = target AND doubtful_until IS NOT NULL;
    UPDATE bore.tunnel_tokens SET revoked_at = now WHERE instance_id = target AND revoked_at IS NULL;
    -- Of several attempts that were taken for one session, and of one opened by what may have been a late copy of
    -- another one's report, more is to be heard.
    INSERT INTO bore.tunnel_sessions (id, instance_id, user_id, state, token_hash, server_id, created_at, validated_at)
    SELECT bore.new_id('ts'), target, user_id, 'pending', token_hash, server_id, created_at, validated_at
    FROM bore.tunnel_sessions, generate_series(2, attempts + doubtful_port::integer)
    WHERE instance_id = target AND (live OR created_at > now - interval '1 minute');
    WITH present AS (
        SELECT id, state FROM bore.tunnel_sessions WHERE instance_id = target AND live),
    ended AS (
        UPDATE bore.tunnel_sessions AS session
        SET state = CASE present.state WHEN 'open' THEN 'closed' ELSE 'cancelled' END, closed_at = now, live = false,
            closed_by = 'user', close_reason = why
        FROM present WHERE session.id = present.id
        RETURNING session.*, present.state AS was),
    closing AS (
        INSERT INTO bore.pending_closes (server_id, instance_id, created_at)
        SELECT DISTINCT servers.id, target, now FROM ended JOIN bore.servers ON servers.id = ended.server_id
        ON CONFLICT (server_id, instance_id) DO UPDATE SET created_at = excluded.created_at)
    SELECT array_agg(ROW ('tunnel.disconnected', user_id, target,
                          jsonb_build_object('session_id', id, 'remote_port', remote_port, 'public_url', public_url,
                                             'server_id', server_id, 'reason', why), now)::bore.new_event
                     ORDER BY connected_at, id)
    INTO notices FROM ended WHERE was = 'open';
    RETURN notices;
END $$;

-- The user ends the tunnel on purpose: what bore-servers report of it later changes nothing.
CREATE FUNCTION bore.instance_disconnect(account text, wanted text, idle_timeout interval,
                                         OUT success boolean, OUT events text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off AS $$
DECLARE
    instance bore.instances;
    now      timestamptz;
    notices  bore.new_event[];
BEGIN
    PERFORM 1 FROM bore.users WHERE id = account FOR NO KEY UPDATE;
    SELECT * INTO instance FROM bore.instances WHERE id = wanted AND user_id = account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM bore.refuse('instance_not_found');
    END IF;
    now := bore.clock();
    notices := bore.instance_close(wanted, 'disconnected by its user', now);
    IF instance.phase <> 'inactive' THEN
        instance := bore.with_phase(instance, 'inactive', 'disconnected by its user', now);
        instance.server_reported := true;
        notices := notices || bore.settle(ARRAY [ROW (instance, 'user', NULL, NULL)::bore.step], idle_timeout);
    END IF;
    success := true;
    events := bore.append_events(notices);
END $$;

CREATE FUNCTION bore.instance_delete(account text, wanted text, OUT success boolean, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    instance bore.instances;
    now      timestamptz;
    notices  bore.new_event[];
BEGIN
    PERFORM 1 FROM bore.users WHERE id = account FOR NO KEY UPDATE;
    SELECT * INTO instance FROM bore.instances WHERE id = wanted AND user_id = account FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM bore.refuse('instance_not_found');
    END IF;
    now := bore.clock();
    notices := bore.instance_close(wanted, 'deleted by its user', now);
    DELETE FROM bore.instances WHERE id = wanted;
    success := true;
    events := bore.append_events(notices || ROW ('instance.deleted', account, wanted,
        jsonb_build_object('name', instance.name, 'status', instance.status, 'reason', instance.status_reason),
        now)::bore.new_event);
END $$;

-- ---- the client's word ----------------------------------------------------------------------------------------------

-- What the client saw of its tunnel: 'starting', 'active', 'error' or 'inactive', and its address. It counts only while
-- no bore-server has reported since the last token, and not after its user's disconnect; else it fills in an address
-- that is not known, and changes nothing more.
CREATE FUNCTION bore.instance_connection(account text, wanted text, seen_status text, seen_url text, seen_port integer,
                                         idle_timeout interval,
                                         OUT success boolean, OUT instance bore.instance_row, OUT events text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off AS $$
DECLARE
    own bore.instances;
    was bore.instances;
    now timestamptz;
BEGIN
    IF seen_status NOT IN ('starting', 'active', 'error', 'inactive') THEN
        PERFORM bore.refuse('validation_error', 'must be starting, active, error or inactive', 'status');
    ELSIF NOT bore.is_public_url(seen_url) THEN
        PERFORM bore.refuse('validation_error', 'must be host:port or a http(s) URL', 'public_url');
    END IF;
    SELECT * INTO own FROM bore.instances WHERE id = wanted AND user_id = account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM bore.refuse('instance_not_found');
    END IF;
    now := bore.clock();
    was := own;
    IF NOT own.server_reported THEN
        own := CASE
            WHEN seen_status = 'active' AND own.phase <> 'connected'
            THEN bore.with_phase(own, 'connected', 'tunnel connected, as its client says', now)
            WHEN seen_status = 'starting' AND own.phase <> 'starting'
            THEN bore.with_phase(own, 'starting', 'the client opens the tunnel', now)
            WHEN seen_status = 'error' AND own.phase <> 'failed'
            THEN bore.with_phase(own, 'failed', 'the client could not open the tunnel', now)
            WHEN seen_status = 'inactive' AND own.phase <> 'inactive'
            THEN bore.with_phase(own, 'inactive', 'the client has closed the tunnel', now)
            ELSE own
        END;
        IF own.phase IN ('starting', 'connected') THEN
            own.remote_port := coalesce(seen_port, own.remote_port);
            own.public_url := coalesce(seen_url, own.public_url, bore.host_and_port(own.server_host, seen_port));
        END IF;
    ELSIF own.phase = 'connected' THEN
        own.remote_port := coalesce(own.remote_port, seen_port);
        own.public_url := coalesce(own.public_url, seen_url);
    END IF;
    IF own IS DISTINCT FROM was THEN
        events := bore.append_events(bore.settle(ARRAY [ROW (own, 'client', NULL, NULL)::bore.step], idle_timeout));
    END IF;
    success := true;
    SELECT * INTO instance FROM bore.instance_row WHERE id = wanted;
END $$;
