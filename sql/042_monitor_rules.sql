-- 042_monitor_rules.sql: what time alone makes true.
--
--   * heartbeats stopped for longer than HEARTBEAT_TIMEOUT_SECONDS, in a session that had some: offline
--   * no activity for longer than IDLE_TIMEOUT_SECONDS (by the clock: the client tells when it was): idle
--   * validated, and not connected within STARTING_TIMEOUT_SECONDS: error
--   * a tunnel token that ended unused: inactive
--   * a bore-server that lets its lease end: its tunnels are offline
--
-- Every monitor runs them once a second, one at a time does: a transaction-level lock that is only tried, so that a
-- frozen one holds nobody up. Rows that somebody else works on are left for the next second (SKIP LOCKED; whoever holds
-- an instance may be about to hear what is missed here), and each call touches a bounded number.

-- What is still on its way when the time is over.
CREATE FUNCTION bore.patience() RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 250;

-- ---- silence and activity -------------------------------------------------------------------------------------------

-- Instances whose silence or inactivity has not been noticed. All rows are looked at: they are narrow, and an index on
-- what each heartbeat writes would cost each heartbeat more.
CREATE FUNCTION bore.overdue_heartbeats(heard_before bigint, active_before bigint, most integer) RETURNS text[]
    LANGUAGE plpgsql SET enable_seqscan = on SET enable_indexscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN ARRAY (SELECT instance_id FROM bore.heartbeats
                  WHERE watched AND (covered < heard_before OR last_activity < active_before AND NOT inactive)
                  LIMIT most);
END $$;

-- Takes these for silent and inactive as far as they are, and makes their status follow; they are locked.
CREATE FUNCTION bore.notice_silence(ids text[], heard_before bigint, active_before bigint, idle_timeout interval)
    RETURNS bore.new_event[]
    LANGUAGE plpgsql AS $$
DECLARE
    stopped text[];
    changed text[];
BEGIN
    PERFORM 1 FROM bore.heartbeats WHERE instance_id = ANY (ids) ORDER BY instance_id FOR NO KEY UPDATE;
    WITH noticed AS (
        UPDATE bore.heartbeats SET watched = covered >= heard_before,
            inactive = inactive OR coalesce(last_activity < active_before, false)
        WHERE instance_id = ANY (ids)
        RETURNING instance_id, watched)
    SELECT array_agg(instance_id) INTO stopped FROM noticed WHERE NOT watched;
    UPDATE bore.instances SET silent = true
    WHERE id = ANY (stopped) AND phase = 'connected' AND heartbeat_session AND NOT silent;
    SELECT array_agg(id) INTO changed
    FROM bore.instances AS mine JOIN bore.heartbeats AS last ON last.instance_id = mine.id
    CROSS JOIN LATERAL bore.instance_status(mine.phase, mine.phase_reason, mine.heartbeat_session, mine.silent,
        mine.has_code_server, mine.vscode_responsive, last.last_activity, bore.clock(), idle_timeout) AS verdict
    WHERE mine.id = ANY (ids) AND verdict.status <> mine.status;
    RETURN bore.settle_instances(changed, 'monitor', NULL, idle_timeout);
END $$;

-- ---- tunnels that do not come ---------------------------------------------------------------------------------------

-- One instance in the phase 'starting' whose time has come: what becomes of it, or when to look again.
CREATE FUNCTION bore.starting_ends(INOUT instance bore.instances, INOUT due bigint, covered bigint, starting_ms bigint,
                                   now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    earlier   bore.tunnel_sessions;
    validated bigint;
    ends      timestamptz;
BEGIN
    SELECT max(session.validated_covered) FILTER (WHERE session.state = 'pending'),
           max(token.expires_at) FILTER (WHERE token.expires_at > now)
    INTO validated, ends
    FROM bore.tunnel_tokens AS token LEFT JOIN bore.tunnel_sessions AS session ON session.id = token.session_id
    WHERE token.instance_id = instance.id AND token.revoked_at IS NULL;
    IF validated + starting_ms + bore.patience() > covered THEN
        due := validated + starting_ms + bore.patience();
    ELSIF validated IS NOT NULL THEN
        instance := bore.with_phase(instance, 'failed', 'the tunnel did not open in time', now);
    ELSIF ends IS NOT NULL THEN
        -- It may be validated at any moment from now on, so we are back before that can be too long ago.
        due := covered + least(starting_ms, greatest(100, bore.ms(ends) - bore.ms(now)));
    ELSIF due = 0 THEN
        due := covered + starting_ms;
    ELSE
        instance := bore.with_phase(instance, 'inactive', 'the tunnel token was not used in time', now);
    END IF;
    IF instance.phase <> 'starting' THEN
        SELECT * INTO earlier FROM bore.tunnel_sessions AS session
        WHERE session.instance_id = instance.id AND session.state = 'open'
        ORDER BY session.connected_at DESC LIMIT 1;
        IF FOUND THEN
            instance := bore.with_phase(instance, 'connected', 'tunnel connected: a newer one did not open', now);
            instance := bore.with_session(instance, earlier);
        END IF;
    END IF;
END $$;

-- Instances whose time has come. All that wait are looked at: they are few, in narrow rows.
CREATE FUNCTION bore.overdue_tunnels(covered bigint, most integer) RETURNS text[]
    LANGUAGE plpgsql SET enable_seqscan = on AS $$
BEGIN
    RETURN ARRAY (SELECT instance_id FROM bore.waiting WHERE due <= covered ORDER BY due LIMIT most);
END $$;

CREATE FUNCTION bore.end_starting(covered bigint, starting_ms bigint, idle_timeout interval, most integer)
    RETURNS bore.new_event[]
    LANGUAGE plpgsql AS $$
DECLARE
    now   timestamptz;
    ids   text[] := bore.overdue_tunnels(covered, most);
    steps bore.step[];
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN NULL;
    END IF;
    ids := ARRAY (SELECT id FROM bore.instances WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
    now := bore.clock();
    WITH after AS MATERIALIZED (
        SELECT looked.instance, looked.due
        FROM bore.waiting JOIN bore.instances ON id = instance_id
        CROSS JOIN LATERAL bore.starting_ends(instances, waiting.due, covered, starting_ms, now) AS looked
        WHERE instance_id = ANY (ids) AND waiting.due <= covered),
    later AS (
        UPDATE bore.waiting SET due = after.due
        FROM after WHERE instance_id = (after.instance).id AND (after.instance).phase = 'starting')
    SELECT array_agg(ROW (instance, 'monitor', NULL, NULL)::bore.step ORDER BY (instance).id) INTO steps
    FROM after WHERE (instance).phase <> 'starting';
    RETURN bore.settle(steps, idle_timeout);
END $$;

-- ---- bore-servers ---------------------------------------------------------------------------------------------------

CREATE FUNCTION bore.tunnel_lease_ends(INOUT state bore.tunnel_state, servers text[], now timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    FOR place IN 1 .. coalesce(cardinality(state.sessions), 0) LOOP
        IF state.sessions[place].state = 'open' AND state.sessions[place].server_id = ANY (servers) THEN
            state := bore.tunnel_close(state, place, 'lease', 'its bore-server no longer answers', now);
        END IF;
    END LOOP;
END $$;

-- Closes tunnels of bore-servers whose lease has ended; one that comes back is told to close them too. Answers what was
-- appended to the event log.
CREATE FUNCTION bore.end_leases(covered bigint, idle_timeout interval, most integer, OUT ended integer, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    now    timestamptz;
    dead   text[] := ARRAY (SELECT id FROM bore.servers WHERE lease_covered + bore.patience() < covered);
    ids    text[];
    states bore.tunnel_state[];
BEGIN
    ids := ARRAY (SELECT DISTINCT instance_id FROM (
                      SELECT instance_id FROM bore.tunnel_sessions
                      WHERE server_id = ANY (dead) AND live AND state = 'open' LIMIT most) AS open);
    ended := cardinality(ids);
    IF ended = 0 THEN
        RETURN;
    END IF;
    PERFORM 1 FROM bore.users WHERE id IN (SELECT user_id FROM bore.instances WHERE id = ANY (ids))
    ORDER BY id FOR NO KEY UPDATE;
    ids := ARRAY (SELECT id FROM bore.instances WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE);
    -- One of them may have renewed its lease while we waited.
    dead := ARRAY (SELECT id FROM bore.servers WHERE id = ANY (dead) AND lease_covered + bore.patience() < covered);
    now := bore.clock();
    states := bore.tunnel_states(ids, NULL, NULL, interval '1 hour', now);
    INSERT INTO bore.pending_closes (server_id, instance_id, created_at)
    SELECT DISTINCT session.server_id, session.instance_id, now
    FROM unnest(states) AS state, unnest(state.sessions) AS session
    WHERE session.state = 'open' AND session.server_id = ANY (dead)
    ON CONFLICT (server_id, instance_id) DO UPDATE SET created_at = excluded.created_at;
    states := ARRAY (SELECT bore.tunnel_lease_ends(ROW (state.*)::bore.tunnel_state, dead, now)
                     FROM unnest(states) AS state);
    events := bore.append_events(bore.settle(bore.tunnel_write(states, now), idle_timeout));
END $$;

-- ---- all of them ----------------------------------------------------------------------------------------------------

-- One sweep. `won`: nobody else was at it. `more`: a bound was reached. `sender`, `sent` and `covered` are how covered time
-- stands, for those who watch it.
CREATE FUNCTION bore.time_rules(heartbeat_ms bigint, starting_ms bigint, idle_ms bigint, most integer,
                                OUT won boolean, OUT more boolean, OUT sender text, OUT sent bigint, OUT covered bigint,
                                OUT events text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off AS $$
DECLARE
    idle_timeout  interval := bore.duration(idle_ms);
    known         bore.coverage;
    heard_before  bigint;
    active_before bigint := floor(date_part('epoch', bore.clock() - idle_timeout));
    ids           text[];
    ended         integer;
    told          bore.new_event[];
BEGIN
    SELECT * INTO known FROM bore.coverage;
    sender := known.sender;
    sent := known.sent;
    covered := known.covered;
    more := false;
    won := pg_try_advisory_xact_lock(x'626f7265'::int, 40);
    IF NOT won THEN
        RETURN;
    END IF;
    SELECT lease.ended, lease.events INTO ended, events FROM bore.end_leases(covered, idle_timeout, most) AS lease;
    IF ended > 0 THEN
        more := true; -- the others have their turn next: it holds the log's lock already
        RETURN;
    END IF;
    heard_before := covered - heartbeat_ms - bore.patience();
    ids := bore.overdue_heartbeats(heard_before, active_before, most);
    IF cardinality(ids) > 0 THEN
        more := cardinality(ids) >= most;
        ids := ARRAY (SELECT id FROM bore.instances WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
        told := bore.notice_silence(ids, heard_before, active_before, idle_timeout);
    END IF;
    told := told || bore.end_starting(covered, starting_ms, idle_timeout, most);
    events := bore.append_events(told);
END $$;
