-- 022_registry_sessions.sql: what a bore-server's report means, and what follows from it.
--
-- bore-servers report `connected` and `disconnected` up to three times, late and in any order, mostly without naming a
-- session. What is certain: validate-key is answered before the tunnel opens, so a session is `pending` before it can
-- be reported; a bore-server uses a port for one tunnel at a time, so a port tells sessions apart; copies of a report
-- come within bore.report_window of each other; tunnel/end names what tunnel/start answered. All else is the best
-- guess:
--   * `connected` opens the oldest pending session, or a further one; on an open session's port it is a repeat, unless
--     that session is too old for a late copy and a newer one is pending: then the port has changed hands. On the port
--     of one that ended it is a late copy, unless a session is pending. After a `disconnected` that overtook it it
--     changes nothing.
--   * `disconnected` closes the oldest open session. It belongs to one that ended in another way a moment ago, if that
--     one's is still to come; with nothing open it repeats the last one or cancels the pending session that it
--     overtook.
--   * Where another guess was possible and tunnel/start is known, the proof is awaited: when no tunnel/end comes within
--     the window, the session is open again (bore.tunnel_doubts in 024).
-- The functions here work on one instance's state in memory; 024 loads and writes many states at once.

-- Within this time of each other come all copies of a report, and reports of what happened at the same moment.
CREATE FUNCTION bore.report_window() RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN interval '4 seconds';

CREATE TYPE bore.tunnel_report AS (
    kind        text,    -- 'connected', 'disconnected', or 'ended' (the proof)
    session_id  text,    -- tunnel_sessions.id, when it is known exactly
    external_id text,    -- the bore-server's own name or number for it
    sequence    bigint,
    remote_port integer,
    public_url  text,
    server_id   text,
    reason      text
);

-- What a report means: 'repeat', 'late' (changes nothing but what is known of a session that ended), 'open', 'rename'
-- (the session has another port than it seemed), 'close', 'unknown' (an end of what was never heard of), 'gone' (the
-- tunnel that only its client spoke of). `place`: which session, 0 is none. `other`: of 'open', the one whose port it
-- takes over; of 'rename', the one that ended unheard whose port it had. `doubtful`: another guess was possible.
CREATE TYPE bore.tunnel_meaning AS (action text, place integer, other integer, doubtful boolean);

-- An instance, its sessions oldest first (no pending ones that are too old to be reported), tunnel/starts not yet
-- joined, and what has been changed: ids of sessions, hashes of tokens to revoke, steps for bore.settle.
CREATE TYPE bore.tunnel_state AS (
    instance bore.instances,
    sessions bore.tunnel_sessions[],
    starts   bore.usage_sessions[],
    changed  text[],
    revoked  text[],
    steps    bore.step[]
);

-- Whether the report names exactly this session.
CREATE FUNCTION bore.report_names(report bore.tunnel_report, session bore.tunnel_sessions) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN report.session_id = session.id OR report.external_id = session.external_id
        OR report.sequence = session.sequence;

-- Whether nothing that both of them say differs.
CREATE FUNCTION bore.report_fits(report bore.tunnel_report, session bore.tunnel_sessions) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN (report.external_id = session.external_id) IS NOT FALSE
        AND (report.sequence = session.sequence) IS NOT FALSE;

-- What tunnel/start and tunnel/end say of a port: 'before' (its tunnel was there before this time), 'ended' (its tunnel
-- is over already), or '' (nothing).
CREATE FUNCTION bore.port_known(starts bore.usage_sessions[], port integer, moment timestamptz) RETURNS text
    LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    known text := '';
BEGIN
    FOR i IN 1 .. coalesce(cardinality(starts), 0) LOOP
        IF starts[i].public_port = port AND starts[i].started_at < moment THEN
            RETURN 'before';
        ELSIF starts[i].public_port = port AND starts[i].ended_at IS NOT NULL THEN
            known := 'ended';
        END IF;
    END LOOP;
    RETURN known;
END $$;

CREATE FUNCTION bore.connected_means(report bore.tunnel_report, sessions bore.tunnel_sessions[],
                                     starts bore.usage_sessions[], phase text, now timestamptz)
    RETURNS bore.tunnel_meaning
    LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    recently  timestamptz := now - bore.report_window();
    anonymous boolean := report.external_id IS NULL AND report.sequence IS NULL;
    session   bore.tunnel_sessions;
    same_port integer := 0; -- the newest open one on this port
    newest    integer := 0; -- the newest open one
    pending   integer := 0; -- the oldest of a moment ago, or else the newest
    further   timestamptz;  -- when two attempts were taken for one, of which one may still be heard of
    unheard   integer := 0; -- the oldest that ended before it was heard to begin
    ended     integer := 0; -- the newest that ended and had, or may have had, this port
    known     text := '';   -- what is known of the port
BEGIN
    FOR place IN 1 .. coalesce(cardinality(sessions), 0) LOOP
        session := sessions[place];
        IF bore.report_names(report, session) THEN
            RETURN ROW (CASE session.state WHEN 'open' THEN 'repeat' ELSE 'late' END, place, 0,
                        false)::bore.tunnel_meaning;
        END IF;
        further := CASE WHEN session.attempts > 1 THEN session.created_at ELSE further END;
        IF session.state = 'pending' THEN
            IF pending = 0 OR sessions[pending].created_at < recently THEN
                pending := place;
            END IF;
        ELSIF session.state = 'open' THEN
            newest := place;
            IF session.remote_port = report.remote_port AND bore.report_fits(report, session) THEN
                same_port := place;
            END IF;
        ELSIF NOT bore.report_fits(report, session) THEN
            CONTINUE;
        ELSIF session.connected_at IS NULL THEN
            IF unheard = 0 AND (session.closed_at > recently OR session.closed_by = 'user') THEN
                unheard := place;
            END IF;
        ELSIF (session.remote_port = report.remote_port) IS NOT FALSE THEN
            ended := place;
        END IF;
    END LOOP;
    IF same_port > 0 THEN
        IF pending > 0 AND sessions[pending].created_at > sessions[same_port].connected_at
           AND sessions[same_port].connected_at < recently THEN
            RETURN ROW ('open', pending, same_port, false)::bore.tunnel_meaning;
        END IF;
        RETURN ROW ('repeat', same_port, 0, false)::bore.tunnel_meaning;
    END IF;
    IF anonymous AND pending + newest > 0 AND cardinality(starts) > 0 THEN
        known := bore.port_known(starts, report.remote_port,
                                 sessions[CASE WHEN pending > 0 THEN pending ELSE newest END].created_at);
    END IF;
    IF unheard > 0 AND (known = 'before'
                        OR known = 'ended' AND (pending = 0 OR sessions[unheard].closed_at > recently)) THEN
        RETURN ROW ('late', unheard, 0, false)::bore.tunnel_meaning;
    ELSIF ended > 0 AND (known = 'before' OR sessions[ended].connected_at > recently
                                             AND sessions[ended].created_at > sessions[pending].created_at) THEN
        RETURN ROW ('late', ended, 0, false)::bore.tunnel_meaning;
    ELSIF pending > 0 AND known = 'before' THEN
        RETURN ROW ('open', 0, 0, false)::bore.tunnel_meaning;
    ELSIF pending > 0 THEN
        RETURN ROW ('open', pending, 0, anonymous AND (
            unheard > 0 OR coalesce(sessions[ended].connected_at > recently, false)))::bore.tunnel_meaning;
    END IF;
    IF newest > 0 AND anonymous AND report.remote_port IS NULL THEN
        RETURN ROW ('repeat', newest, 0, false)::bore.tunnel_meaning;
    END IF;
    IF ended > 0 THEN
        session := sessions[ended];
        -- A bore-server that validates would have done so before a new session on this port.
        IF session.closed_by = 'user' AND session.disconnects = 0
           AND (session.validated_at IS NOT NULL OR phase <> 'starting')
           OR (session.validated_at IS NOT NULL OR session.closed_by = 'proof') AND session.connected_at > recently THEN
            RETURN ROW ('late', ended, 0, false)::bore.tunnel_meaning;
        END IF;
    END IF;
    IF newest > 0 AND anonymous AND sessions[newest].doubtful_port AND sessions[newest].connected_at > recently
       AND known <> 'before' THEN
        RETURN ROW ('rename', newest, unheard, false)::bore.tunnel_meaning;
    END IF;
    IF unheard > 0 AND (further > sessions[unheard].closed_at) IS NOT TRUE THEN
        RETURN ROW ('late', unheard, 0, false)::bore.tunnel_meaning;
    END IF;
    RETURN ROW ('open', 0, 0, false)::bore.tunnel_meaning;
END $$;

CREATE FUNCTION bore.disconnected_means(report bore.tunnel_report, sessions bore.tunnel_sessions[], phase text,
                                        now timestamptz) RETURNS bore.tunnel_meaning
    LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    recently  timestamptz := now - bore.report_window();
    anonymous boolean := report.external_id IS NULL AND report.sequence IS NULL;
    session   bore.tunnel_sessions;
    opened    integer := 0; -- the oldest open one
    pending   integer := 0; -- the oldest
    owed      integer := 0; -- the oldest that ended otherwise a moment ago: its report is to come
    recent    integer := 0; -- the newest that a report ended a moment ago
    last      integer := 0; -- the newest that ended
    rivals    integer := 0; -- sessions of which any could have ended now
BEGIN
    FOR place IN 1 .. coalesce(cardinality(sessions), 0) LOOP
        session := sessions[place];
        IF bore.report_names(report, session) THEN
            RETURN ROW (CASE session.state WHEN 'open' THEN 'close' ELSE 'repeat' END, place, 0,
                        false)::bore.tunnel_meaning;
        END IF;
        IF session.live OR session.closed_at > recently OR session.disconnect_at > recently
           OR session.doubtful_until IS NOT NULL OR session.closed_by = 'user' AND session.disconnects < 3 THEN
            rivals := rivals + 1;
        END IF;
        IF NOT session.live THEN
            last := place;
        END IF;
        IF session.state = 'pending' THEN
            pending := CASE pending WHEN 0 THEN place ELSE pending END;
        ELSIF NOT bore.report_fits(report, session) THEN
            CONTINUE;
        ELSIF session.state = 'open' THEN
            -- Who names sessions does not mean one that bears another name.
            IF opened = 0 THEN
                opened := place;
            END IF;
        ELSIF session.closed_at > recently THEN
            IF session.closed_by = 'report' THEN
                recent := place;
            ELSIF owed = 0 AND session.disconnects = 0 THEN
                owed := place;
            END IF;
        END IF;
    END LOOP;
    IF anonymous AND owed > 0 THEN
        RETURN ROW ('repeat', owed, 0, false)::bore.tunnel_meaning;
    ELSIF opened > 0 THEN
        RETURN ROW ('close', opened, 0,
                    anonymous AND (rivals > 1 OR sessions[opened].attempts > 1))::bore.tunnel_meaning;
    ELSIF anonymous AND recent > 0 AND sessions[recent].disconnects < 3 THEN
        RETURN ROW ('repeat', recent, 0, false)::bore.tunnel_meaning;
    ELSIF pending > 0 THEN
        RETURN ROW ('close', pending, 0,
                    anonymous AND (rivals > 1 OR sessions[pending].attempts > 1))::bore.tunnel_meaning;
    ELSIF NOT anonymous THEN
        RETURN ROW ('unknown', 0, 0, false)::bore.tunnel_meaning;
    ELSIF phase = 'connected' THEN
        RETURN ROW ('gone', 0, 0, false)::bore.tunnel_meaning;
    END IF;
    RETURN ROW ('repeat', last, 0, false)::bore.tunnel_meaning;
END $$;

-- ---- what follows ---------------------------------------------------------------------------------------------------

CREATE FUNCTION bore.host_and_port(host text, port integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE WHEN host LIKE '%:%' AND host NOT LIKE '[%' THEN '[' || host || ']' ELSE host END || ':' || port;
END $$;

-- Whether the server that tunnel/start names can be the session's: it is, or it is not one that registered under that
-- name, or the session's is unknown.
CREATE FUNCTION bore.same_server(named text, known text) RETURNS boolean
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN known IS NULL OR named = known OR NOT EXISTS (SELECT 1 FROM bore.servers WHERE id = named);
END $$;

CREATE FUNCTION bore.tunnel_notice(kind text, session bore.tunnel_sessions, at timestamptz) RETURNS bore.new_event
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN ROW (kind, session.user_id, session.instance_id,
                jsonb_build_object('session_id', session.id, 'remote_port', session.remote_port,
                                   'public_url', session.public_url, 'server_id', session.server_id,
                                   'reason', session.close_reason), at)::bore.new_event;
END $$;

-- The instance as it is now is a step of its history.
CREATE FUNCTION bore.tunnel_step(INOUT state bore.tunnel_state, kind text, place integer, now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    session bore.tunnel_sessions := state.sessions[place];
BEGIN
    state.steps := state.steps || ROW (state.instance, CASE session.closed_by WHEN 'lease' THEN 'monitor' ELSE 'server' END,
                                       session.server_id, bore.tunnel_notice(kind, session, now))::bore.step;
END $$;

-- The open session that decides the phase shows its address on the instance.
CREATE FUNCTION bore.with_session(INOUT instance bore.instances, session bore.tunnel_sessions)
    LANGUAGE plpgsql AS $$
BEGIN
    instance.current_session := session.id;
    instance.remote_port := session.remote_port;
    instance.public_url := session.public_url;
END $$;

-- The tunnel that the instance waited for is there.
CREATE FUNCTION bore.with_tunnel(INOUT instance bore.instances, session bore.tunnel_sessions, now timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    instance := bore.with_session(bore.with_phase(instance, 'connected', 'tunnel connected', now), session);
    instance.server_reported := true;
END $$;

-- A session ends. The status changes only if it was the current one and no other is open, or if it never opened, while
-- an earlier one still is. Its token is revoked unless a session that lives uses the same one.
CREATE FUNCTION bore.tunnel_close(INOUT state bore.tunnel_state, place integer, how text, why text, now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    -- Whole records: to change a field of a field copies all of it.
    own     bore.instances := state.instance;
    session bore.tunnel_sessions := state.sessions[place];
    was     text := session.state;
    other   bore.tunnel_sessions;
    next    bore.tunnel_sessions;
    is_used boolean := false;
BEGIN
    session.state := CASE was WHEN 'open' THEN 'closed' ELSE 'cancelled' END;
    session.closed_at := now;
    session.live := false;
    session.closed_by := how;
    session.close_reason := why;
    state.sessions[place] := session;
    state.changed := state.changed || session.id;
    FOR i IN 1 .. cardinality(state.sessions) LOOP
        other := state.sessions[i];
        CONTINUE WHEN NOT other.live;
        IF other.state = 'open' THEN
            next := other;
        END IF;
        is_used := is_used OR coalesce(other.token_hash = session.token_hash, false);
    END LOOP;
    IF session.token_hash IS NOT NULL AND NOT is_used THEN
        state.revoked := state.revoked || session.token_hash;
    END IF;
    own.server_reported := true;
    IF own.current_session = session.id AND next.id IS NOT NULL THEN
        own := bore.with_session(own, next);
    ELSIF was = 'pending' AND next.id IS NOT NULL AND own.phase IN ('starting', 'failed') THEN
        own := bore.with_phase(own, 'connected', 'tunnel connected: a newer one did not last', now);
        own := bore.with_session(own, next);
    ELSIF own.current_session = session.id
          OR was = 'pending' AND next.id IS NULL AND own.phase IN ('starting', 'failed', 'connected') THEN
        own := bore.with_phase(own, 'disconnected', concat_ws(': ', 'tunnel disconnected', nullif(why, '')), now);
    END IF;
    state.instance := own;
    state := bore.tunnel_step(state, CASE was WHEN 'open' THEN 'tunnel.disconnected' END, place, now);
END $$;

-- The tunnel/start, and even the tunnel/end, of a session may have come before its port was known; copies of the former
-- may have made several usage sessions, of which only one is ever ended.
CREATE FUNCTION bore.tunnel_join(INOUT state bore.tunnel_state, place integer, now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    start bore.usage_sessions;
    ended boolean := false;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(state.starts), 0) LOOP
        start := state.starts[i];
        CONTINUE WHEN start.tunnel_session IS NOT NULL OR start.public_port <> state.sessions[place].remote_port
            OR NOT bore.same_server(start.server_id, state.sessions[place].server_id);
        state.starts[i].tunnel_session := state.sessions[place].id;
        ended := ended OR start.ended_at IS NOT NULL;
    END LOOP;
    IF ended AND state.sessions[place].state = 'open' THEN
        state := bore.tunnel_close(state, place, 'proof', 'tunnel ended', now);
    END IF;
END $$;

-- One more session, announced by `connected`: two attempts were taken for one, or validate-key was never asked. Then its
-- token is the one issued last.
CREATE FUNCTION bore.tunnel_add(INOUT state bore.tunnel_state, now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    session bore.tunnel_sessions;
BEGIN
    session.id := bore.new_id('ts');
    session.instance_id := (state.instance).id;
    session.user_id := (state.instance).user_id;
    session.created_at := now;
    session.live := true;
    session.disconnects := 0;
    session.attempts := 1;
    session.server_id := (state.instance).assigned_server;
    FOR i IN 1 .. coalesce(cardinality(state.sessions), 0) LOOP
        IF state.sessions[i].attempts > 1 AND session.validated_at IS NULL THEN
            session.validated_at := state.sessions[i].validated_at;
            session.token_hash := state.sessions[i].token_hash;
            state.sessions[i].attempts := state.sessions[i].attempts - 1;
            state.changed := state.changed || state.sessions[i].id;
        END IF;
    END LOOP;
    IF session.validated_at IS NULL THEN
        session.token_hash := (SELECT token_hash FROM bore.tunnel_tokens
                               WHERE instance_id = (state.instance).id AND revoked_at IS NULL AND expires_at > now
                               ORDER BY created_at DESC LIMIT 1);
    END IF;
    state.sessions := state.sessions || session;
END $$;

-- Where a tunnel is to be found: where its report says, or on that port of the bore-server.
CREATE FUNCTION bore.tunnel_address(instance bore.instances, public_url text, port integer, default_host text)
    RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN coalesce(public_url, bore.host_and_port(
        coalesce(instance.server_host, instance.pinned_host, default_host), port));

-- A session is open, and is the current one unless a bore-server numbered a later one. Without a place it is a new one.
CREATE FUNCTION bore.tunnel_open(INOUT state bore.tunnel_state, place integer, report bore.tunnel_report,
                                 doubtful boolean, now timestamptz, default_host text)
    LANGUAGE plpgsql AS $$
DECLARE
    own     bore.instances := state.instance;
    session bore.tunnel_sessions;
    other   bore.tunnel_sessions;
    opened  boolean := false;
    later   boolean := false;
BEGIN
    IF place = 0 THEN
        state := bore.tunnel_add(state, now);
        place := cardinality(state.sessions);
    END IF;
    session := state.sessions[place];
    session.state := 'open';
    session.connected_at := now;
    session.external_id := coalesce(report.external_id, session.external_id);
    session.sequence := coalesce(report.sequence, session.sequence);
    session.server_id := coalesce(report.server_id, session.server_id);
    session.remote_port := report.remote_port;
    session.public_url := bore.tunnel_address(own, report.public_url, report.remote_port, default_host);
    session.doubtful_port := doubtful;
    session.doubtful_until := CASE WHEN doubtful THEN now + bore.report_window() END;
    state.sessions[place] := session;
    state.changed := state.changed || session.id;
    FOR i IN 1 .. cardinality(state.sessions) LOOP
        other := state.sessions[i];
        CONTINUE WHEN i = place OR other.state <> 'open';
        opened := true;
        later := later OR coalesce(other.sequence > session.sequence, false);
    END LOOP;
    own.server_reported := true;
    IF NOT later THEN
        IF opened OR own.phase NOT IN ('starting', 'failed', 'connected') THEN
            own := bore.forget_heartbeats(own);
        END IF;
        IF own.phase <> 'connected' THEN
            own := bore.with_phase(own, 'connected', 'tunnel connected', now);
        END IF;
        own := bore.with_session(own, session);
    END IF;
    state.instance := own;
    state := bore.tunnel_join(bore.tunnel_step(state, 'tunnel.connected', place, now), place, now);
END $$;

-- What is known of a session grows: names, and of one that ended unheard its port.
CREATE FUNCTION bore.tunnel_learn(INOUT state bore.tunnel_state, place integer, report bore.tunnel_report,
                                  now timestamptz, default_host text)
    LANGUAGE plpgsql AS $$
DECLARE
    session bore.tunnel_sessions := state.sessions[place];
    known   bore.tunnel_sessions := session;
BEGIN
    session.external_id := coalesce(session.external_id, report.external_id);
    session.sequence := coalesce(session.sequence, report.sequence);
    session.connected_at := coalesce(session.connected_at, now);
    session.remote_port := coalesce(session.remote_port, report.remote_port);
    session.public_url := coalesce(session.public_url, bore.tunnel_address(state.instance, report.public_url,
                                                                           report.remote_port, default_host));
    IF session IS DISTINCT FROM known THEN
        state.sessions[place] := session;
        state.changed := state.changed || session.id;
        state := bore.tunnel_join(state, place, now);
    END IF;
END $$;

-- A session with a doubtful port: the port was that of one that ended unheard (`other`, 0: unknown), and so is what
-- tunnel/start and tunnel/end told of it.
CREATE FUNCTION bore.tunnel_return_port(INOUT state bore.tunnel_state, place integer, other integer, now timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bore.usage_sessions SET tunnel_session = CASE WHEN other > 0 THEN state.sessions[other].id END
    WHERE tunnel_session = state.sessions[place].id AND public_port = state.sessions[place].remote_port;
    IF other > 0 THEN
        state.sessions[other].remote_port := state.sessions[place].remote_port;
        state.sessions[other].connected_at := state.sessions[place].connected_at;
        state.changed := state.changed || state.sessions[other].id;
    END IF;
    state.sessions[place].remote_port := NULL;
    state.sessions[place].public_url := NULL;
    state.sessions[place].doubtful_port := false;
    state.sessions[place].doubtful_until := NULL;
    state.changed := state.changed || state.sessions[place].id;
END $$;

-- It was never open: the report that opened it was a late copy of another one's. It is pending again.
CREATE FUNCTION bore.tunnel_unopen(INOUT state bore.tunnel_state, place integer, now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    unheard integer := 0;
    next    integer := 0;
BEGIN
    FOR i IN 1 .. cardinality(state.sessions) LOOP
        IF state.sessions[i].state = 'cancelled' AND state.sessions[i].connected_at IS NULL AND unheard = 0 THEN
            unheard := i;
        ELSIF state.sessions[i].state = 'open' AND i <> place THEN
            next := i;
        END IF;
    END LOOP;
    state := bore.tunnel_step(state, 'tunnel.disconnected', place, now);
    state := bore.tunnel_return_port(state, place, unheard, now);
    state.sessions[place].state := 'pending';
    state.sessions[place].connected_at := NULL;
    IF (state.instance).current_session = state.sessions[place].id THEN
        IF next > 0 THEN
            state.instance := bore.with_session(state.instance, state.sessions[next]);
        ELSE
            state.instance := bore.with_phase(state.instance, 'starting', 'waiting for the tunnel', now);
        END IF;
        state := bore.tunnel_step(state, NULL, place, now);
    END IF;
END $$;

CREATE FUNCTION bore.hear_connected(INOUT state bore.tunnel_state, report bore.tunnel_report, now timestamptz,
                                    default_host text)
    LANGUAGE plpgsql AS $$
DECLARE
    meaning bore.tunnel_meaning :=
        bore.connected_means(report, state.sessions, state.starts, (state.instance).phase, now);
    excess  integer := 0;
    opened  integer := 0;
BEGIN
    IF meaning.action IN ('repeat', 'late') THEN
        state := bore.tunnel_learn(state, meaning.place, report, now, default_host);
    ELSIF meaning.action = 'rename' THEN
        state := bore.tunnel_return_port(state, meaning.place, meaning.other, now);
        state := bore.tunnel_open(state, meaning.place, report, false, now, default_host);
    ELSE
        IF meaning.other > 0 THEN
            state := bore.tunnel_close(state, meaning.other, 'replaced', 'its port serves a newer tunnel', now);
        END IF;
        state := bore.tunnel_open(state, meaning.place, report, meaning.doubtful, now, default_host);
        -- No client has so many tunnels of one instance: the reports of their ends are lost.
        FOR i IN 1 .. CASE WHEN cardinality(state.sessions) > 6 THEN cardinality(state.sessions) ELSE 0 END LOOP
            IF state.sessions[i].state = 'open' THEN
                opened := opened + 1;
                excess := CASE excess WHEN 0 THEN i ELSE excess END;
            END IF;
        END LOOP;
        IF opened > 6 THEN
            state := bore.tunnel_close(state, excess, 'replaced', 'newer tunnels took its place', now);
        END IF;
    END IF;
END $$;

CREATE FUNCTION bore.hear_disconnected(INOUT state bore.tunnel_state, report bore.tunnel_report, now timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    meaning bore.tunnel_meaning := bore.disconnected_means(report, state.sessions, (state.instance).phase, now);
    session bore.tunnel_sessions;
BEGIN
    IF meaning.action = 'unknown' THEN
        -- Its `connected` is still to come, and must change nothing.
        session.id := bore.new_id('ts');
        session.instance_id := (state.instance).id;
        session.user_id := (state.instance).user_id;
        session.state := 'cancelled';
        session.created_at := now;
        session.closed_at := now;
        session.live := false;
        session.closed_by := 'report';
        session.close_reason := report.reason;
        session.disconnects := 0;
        session.attempts := 1;
        session.doubtful_port := false;
        state.sessions := state.sessions || session;
        meaning.place := cardinality(state.sessions);
    ELSIF meaning.action = 'gone' THEN
        state.instance.server_reported := true;
        state.instance := bore.with_phase(state.instance, 'disconnected',
                                          concat_ws(': ', 'tunnel disconnected', nullif(report.reason, '')), now);
        state.steps := state.steps || ROW (state.instance, 'server', report.server_id, NULL)::bore.step;
    ELSIF meaning.action = 'close' THEN
        state := bore.tunnel_close(state, meaning.place, 'report', coalesce(report.reason, ''), now);
        IF meaning.doubtful THEN
            state.sessions[meaning.place].doubtful_until := now + bore.report_window();
        END IF;
    END IF;
    session := state.sessions[meaning.place];
    IF session.disconnects < 3 THEN
        session.disconnects := session.disconnects + 1;
        session.disconnect_at := now;
        session.external_id := coalesce(session.external_id, report.external_id);
        session.sequence := coalesce(session.sequence, report.sequence);
        state.sessions[meaning.place] := session;
        state.changed := state.changed || session.id;
    END IF;
END $$;

-- The proof: tunnel/end, for the session that its tunnel/start was joined to. When that came before the session was
-- validated, it was another one's.
CREATE FUNCTION bore.hear_ended(INOUT state bore.tunnel_state, report bore.tunnel_report, now timestamptz)
    LANGUAGE plpgsql AS $$
BEGIN
    FOR place IN 1 .. coalesce(cardinality(state.sessions), 0) LOOP
        CONTINUE WHEN state.sessions[place].id <> report.session_id;
        IF state.sessions[place].state = 'open' AND state.sessions[place].doubtful_port AND EXISTS (
            SELECT 1 FROM bore.usage_sessions
            WHERE tunnel_session = report.session_id AND ended_at IS NOT NULL
              AND started_at < state.sessions[place].created_at) THEN
            state := bore.tunnel_unopen(state, place, now);
        ELSIF state.sessions[place].state = 'open' THEN
            state := bore.tunnel_close(state, place, 'proof', 'tunnel ended', now);
        ELSIF state.sessions[place].closed_by = 'report' THEN
            -- Its own `disconnected` may be still to come.
            state.sessions[place].closed_at := now;
            state.sessions[place].doubtful_until := NULL;
            state.changed := state.changed || report.session_id;
        END IF;
    END LOOP;
END $$;
