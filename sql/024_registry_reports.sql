-- 024_registry_reports.sql: what bore-servers send, many at a time: validate-key, and the reports of 022.
--
-- Plans are made once a connection, maybe while the tables are still empty, and must be good for full ones: hence
-- generic plans, by indexes, without merge joins (which would read whole indexes), and keys that are joined are also
-- asked for by = ANY (or a hash join might read the whole table). Each function takes parallel arrays in arrival order
-- and answers a row for each, with `ord`. One call is one transaction and one commit for all.

-- ---- validate-key ---------------------------------------------------------------------------------------------------

CREATE FUNCTION bore.bandwidth_limit(gigabytes integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN gigabytes * (1024::bigint * 1024 * 1024);

-- What a user's tunnels carried in this calendar month (UTC).
CREATE FUNCTION bore.bandwidth_used(month date, bytes bigint, now timestamptz) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN month = date_trunc('month', now AT TIME ZONE 'UTC')::date THEN bytes ELSE 0 END;

-- May these tunnel tokens be used? Each success opens a pending session; the same token again, while its session is
-- still pending, is taken for the same attempt. A user's tunnels are counted in order of arrival.
CREATE FUNCTION bore.validate_keys(keys text[], starting_timeout interval)
    RETURNS TABLE (ord integer, valid boolean, usage_allowed boolean, user_id text, plan_type text,
                   max_concurrent_tunnels integer, max_bandwidth_gb integer, instance_id text, message text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    now    timestamptz;
    moment bigint;
    hashes text[];
    owners text[];
    wanted text[];
BEGIN
    hashes := ARRAY (SELECT bore.text_hash(key) FROM unnest(keys) WITH ORDINALITY AS given (key, n) ORDER BY n);
    SELECT array_agg(DISTINCT instances.user_id), array_agg(instances.id) INTO owners, wanted
    FROM bore.tunnel_tokens JOIN bore.instances ON id = instance_id WHERE token_hash = ANY (hashes);
    PERFORM 1 FROM bore.users WHERE id = ANY (owners) ORDER BY id FOR NO KEY UPDATE;
    PERFORM 1 FROM bore.instances WHERE id = ANY (wanted) ORDER BY id FOR NO KEY UPDATE;
    now := bore.clock();
    moment := bore.covered_now();
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT given.ord::integer, token.token_hash, token.instance_id, token.server_id, token.session_id,
               owner.id AS user_id, plan.name AS plan_type, plan.max_concurrent_tunnels, plan.max_bandwidth_gb,
               busy.in_use, busy.is_busy, min(given.ord) OVER (PARTITION BY token.instance_id) AS first_ord,
               CASE
                   WHEN token.token_hash IS NULL THEN 'This tunnel token is not known; its instance may be deleted.'
                   WHEN token.revoked_at IS NOT NULL THEN 'This tunnel token is no longer valid; ask for a new one.'
                   WHEN token.expires_at <= now THEN 'This tunnel token has expired; ask for a new one.'
                   WHEN owner.disabled THEN 'The account of this tunnel token is disabled.'
                   WHEN owner.plan_expires <= now THEN 'The plan of this account has expired.'
                   WHEN bore.bandwidth_used(owner.bandwidth_month, owner.bandwidth_bytes, now)
                        >= bore.bandwidth_limit(plan.max_bandwidth_gb)
                   THEN 'The bandwidth of this account''s plan is used up for this month.'
               END AS refusal
        FROM unnest(hashes) WITH ORDINALITY AS given (hash, ord)
        LEFT JOIN bore.tunnel_tokens AS token ON token.token_hash = given.hash
        LEFT JOIN bore.instances AS instance ON instance.id = token.instance_id
        LEFT JOIN bore.users AS owner ON owner.id = instance.user_id
        LEFT JOIN bore.plans AS plan ON plan.name = owner.plan
        CROSS JOIN LATERAL (
            SELECT count(DISTINCT session.instance_id) AS in_use,
                   coalesce(bool_or(session.instance_id = token.instance_id), false) AS is_busy
            FROM bore.tunnel_sessions AS session
            WHERE session.user_id = owner.id AND session.live
              AND (session.state = 'open' OR session.created_at > now - starting_timeout)) AS busy),
    -- An instance that would add a tunnel takes its place among those of its user in the order of arrival.
    judged AS MATERIALIZED (
        SELECT asked.*, coalesce(refusal,
                   CASE WHEN in_use - is_busy::integer
                             + CASE WHEN is_busy THEN 0
                                    ELSE dense_rank() OVER (PARTITION BY user_id, is_busy, refusal IS NULL
                                                            ORDER BY first_ord) - 1 END >= max_concurrent_tunnels
                        THEN 'All tunnels of this account''s plan are in use by other instances.' END) AS problem
        FROM asked),
    granted AS MATERIALIZED (
        SELECT DISTINCT ON (token_hash) token_hash, instance_id, user_id, server_id, session_id,
               bore.new_id('ts') AS fresh_id
        FROM judged WHERE problem IS NULL ORDER BY token_hash),
    again AS (
        UPDATE bore.tunnel_sessions AS session
        SET created_at = now, validated_at = now, validated_covered = moment, attempts = least(session.attempts + 1, 9)
        FROM granted
        WHERE session.id = granted.session_id AND session.state = 'pending'
          AND session.created_at > now - starting_timeout
        RETURNING granted.token_hash),
    opened AS (
        INSERT INTO bore.tunnel_sessions (id, instance_id, user_id, state, token_hash, server_id, created_at,
                                          validated_at, validated_covered)
        SELECT fresh_id, instance_id, user_id, 'pending', token_hash, server_id, now, now, moment
        FROM granted WHERE token_hash NOT IN (SELECT token_hash FROM again)
        RETURNING token_hash, id),
    used AS (
        UPDATE bore.tunnel_tokens AS token SET used_at = coalesce(token.used_at, now), session_id = opened.id
        FROM opened WHERE token.token_hash = opened.token_hash)
    SELECT ord, problem IS NULL, problem IS NULL, user_id, plan_type, max_concurrent_tunnels, max_bandwidth_gb,
           instance_id, coalesce(problem, 'The tunnel may open.')
    FROM judged;
END $$;

-- ---- reports --------------------------------------------------------------------------------------------------------

-- The message numbers of proto/messages.def.
CREATE FUNCTION bore.report_kind(method integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE method WHEN 242 THEN 'connected' WHEN 243 THEN 'disconnected' WHEN 244 THEN 'start'
                       WHEN 246 THEN 'end' WHEN 247 THEN 'usage' END;

-- One request of a batch; fields that its kind does not have are NULL.
CREATE TYPE bore.batch_report AS (
    ord integer, kind text, instance_id text, remote_port integer, public_url text, session_id text, server_id text,
    sequence bigint, reason text, user_id text, public_port integer, local_port integer, bytes_in bigint,
    bytes_out bigint, bytes_transferred bigint
);

-- host:port, or a http(s) URL.
CREATE FUNCTION bore.is_public_url(given text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    IF given ~ '^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?#][!-~]*)?$' THEN
        RETURN true;
    ELSIF given ~ '^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$' THEN
        RETURN substring(given FROM '[0-9]+$')::integer BETWEEN 1 AND 65535;
    END IF;
    RETURN false;
END $$;

-- Opens usage sessions; a repeated tunnel/start (same user, server, port, within the window) gets the same one. Answers
-- rows (ord, id), without one for an unknown user.
CREATE FUNCTION bore.usage_starts(reports bore.batch_report[], now timestamptz)
    RETURNS TABLE (ord integer, id text)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT report.ord, report.user_id, report.server_id, report.public_port, report.local_port, known.id
        FROM unnest(reports) AS report JOIN bore.users ON users.id = report.user_id
        LEFT JOIN LATERAL (
            SELECT usage.id FROM bore.usage_sessions AS usage
            WHERE usage.user_id = report.user_id AND usage.public_port = report.public_port
              AND usage.server_id = report.server_id AND usage.ended_at IS NULL
              AND usage.started_at > now - bore.report_window()
            ORDER BY usage.started_at DESC LIMIT 1) AS known ON true
        WHERE report.kind = 'start'),
    fresh AS MATERIALIZED (
        SELECT bore.new_id('use') AS id, user_id, server_id, public_port, min(local_port) AS local_port
        FROM asked WHERE id IS NULL GROUP BY user_id, server_id, public_port),
    opened AS (
        INSERT INTO bore.usage_sessions (id, user_id, server_id, public_port, local_port, started_at)
        SELECT id, user_id, server_id, public_port, local_port, now FROM fresh)
    SELECT asked.ord, coalesce(asked.id, fresh.id)
    FROM asked LEFT JOIN fresh USING (user_id, server_id, public_port);
END $$;

-- Adds what usage, end, and a `disconnected` that names a usage session tell; counts the bytes for their users. Users
-- and usage sessions are locked by the caller.
CREATE FUNCTION bore.usage_reports(reports bore.batch_report[], now timestamptz) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    most  CONSTANT bigint := 1000000000000000; -- no tunnel carries more: sums stay far from the end of bigint
    month CONSTANT date := date_trunc('month', now AT TIME ZONE 'UTC')::date;
BEGIN
    WITH told AS (
        SELECT session_id AS id, -- not least(): it would take `most` for a number that was not told
               max(CASE WHEN bytes_in > most THEN most ELSE bytes_in END) AS bytes_in,
               max(CASE WHEN bytes_out > most THEN most ELSE bytes_out END) AS bytes_out,
               max(CASE WHEN bytes_transferred > most THEN most ELSE bytes_transferred END) AS bytes_transferred,
               bool_or(kind <> 'usage') AS is_end
        FROM unnest(reports) WHERE kind IN ('usage', 'end', 'disconnected') AND session_id IS NOT NULL
        GROUP BY session_id),
    before AS MATERIALIZED (
        SELECT usage.*, told.bytes_in AS more_in, told.bytes_out AS more_out,
               told.bytes_transferred AS more_transferred, told.is_end
        FROM told JOIN bore.usage_sessions AS usage USING (id)),
    after AS (
        UPDATE bore.usage_sessions AS usage SET
            bytes_in = greatest(before.bytes_in, more_in), bytes_out = greatest(before.bytes_out, more_out),
            bytes_transferred = greatest(before.bytes_transferred, more_transferred),
            ended_at = coalesce(before.ended_at, CASE WHEN is_end THEN now END)
        FROM before WHERE usage.id = before.id
        RETURNING usage.user_id,
            greatest(coalesce(usage.bytes_in, 0) + coalesce(usage.bytes_out, 0), coalesce(usage.bytes_transferred, 0))
            - greatest(coalesce(before.bytes_in, 0) + coalesce(before.bytes_out, 0),
                       coalesce(before.bytes_transferred, 0)) AS carried)
    UPDATE bore.users SET bandwidth_month = month,
        bandwidth_bytes = bore.bandwidth_used(bandwidth_month, bandwidth_bytes, now) + mine.carried
    FROM (SELECT user_id, sum(carried)::bigint AS carried FROM after GROUP BY user_id) AS mine
    WHERE users.id = mine.user_id AND mine.carried > 0;
END $$;

-- A tunnel session shows what its usage sessions carried. Its instance is locked by the caller.
CREATE FUNCTION bore.usage_show(ids text[]) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bore.tunnel_sessions AS session SET
        bytes_in = greatest(session.bytes_in, usage.bytes_in),
        bytes_out = greatest(session.bytes_out, usage.bytes_out),
        bytes_transferred = greatest(session.bytes_transferred, usage.bytes_transferred)
    FROM bore.usage_sessions AS usage
    WHERE usage.id = ANY (ids) AND session.id = usage.tunnel_session;
END $$;

-- Usage sessions that could belong to the tunnels that are reported connected: of these users, on these ports.
CREATE FUNCTION bore.usage_candidates(owners text[], ports integer[], starting_timeout interval, now timestamptz)
    RETURNS text[]
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY (
        SELECT usage.id
        FROM unnest(owners, ports) AS tunnel (owner, port)
        JOIN bore.usage_sessions AS usage ON usage.user_id = tunnel.owner AND usage.public_port = tunnel.port
            AND usage.started_at > now - starting_timeout
        WHERE usage.tunnel_session IS NULL);
END $$;

-- Joins usage sessions to the tunnel sessions they are about, as far as those are known: the open one on that port, or
-- one whose end is in doubt; not to one that was joined long before: its port has changed hands.
CREATE FUNCTION bore.usage_join(ids text[]) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bore.usage_sessions AS usage SET tunnel_session = coalesce(
        (SELECT session.id FROM bore.tunnel_sessions AS session
         WHERE session.user_id = usage.user_id AND session.remote_port = usage.public_port
           AND session.live AND bore.same_server(usage.server_id, session.server_id)
           AND NOT EXISTS (SELECT 1 FROM bore.usage_sessions AS earlier
                           WHERE earlier.tunnel_session = session.id
                             AND earlier.started_at < usage.started_at - bore.report_window())
         ORDER BY session.connected_at DESC LIMIT 1),
        (SELECT session.id FROM bore.tunnel_sessions AS session
         WHERE session.user_id = usage.user_id AND session.remote_port = usage.public_port
           AND session.doubtful_until IS NOT NULL AND bore.same_server(usage.server_id, session.server_id)
           AND NOT EXISTS (SELECT 1 FROM bore.usage_sessions AS earlier
                           WHERE earlier.tunnel_session = session.id
                             AND earlier.started_at < usage.started_at - bore.report_window())
         ORDER BY session.connected_at DESC LIMIT 1))
    WHERE id = ANY (ids) AND tunnel_session IS NULL;
END $$;

-- The sessions of an instance that a report may be about.
CREATE FUNCTION bore.tunnel_recent(instance text, starting_timeout interval, now timestamptz)
    RETURNS SETOF bore.tunnel_sessions
    LANGUAGE sql STABLE AS $$
    SELECT * FROM (SELECT * FROM bore.tunnel_sessions WHERE instance_id = instance
                   ORDER BY closed_at DESC NULLS FIRST LIMIT 12) AS recent
    WHERE connected_at IS NOT NULL OR coalesce(closed_at, created_at) > now - starting_timeout;
$$;

-- The first `connected` of a tunnel, as it nearly always is, in one statement instead of thought through by 022, which
-- would come to the same: nothing else is told of the instance, which waits for it; it names nothing, no tunnel/start is
-- to be joined, and of the sessions that could be meant one is pending, while the others ended, and opened long before.
-- Writes the sessions, and answers a step for each. `wanted`: the instances that are told something, once for each
-- report; `locked`: those that there are.
CREATE FUNCTION bore.tunnels_open(reports bore.batch_report[], wanted text[], locked text[], refused integer[],
                                  usages text[], starting_timeout interval, default_host text, now timestamptz)
    RETURNS bore.step[]
    LANGUAGE plpgsql AS $$
DECLARE
    single text[] := ARRAY (SELECT id FROM unnest(wanted) AS id WHERE id = ANY (locked)
                            GROUP BY id HAVING count(*) = 1);
    steps  bore.step[];
BEGIN
    WITH plain AS MATERIALIZED (
        SELECT instance, known.pending, report.server_id, report.remote_port,
               bore.tunnel_address(instance, report.public_url, report.remote_port, default_host) AS public_url
        FROM unnest(reports) AS report
        JOIN bore.instances AS instance ON instance.id = report.instance_id AND instance.phase = 'starting'
        CROSS JOIN LATERAL (
            SELECT max(id) FILTER (WHERE state = 'pending') AS pending,
                   count(*) FILTER (WHERE live OR connected_at IS NULL OR connected_at > now - bore.report_window())
                       AS possible
            FROM bore.tunnel_recent(instance.id, starting_timeout, now)) AS known
        WHERE report.kind = 'connected' AND report.session_id IS NULL AND report.sequence IS NULL
          AND report.instance_id = ANY (single) AND report.ord <> ALL (refused)
          AND known.possible = 1 AND known.pending IS NOT NULL
          AND (cardinality(usages) = 0 OR NOT EXISTS (
                   SELECT 1 FROM bore.usage_sessions AS usage
                   WHERE usage.id = ANY (usages) AND usage.user_id = instance.user_id
                     AND usage.public_port = report.remote_port))),
    opened AS (
        UPDATE bore.tunnel_sessions AS session SET
            state = 'open', connected_at = now, server_id = coalesce(plain.server_id, session.server_id),
            remote_port = plain.remote_port, public_url = plain.public_url, doubtful_port = false,
            doubtful_until = NULL
        FROM plain WHERE session.id = plain.pending
        RETURNING plain.instance, session)
    SELECT array_agg(ROW (bore.with_tunnel(instance, session, now), 'server', (session).server_id,
                          bore.tunnel_notice('tunnel.connected', session, now))::bore.step ORDER BY (instance).id)
    INTO steps FROM opened;
    RETURN steps;
END $$;

-- What is known of these instances, locked by the caller, as are these usage sessions.
CREATE FUNCTION bore.tunnel_states(ids text[], usages text[], reports bore.batch_report[], starting_timeout interval,
                                   now timestamptz)
    RETURNS bore.tunnel_state[]
    LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
    SELECT array_agg(ROW (instance, known.sessions, known.starts, NULL, NULL, NULL)::bore.tunnel_state
                     ORDER BY instance.id)
    FROM bore.instances AS instance CROSS JOIN LATERAL (
        SELECT (SELECT array_agg(session ORDER BY created_at, id)
                FROM bore.tunnel_recent(instance.id, starting_timeout, now) AS session) AS sessions,
               CASE WHEN cardinality(usages) > 0 THEN
                   (SELECT array_agg(usage ORDER BY usage.started_at DESC) FROM bore.usage_sessions AS usage
                    WHERE usage.user_id = instance.user_id AND usage.tunnel_session IS NULL
                      AND usage.public_port IN (SELECT remote_port FROM unnest(reports) AS report
                                                WHERE report.instance_id = instance.id)
                      AND usage.id = ANY (usages))
               END AS starts) AS known
    WHERE instance.id = ANY (ids));
END $$;

CREATE FUNCTION bore.tunnel_fold(INOUT state bore.tunnel_state, reports bore.tunnel_report[], now timestamptz,
                                 default_host text)
    LANGUAGE plpgsql AS $$
DECLARE
    report bore.tunnel_report;
BEGIN
    FOREACH report IN ARRAY reports LOOP
        state := CASE report.kind
            WHEN 'connected' THEN bore.hear_connected(state, report, now, default_host)
            WHEN 'disconnected' THEN bore.hear_disconnected(state, report, now)
            ELSE bore.hear_ended(state, report, now)
        END;
    END LOOP;
END $$;

-- Writes what has changed of the sessions, and what hangs on them; answers the steps of the instances, for bore.settle.
CREATE FUNCTION bore.tunnel_write(states bore.tunnel_state[], now timestamptz)
    RETURNS bore.step[]
    LANGUAGE plpgsql AS $$
DECLARE
    revoked text[] := ARRAY (SELECT unnest(state.revoked) FROM unnest(states) AS state);
    joined  text[] := ARRAY (SELECT start.id FROM unnest(states) AS state, unnest(state.starts) AS start
                             WHERE start.tunnel_session IS NOT NULL);
BEGIN
    WITH known AS MATERIALIZED (
        SELECT session.* FROM unnest(states) AS state, unnest(state.sessions) AS session
        WHERE session.id = ANY (state.changed)),
    written AS (
        UPDATE bore.tunnel_sessions AS session SET
            state = known.state, server_id = known.server_id, remote_port = known.remote_port,
            public_url = known.public_url, external_id = known.external_id, sequence = known.sequence,
            connected_at = known.connected_at, closed_at = known.closed_at, live = known.live,
            closed_by = known.closed_by, close_reason = known.close_reason, attempts = known.attempts,
            disconnects = known.disconnects, disconnect_at = known.disconnect_at,
            doubtful_port = known.doubtful_port, doubtful_until = known.doubtful_until
        FROM known WHERE session.id = known.id AND session.id = ANY (ARRAY (SELECT id FROM known))
        RETURNING session.id)
    INSERT INTO bore.tunnel_sessions SELECT * FROM known WHERE id NOT IN (SELECT id FROM written);
    IF cardinality(revoked) > 0 THEN
        UPDATE bore.tunnel_tokens SET revoked_at = now WHERE token_hash = ANY (revoked) AND revoked_at IS NULL;
    END IF;
    IF cardinality(joined) > 0 THEN
        UPDATE bore.usage_sessions AS usage SET tunnel_session = start.tunnel_session
        FROM unnest(states) AS state, unnest(state.starts) AS start
        WHERE usage.id = start.id AND usage.id = ANY (joined);
        PERFORM bore.usage_show(joined);
    END IF;
    RETURN ARRAY (
        SELECT ROW (step.instance, step.actor, step.server_id, step.notice)::bore.step
        FROM unnest(states) AS state,
             unnest(state.steps) WITH ORDINALITY AS step (instance, actor, server_id, notice, n)
        ORDER BY (state.instance).id, step.n);
END $$;

-- A bore-server that reports a tunnel's end needs not be told to close it: the one it names, or else any.
CREATE FUNCTION bore.closes_done(reports bore.batch_report[]) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM bore.pending_closes AS asked USING (
        SELECT report.instance_id, report.server_id FROM unnest(reports) AS report WHERE kind = 'disconnected'
        UNION
        SELECT session.instance_id, session.server_id
        FROM unnest(reports) AS report JOIN bore.usage_sessions AS usage ON usage.id = report.session_id
        JOIN bore.tunnel_sessions AS session ON session.id = usage.tunnel_session
        WHERE report.kind = 'end') AS done
    WHERE asked.instance_id = done.instance_id AND bore.same_server(done.server_id, asked.server_id) IS NOT FALSE;
END $$;

-- tunnel-connected, tunnel-disconnected, tunnel/start, tunnel/end and tunnel/usage.
CREATE FUNCTION bore.tunnel_reports(reports bore.batch_report[], default_host text, starting_timeout interval,
                                    idle_timeout interval)
    RETURNS TABLE (ord integer, success boolean, session_id text, error text, error_message text, error_field text,
                   events text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    now      timestamptz;
    refused  integer[];
    named    text[];    -- usage sessions
    owners   text[];    -- of the instances with a tunnel,
    ports    integer[]; -- and where `connected` says that it is
    starting text[];
    ends     boolean;
    starts   jsonb := '{}';
    fresh    text[]; -- what they opened
    usages   text[];
    wanted   text[];
    found    text[];
    steps    bore.step[];
    others   text[];
    states   bore.tunnel_state[];
    told     text;
BEGIN
    SELECT coalesce(array_agg(ord) FILTER (WHERE NOT bore.is_public_url(public_url)), '{}'),
           coalesce(array_agg(session_id) FILTER (WHERE session_id IS NOT NULL AND kind <> 'connected'), '{}'),
           coalesce(array_agg(instance_id) FILTER (WHERE kind IN ('connected', 'disconnected')), '{}'),
           array_agg(user_id) FILTER (WHERE kind = 'start'), coalesce(bool_or(kind IN ('disconnected', 'end')), false)
    INTO refused, named, wanted, starting, ends FROM unnest(reports);
    SELECT array_agg(instance.user_id), array_agg(CASE report.kind WHEN 'connected' THEN report.remote_port END)
    INTO owners, ports
    FROM unnest(reports) AS report JOIN bore.instances AS instance ON instance.id = report.instance_id
    WHERE instance.id = ANY (ARRAY (SELECT instance_id FROM unnest(reports)));
    -- One at a time for each user: a tunnel/start and the `connected` that it belongs to would not see each other.
    PERFORM 1 FROM bore.users
    WHERE id = ANY (owners || starting || CASE WHEN cardinality(named) > 0 THEN ARRAY (
                        SELECT user_id FROM bore.usage_sessions WHERE id = ANY (named)) END)
    ORDER BY id FOR NO KEY UPDATE;
    now := bore.clock();
    IF starting IS NOT NULL THEN
        starts := (SELECT coalesce(jsonb_object_agg(ord, id), '{}') FROM bore.usage_starts(reports, now));
        fresh := ARRAY (SELECT value FROM jsonb_each_text(starts));
    END IF;
    usages := named || fresh || bore.usage_candidates(owners, ports, starting_timeout, now);
    IF cardinality(usages) > 0 THEN
        usages := ARRAY (SELECT id FROM bore.usage_sessions WHERE id = ANY (usages) ORDER BY id FOR UPDATE);
        PERFORM bore.usage_reports(reports, now);
        PERFORM bore.usage_join(named || fresh);
    END IF;
    IF cardinality(named) > 0 THEN
        wanted := wanted || ARRAY (SELECT session.instance_id FROM bore.usage_sessions AS usage
                                   JOIN bore.tunnel_sessions AS session ON session.id = usage.tunnel_session
                                   WHERE usage.id = ANY (named));
    END IF;
    found := ARRAY (SELECT id FROM bore.instances WHERE id = ANY (wanted) ORDER BY id FOR NO KEY UPDATE);
    now := bore.clock();
    IF cardinality(named) > 0 THEN
        PERFORM bore.usage_show(named);
    END IF;
    steps := bore.tunnels_open(reports, wanted, found, refused, usages, starting_timeout, default_host, now);
    IF coalesce(cardinality(steps), 0) < cardinality(found) THEN
        others := ARRAY (SELECT unnest(found) EXCEPT SELECT (instance).id FROM unnest(steps));
        states := bore.tunnel_states(others, usages, reports, starting_timeout, now);
        states := bore.tunnel_hear(states, reports, refused, default_host, now);
        steps := ARRAY (SELECT ROW (step.instance, step.actor, step.server_id, step.notice)::bore.step
                        FROM unnest(steps || bore.tunnel_write(states, now)) WITH ORDINALITY
                            AS step (instance, actor, server_id, notice, n)
                        ORDER BY (step.instance).id, step.n);
    END IF;
    told := bore.append_events(bore.settle(steps, idle_timeout));
    IF ends THEN
        PERFORM bore.closes_done(reports);
    END IF;
    RETURN QUERY
        SELECT ord, true, CASE kind WHEN 'start' THEN starts ->> ord::text END,
               CASE
                   WHEN ord = ANY (refused) THEN 'validation_error'
                   WHEN kind IN ('connected', 'disconnected') AND instance_id <> ALL (found) THEN 'instance_not_found'
                   WHEN kind = 'start' AND NOT starts ? ord::text THEN 'user_not_found'
               END,
               CASE WHEN ord = ANY (refused) THEN 'must be host:port or a http(s) URL' END,
               CASE WHEN ord = ANY (refused) THEN 'public_url' END,
               CASE ord WHEN 1 THEN told END
        FROM unnest(reports);
END $$;

-- Takes each instance's reports in their order of arrival, proofs last. `refused`: those reports' places in the batch.
CREATE FUNCTION bore.tunnel_hear(states bore.tunnel_state[], reports bore.batch_report[], refused integer[],
                                 default_host text, now timestamptz) RETURNS bore.tunnel_state[]
    LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
    WITH heard AS (
        SELECT report.instance_id, report.ord,
               ROW (report.kind, usage.tunnel_session, CASE WHEN usage.id IS NULL THEN report.session_id END,
                    report.sequence, report.remote_port, report.public_url, report.server_id,
                    report.reason)::bore.tunnel_report AS report
        FROM unnest(reports) AS report LEFT JOIN bore.usage_sessions AS usage ON usage.id = report.session_id
        WHERE report.kind IN ('connected', 'disconnected') AND report.ord <> ALL (refused)
          -- An end whose tunnel is not heard of yet is kept with its usage session.
          AND NOT (report.kind = 'disconnected' AND usage.id IS NOT NULL AND usage.tunnel_session IS NULL)
        UNION ALL
        SELECT session.instance_id, report.ord + cardinality(reports),
               ROW ('ended', session.id, NULL, NULL, NULL, NULL, NULL, NULL)::bore.tunnel_report
        FROM unnest(reports) AS report JOIN bore.usage_sessions AS usage ON usage.id = report.session_id
        JOIN bore.tunnel_sessions AS session ON session.id = usage.tunnel_session
        WHERE report.kind = 'end'),
    mine AS (
        SELECT instance_id, array_agg(report ORDER BY ord) AS reports FROM heard GROUP BY instance_id)
    SELECT array_agg(bore.tunnel_fold(ROW (state.*)::bore.tunnel_state, mine.reports, now, default_host))
    FROM unnest(states) AS state JOIN mine ON mine.instance_id = (state.instance).id);
END $$;

-- ---- doubts ---------------------------------------------------------------------------------------------------------

-- Where tunnel/start is known, what was a guess is decided when the window has passed. A session that was thought to
-- have ended, but whose tunnel/end has not come, is open again, with its token. One that was thought to be open on a
-- port that may have been an earlier one's, and has no tunnel/start, is pending again. All others stay as they are.
CREATE FUNCTION bore.tunnel_doubts(most integer, idle_timeout interval) RETURNS text
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off AS $$
DECLARE
    now    timestamptz := bore.clock();
    states bore.tunnel_state[];
    ids    text[];
BEGIN
    IF NOT EXISTS (SELECT 1 FROM bore.tunnel_sessions WHERE doubtful_until <= now) THEN
        RETURN NULL;
    END IF;
    ids := ARRAY (SELECT instance_id FROM bore.tunnel_sessions WHERE doubtful_until <= now
                  ORDER BY doubtful_until LIMIT most);
    PERFORM 1 FROM bore.users WHERE id = ANY (ARRAY (SELECT user_id FROM bore.instances WHERE id = ANY (ids)))
    ORDER BY id FOR NO KEY UPDATE;
    ids := ARRAY (SELECT id FROM bore.instances WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE);
    states := bore.tunnel_states(ids, NULL, NULL, interval '1 hour', now);
    states := ARRAY (SELECT bore.tunnel_reconsider(ROW (state.*)::bore.tunnel_state, now) FROM unnest(states) AS state);
    RETURN bore.append_events(bore.settle(bore.tunnel_write(states, now), idle_timeout));
END $$;

CREATE FUNCTION bore.tunnel_reconsider(INOUT state bore.tunnel_state, now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    session bore.tunnel_sessions;
    started boolean; -- it has a tunnel/start without a tunnel/end
    ended   boolean; -- it has a tunnel/end
    usual   boolean; -- another session of the instance has a tunnel/start
BEGIN
    FOR place IN 1 .. coalesce(cardinality(state.sessions), 0) LOOP
        session := state.sessions[place];
        CONTINUE WHEN session.doubtful_until IS NULL OR session.doubtful_until > now;
        state.sessions[place].doubtful_until := NULL;
        state.changed := state.changed || session.id;
        -- A copy of tunnel/start that came after tunnel/end has made a usage session that never ends.
        SELECT count(*) FILTER (WHERE mine AND NOT is_over) > 0, count(*) FILTER (WHERE mine AND is_over) > 0,
               count(*) FILTER (WHERE NOT mine) > 0
        INTO started, ended, usual
        FROM (SELECT usage.tunnel_session = session.id AS mine, EXISTS (
                         SELECT 1 FROM bore.usage_sessions AS over
                         WHERE over.user_id = usage.user_id AND over.public_port = usage.public_port
                           AND over.started_at > usage.started_at - bore.report_window()
                           AND over.ended_at IS NOT NULL) AS is_over
              FROM unnest(state.sessions) AS other
              JOIN bore.usage_sessions AS usage ON usage.tunnel_session = other.id) AS known;
        IF session.state = 'open' AND session.doubtful_port AND usual AND NOT started THEN
            state := bore.tunnel_unopen(state, place, now);
        ELSIF session.closed_by = 'report' AND started AND NOT ended THEN
            state := bore.tunnel_reopen(state, place, now);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION bore.tunnel_reopen(INOUT state bore.tunnel_state, place integer, now timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bore.tunnel_tokens SET revoked_at = NULL
    WHERE token_hash = state.sessions[place].token_hash AND revoked_at = state.sessions[place].closed_at;
    state.sessions[place].state := 'open';
    state.sessions[place].closed_at := NULL;
    state.sessions[place].live := true;
    state.sessions[place].closed_by := NULL;
    state.sessions[place].close_reason := NULL;
    IF (state.instance).phase IN ('disconnected', 'failed') THEN
        state.instance := bore.with_phase(state.instance, 'connected', 'tunnel connected: another one ended', now);
        state.instance := bore.with_session(state.instance, state.sessions[place]);
    END IF;
    state := bore.tunnel_step(state, 'tunnel.connected', place, now);
END $$;
