-- 010_auth_sessions.sql: where users are signed in: sessions, refresh tokens, and how they end everywhere.
--
-- Of all functions of auth (010 to 012): locks are taken in this order: users by id, sessions by id, throttle rows by
-- key, the event log's lock last. A function that answers a column `outcome` or `retry_after` commits what it counted
-- or revoked although it refuses; the others refuse by raising.

-- ---- helpers --------------------------------------------------------------------------------------------------------

CREATE FUNCTION bore.text_hash(given text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN encode(sha256(convert_to(given, 'UTF8')), 'hex');

-- Who an address belongs to, for counting: IPv4 as it is (mapped into IPv6, too), of IPv6 the /64 that one customer
-- has.
CREATE FUNCTION bore.address_key(given text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    parsed inet;
BEGIN
    IF given ~* '^::ffff:[0-9.]+$' THEN
        RETURN substr(given, 8);
    END IF;
    parsed := given::inet;
    RETURN CASE family(parsed) WHEN 6 THEN host(network(set_masklen(parsed, 64))) ELSE host(parsed) END;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN left(given, 64);
END $$;

CREATE FUNCTION bore.audit_add(actor text, what text, whom text, whence text, more text DEFAULT NULL) RETURNS void
    LANGUAGE sql VOLATILE AS $$
    INSERT INTO bore.audit (actor_id, actor_email, action, target, address, details)
    VALUES (actor, (SELECT email FROM bore.users WHERE id = actor), what, whom, whence, more);
$$;

-- Locks these users against every change, in the order that all functions keep.
CREATE FUNCTION bore.lock_users(VARIADIC ids text[]) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM bore.users WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
END $$;

-- Where a page of a list newest first goes on: "<microseconds>.<id>". Refuses anything else.
CREATE FUNCTION bore.page_at(given text, OUT at timestamptz, OUT id text)
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF given IS NULL THEN
        at := 'infinity';
        id := '';
    ELSIF given ~ '^[0-9]{1,17}\.[A-Za-z0-9_-]{1,64}$' THEN
        at := timestamptz 'epoch' + split_part(given, '.', 1)::bigint * interval '1 microsecond';
        id := split_part(given, '.', 2);
    ELSE
        PERFORM bore.refuse('validation_error', 'is not a cursor of this list', 'cursor');
    END IF;
END $$;

CREATE FUNCTION bore.page_mark(at timestamptz, id text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    RETURN (extract(epoch FROM at) * 1000000)::bigint || '.' || id;

-- ---- revocation -----------------------------------------------------------------------------------------------------

CREATE TYPE bore.revocation AS (session_id text, user_id text, expires_at timestamptz);

-- Ends those of the sessions that are not ended yet; answers what bore.announce must tell. The margin of five minutes
-- covers clocks that disagree and a token that is issued just now.
CREATE FUNCTION bore.revoke_sessions(ids text[]) RETURNS bore.revocation[]
    LANGUAGE sql VOLATILE AS $$
    WITH mine AS (
        SELECT id FROM bore.sessions WHERE id = ANY (ids) AND revoked_at IS NULL ORDER BY id FOR UPDATE),
    ended AS (
        UPDATE bore.sessions SET revoked_at = clock_timestamp() FROM mine WHERE sessions.id = mine.id
        RETURNING sessions.id, sessions.user_id, sessions.token_expires_at)
    SELECT array_agg(ROW (id, user_id, token_expires_at + interval '5 minutes')::bore.revocation ORDER BY id)
    FROM ended;
$$;

CREATE FUNCTION bore.revoke_user_sessions(account text, but text DEFAULT NULL) RETURNS bore.revocation[]
    LANGUAGE sql VOLATILE
    RETURN bore.revoke_sessions(ARRAY (SELECT id FROM bore.sessions
                                       WHERE user_id = account AND revoked_at IS NULL AND id IS DISTINCT FROM but));

-- Appends the events, and one `user.revoked` for each 1000 revoked sessions of a user. The last call of a transaction.
CREATE FUNCTION bore.announce(entries bore.new_event[], revoked bore.revocation[], why text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    notices bore.new_event[];
    answer  text;
    before  bigint;
BEGIN
    SELECT array_agg(ROW ('user.revoked', notice.user_id, NULL,
                          jsonb_build_object('session_ids', notice.ids, 'reason', why), NULL)::bore.new_event
                     ORDER BY notice.user_id, notice.part)
    INTO notices
    FROM (SELECT user_id, part, jsonb_agg(session_id ORDER BY session_id) AS ids
          FROM (SELECT user_id, session_id,
                       (row_number() OVER (PARTITION BY user_id ORDER BY session_id) - 1) / 1000 AS part
                FROM unnest(revoked)) AS numbered
          GROUP BY user_id, part) AS notice;
    answer := bore.append_events(entries || notices);
    IF notices IS NULL THEN
        RETURN answer;
    END IF;
    SELECT max(id) - cardinality(notices) INTO before FROM bore.events;
    INSERT INTO bore.revoked_sessions (session_id, user_id, expires_at, event_id)
    SELECT session_id, user_id, expires_at, before + dense_rank() OVER (ORDER BY user_id, part)
    FROM (SELECT *, (row_number() OVER (PARTITION BY user_id ORDER BY session_id) - 1) / 1000 AS part
          FROM unnest(revoked)) AS numbered
    ON CONFLICT (session_id) DO UPDATE SET event_id = excluded.event_id;
    RETURN answer;
END $$;

-- A cursor of REVOCATIONS carries 19 bits of the log's epoch above the 44 bits of an event id, so that one from before
-- a restore is recognised.
CREATE FUNCTION bore.revocation_base() RETURNS bigint
    LANGUAGE sql STABLE
    RETURN (SELECT (('x' || left(md5(epoch), 8))::bit(32)::bigint >> 13) << 44 FROM bore.event_epoch);

-- Sessions revoked since a cursor, in whole events, in the order in which they were committed; with a cursor that is 0,
-- of another epoch or beyond the head, all whose tokens could still be valid. STABLE, so the head belongs to the same
-- snapshot.
CREATE FUNCTION bore.revocations_since(since bigint, page integer, OUT next bigint, OUT more boolean,
                                       OUT session_ids text[])
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    base  bigint := bore.revocation_base();
    head  bigint := (SELECT coalesce(max(id), 0) FROM bore.events);
    after bigint := CASE WHEN since BETWEEN base AND base + head THEN since - base ELSE 0 END;
    ids   bigint[];
BEGIN
    SELECT array_agg(found.session_id ORDER BY found.event_id), array_agg(found.event_id ORDER BY found.event_id)
    INTO session_ids, ids
    FROM (SELECT session_id, event_id FROM bore.revoked_sessions
          WHERE event_id > after AND expires_at > now() ORDER BY event_id LIMIT page + 1) AS found;
    session_ids := coalesce(session_ids, '{}');
    more := coalesce(cardinality(ids) > page, false);
    next := base + head;
    IF more THEN
        -- The last event may be incomplete here; the next page begins with it.
        page := array_position(ids, ids[page + 1]) - 1;
        session_ids := session_ids[: page];
        next := base + ids[page];
    END IF;
END $$;

-- ---- opening --------------------------------------------------------------------------------------------------------

-- Who signed in and with what; `outcome` is 'signed_in', or, by signup_finish, why there is nothing else.
CREATE TYPE bore.signed_in AS (
    outcome text, session_id text, id text, email text, name text, plan text, plan_expires bigint, is_admin boolean,
    refresh_token_expires_at bigint, events text);

-- A new session of a locked user with its first refresh token. Of more than `most` sessions those used least recently
-- end.
CREATE FUNCTION bore.session_open(owner bore.users, refresh_hash text, refresh_ttl_ms bigint, token_ttl_ms bigint,
                                  most integer, address text, user_agent text) RETURNS bore.signed_in
    LANGUAGE plpgsql AS $$
DECLARE
    opened  bore.sessions;
    excess  text[];
    answer  bore.signed_in;
BEGIN
    INSERT INTO bore.sessions (id, user_id, expires_at, token_expires_at, address, user_agent)
    VALUES (bore.new_id('sess'), owner.id, clock_timestamp() + bore.duration(refresh_ttl_ms),
            clock_timestamp() + bore.duration(token_ttl_ms), address, user_agent)
    RETURNING * INTO opened;
    INSERT INTO bore.refresh_tokens (token_hash, session_id, expires_at)
    VALUES (refresh_hash, opened.id, opened.expires_at);
    excess := ARRAY (SELECT id FROM bore.sessions
                     WHERE user_id = owner.id AND revoked_at IS NULL AND id <> opened.id
                     ORDER BY last_used_at DESC, id OFFSET most - 1);
    answer := ROW ('signed_in', opened.id, owner.id, owner.email, owner.name, owner.plan, bore.ms(owner.plan_expires),
                   owner.is_admin, bore.ms(opened.expires_at), NULL);
    answer.events := bore.announce(NULL, bore.revoke_sessions(excess), 'too many sessions');
    RETURN answer;
END $$;

-- ---- refresh and the ends of sessions -------------------------------------------------------------------------------

-- Rotates a refresh token. outcome: 'rotated'; 'reused' (the family has been revoked); 'limited' (600 in 15 minutes).
-- No row: unknown, expired, or its session is over. Within 10 s of its first use a token gives one more pair, because
-- the answer to the first may have been lost.
CREATE FUNCTION bore.session_refresh(old_hash text, new_hash text, refresh_ttl_ms bigint, token_ttl_ms bigint,
                                     given_address text, given_agent text)
    RETURNS TABLE (outcome text, session_id text, user_id text, email text, is_admin boolean,
                   refresh_token_expires_at bigint, events text)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    family bore.sessions;
    token  bore.refresh_tokens;
    owner  bore.users;
    now    timestamptz;
BEGIN
    SELECT sessions.* INTO family FROM bore.sessions
    WHERE id = (SELECT session_id FROM bore.refresh_tokens WHERE token_hash = old_hash) FOR UPDATE;
    now := clock_timestamp();
    SELECT * INTO token FROM bore.refresh_tokens WHERE token_hash = old_hash AND expires_at > now;
    SELECT * INTO owner FROM bore.users WHERE id = family.user_id AND NOT disabled;
    IF token IS NULL OR owner.id IS NULL OR family.revoked_at IS NOT NULL THEN
        RETURN;
    END IF;
    IF token.used_at < now - interval '10 seconds' THEN
        PERFORM bore.audit_add(owner.id, 'token.reused', family.id, given_address);
        RETURN QUERY SELECT 'reused', family.id, owner.id, owner.email, owner.is_admin, NULL::bigint,
            bore.announce(NULL, bore.revoke_sessions(ARRAY [family.id]), 'a refresh token was used twice');
        RETURN;
    END IF;
    IF (SELECT count(*) FROM (SELECT 1 FROM bore.refresh_tokens
                              WHERE session_id = family.id AND created_at > now - bore.throttle_window()
                              LIMIT 600) AS recent) = 600 THEN
        RETURN QUERY SELECT 'limited', family.id, owner.id, owner.email, owner.is_admin, NULL::bigint, NULL;
        RETURN;
    END IF;
    UPDATE bore.refresh_tokens SET used_at = now WHERE token_hash = old_hash AND used_at IS NULL;
    INSERT INTO bore.refresh_tokens (token_hash, session_id, expires_at)
    VALUES (new_hash, family.id, now + bore.duration(refresh_ttl_ms));
    UPDATE bore.sessions SET last_used_at = now, expires_at = now + bore.duration(refresh_ttl_ms),
        token_expires_at = greatest(token_expires_at, now + bore.duration(token_ttl_ms)),
        address = given_address, user_agent = coalesce(given_agent, user_agent)
    WHERE id = family.id;
    RETURN QUERY SELECT 'rotated', family.id, owner.id, owner.email, owner.is_admin,
        bore.ms(now + bore.duration(refresh_ttl_ms)), NULL;
END $$;

-- Ends the session of the caller's token and, when it is the caller's, that of the refresh token.
CREATE FUNCTION bore.logout(account text, token_session text, refresh_hash text, address text,
                            OUT success boolean, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    revoked bore.revocation[];
BEGIN
    revoked := bore.revoke_sessions(ARRAY (
        SELECT id FROM bore.sessions
        WHERE user_id = account
          AND id IN (token_session, (SELECT session_id FROM bore.refresh_tokens WHERE token_hash = refresh_hash))));
    IF cardinality(revoked) > 0 THEN
        PERFORM bore.audit_add(account, 'logout', account, address);
    END IF;
    success := true;
    events := bore.announce(NULL, revoked, 'signed out');
END $$;

CREATE FUNCTION bore.logout_all(account text, address text, OUT success boolean, OUT events text)
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bore.lock_users(account);
    PERFORM bore.audit_add(account, 'logout.all', account, address);
    success := true;
    events := bore.announce(NULL, bore.revoke_user_sessions(account), 'signed out everywhere');
END $$;

CREATE FUNCTION bore.session_delete(account text, ended text, address text, OUT success boolean, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    revoked bore.revocation[];
BEGIN
    revoked := bore.revoke_sessions(ARRAY (SELECT id FROM bore.sessions WHERE id = ended AND user_id = account));
    IF revoked IS NULL THEN
        PERFORM bore.refuse('not_found', 'There is no such session.');
    END IF;
    PERFORM bore.audit_add(account, 'session.ended', ended, address);
    success := true;
    events := bore.announce(NULL, revoked, 'the session was ended');
END $$;

-- Where the user is signed in, newest first.
CREATE FUNCTION bore.session_list(account text, token_session text, most integer, mark text)
    RETURNS TABLE (id text, created_at bigint, last_used_at bigint, expires_at bigint, address text, user_agent text,
                   current boolean, next_cursor text)
    LANGUAGE sql STABLE AS $$
    WITH page AS (
        SELECT sessions.*, row_number() OVER (ORDER BY sessions.created_at DESC, sessions.id DESC) AS position
        FROM bore.sessions, bore.page_at(mark) AS after
        WHERE sessions.user_id = account AND sessions.revoked_at IS NULL
          AND greatest(sessions.expires_at, sessions.token_expires_at) > clock_timestamp()
          AND (sessions.created_at, sessions.id) < (after.at, after.id)
        ORDER BY sessions.created_at DESC, sessions.id DESC LIMIT most + 1)
    SELECT page.id, bore.ms(page.created_at), bore.ms(page.last_used_at),
           bore.ms(greatest(page.expires_at, page.token_expires_at)), page.address, page.user_agent,
           page.id = token_session,
           (SELECT bore.page_mark(last.created_at, last.id) FROM page AS last
            WHERE last.position = most AND EXISTS (SELECT 1 FROM page AS further WHERE further.position > most))
    FROM page WHERE page.position <= most ORDER BY page.position;
$$;
