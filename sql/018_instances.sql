-- 018_instances.sql: instances as their users make, list and rename them; their history and sessions.
--
-- Locks as in 020: the user's row, then the instance's, the event log's last. Somebody else's instance is none at all.
-- Lists go newest first, and on from a mark (bore.page_at); a list without a mark and one that is empty are no errors.

-- ---- helpers --------------------------------------------------------------------------------------------------------

-- Refuses what can be no host's name or address. NULL passes.
CREATE FUNCTION bore.require_host(given text, field text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF given !~ '^[][A-Za-z0-9._:-]{1,255}$' THEN
        PERFORM bore.refuse('validation_error', 'is not the name or address of a host', field);
    END IF;
END $$;

-- Refuses a name that nobody could read. NULL passes.
CREATE FUNCTION bore.require_name(given text, field text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF given ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        PERFORM bore.refuse('validation_error', 'must not contain control characters', field);
    ELSIF given ~ '^[ \u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f\u2060\u3000\ufeff]*$' THEN
        PERFORM bore.refuse('validation_error', 'must not be blank', field);
    END IF;
END $$;

-- ---- the instance ---------------------------------------------------------------------------------------------------

-- Registers an instance. The same key of the same user within 24 hours answers what the first request made, as it is
-- now. Making them one at a time keeps a user's number of instances bounded: a list without a limit answers all.
CREATE FUNCTION bore.instance_create(account text, given_name text, given_port integer, given_region text,
                                     given_host text, idempotency_key text,
                                     OUT instance bore.instance_row, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    most    constant integer := 10000;
    region  text := coalesce(given_region, 'local');
    hash    text := bore.text_hash(jsonb_build_array(given_name, given_port, region, given_host)::text);
    earlier bore.idempotency;
    made    text;
    now     timestamptz;
BEGIN
    PERFORM bore.require_name(given_name, 'name');
    PERFORM bore.require_name(given_region, 'region');
    PERFORM bore.require_host(given_host, 'server_host');
    PERFORM 1 FROM bore.users WHERE id = account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM bore.refuse('unauthorized');
    END IF;
    now := bore.clock();
    SELECT * INTO earlier FROM bore.idempotency
    WHERE scope = 'instance:' || account AND key = idempotency_key AND created_at > now - interval '24 hours';
    IF FOUND THEN
        IF earlier.request_hash <> hash THEN
            PERFORM bore.refuse('idempotency_conflict');
        END IF;
        SELECT * INTO instance FROM bore.instance_row WHERE id = earlier.answer_id;
        IF NOT FOUND THEN
            PERFORM bore.refuse('conflict', 'The instance that this Idempotency-Key made has been deleted.');
        END IF;
        RETURN;
    END IF;
    IF (SELECT count(*) FROM bore.instances WHERE user_id = account) >= most THEN
        PERFORM bore.refuse('conflict', format('An account has at most %s instances; delete some first.', most));
    END IF;
    INSERT INTO bore.instances (id, user_id, name, local_port, region, pinned_host, server_host, created_at, updated_at,
                                phase_since, status_since)
    VALUES (bore.new_id('inst'), account, given_name, given_port, region, given_host, given_host, now, now, now, now)
    RETURNING id INTO made;
    INSERT INTO bore.status_history (instance_id, status, reason, at)
    SELECT id, status, status_reason, status_since FROM bore.instances WHERE id = made;
    INSERT INTO bore.idempotency (scope, key, request_hash, answer_id, created_at)
    SELECT 'instance:' || account, idempotency_key, hash, made, now WHERE idempotency_key <> ''
    ON CONFLICT (scope, key) DO UPDATE
        SET request_hash = excluded.request_hash, answer_id = excluded.answer_id, created_at = excluded.created_at;
    SELECT * INTO instance FROM bore.instance_row WHERE id = made;
    events := bore.append_events(ARRAY [ROW ('instance.created', account, made,
        jsonb_build_object('name', instance.name, 'status', instance.status, 'reason', instance.status_reason),
        now)::bore.new_event]);
END $$;

-- A new name. The present one again changes nothing, and is not told.
CREATE FUNCTION bore.instance_rename(account text, wanted text, new_name text,
                                     OUT success boolean, OUT instance bore.instance_row, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    renamed boolean;
BEGIN
    PERFORM bore.require_name(new_name, 'name');
    PERFORM 1 FROM bore.instances WHERE id = wanted AND user_id = account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM bore.refuse('instance_not_found');
    END IF;
    UPDATE bore.instances SET name = new_name, updated_at = bore.clock() WHERE id = wanted AND name <> new_name;
    renamed := FOUND;
    SELECT * INTO instance FROM bore.instance_row WHERE id = wanted;
    success := true;
    IF renamed THEN
        events := bore.append_events(ARRAY [ROW ('instance.renamed', account, wanted,
            jsonb_build_object('name', instance.name, 'status', instance.status, 'reason', instance.status_reason),
            bore.clock())::bore.new_event]);
    END IF;
END $$;

-- A user's instances: all (most NULL), or a page of them. `cursor` is where the event log stands in this snapshot: all
-- events up to it are in what is answered, none behind it is. Hence one row at least, and no second statement. Should
-- the names and hosts alone come near to what a message may hold, the rest is another page.
CREATE FUNCTION bore.instance_list(account text, most integer, mark text)
    RETURNS TABLE (total bigint, cursor text, next_cursor text, instance bore.instance_row)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY WITH page AS (
        SELECT owned.id, owned.created_at, row_number() OVER newest AS place,
               sum(500 + octet_length(name) + octet_length(region) + coalesce(octet_length(server_host), 0)
                   + coalesce(octet_length(assigned_server), 0) + octet_length(status_reason)
                   + coalesce(octet_length(public_url), 0)) OVER newest AS bytes
        FROM bore.instances AS owned, bore.page_at(mark) AS after
        WHERE owned.user_id = account AND (owned.created_at, owned.id) < (after.at, after.id)
        WINDOW newest AS (ORDER BY owned.created_at DESC, owned.id DESC ROWS UNBOUNDED PRECEDING)
        ORDER BY owned.created_at DESC, owned.id DESC LIMIT coalesce(most, 10000) + 1),
    fitting AS (SELECT * FROM page WHERE place <= coalesce(most, 10000) AND bytes < 8000000)
    SELECT (SELECT count(*) FROM bore.instances WHERE user_id = account),
           (SELECT bore.event_cursor()),
           (SELECT bore.page_mark(last.created_at, last.id) FROM fitting AS last
            WHERE last.place = (SELECT max(place) FROM fitting)
              AND EXISTS (SELECT 1 FROM page AS further WHERE further.place > last.place)),
           seen
    FROM (SELECT 1) AS always LEFT JOIN (fitting JOIN bore.instance_row AS seen ON seen.id = fitting.id) ON true
    ORDER BY fitting.place;
END $$;

-- ---- history --------------------------------------------------------------------------------------------------------

-- The first stretch of status that reaches into the time since then begins here; NULL: there is none, or no `since`.
CREATE FUNCTION bore.history_since(instance text, since timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE
    RETURN (SELECT max(at) FROM bore.status_history WHERE instance_id = instance AND at <= since);

-- How reliable an instance was since then, or (NULL) over its whole history:
--   up                 active, online, degraded, idle: the tunnel was there
--   down               offline, error: it should have been there and was not
--   neither            inactive and starting: nobody expected it
--   uptime_percentage  up / (up + down), with three decimals; 100 when there was neither
--   total_downtime_ms  the time down
--   incident_count     how often it went down: offline that becomes error without an end in between is one incident
--   history_span_ms    the time looked at: from its first status, or since then, until now
-- The first stretch counts from `since`, the present one until now.
CREATE FUNCTION bore.uptime_data(instance text, since timestamptz, now timestamptz) RETURNS json
    LANGUAGE sql STABLE AS $$
    WITH stretch AS (
        SELECT greatest(at, since) AS begins, greatest(at, since, coalesce(lead(at) OVER oldest, now)) AS ends,
               status IN ('active', 'online', 'degraded', 'idle') AS up, status IN ('offline', 'error') AS down,
               lag(status) OVER oldest IN ('offline', 'error') AS was_down
        FROM bore.status_history
        WHERE instance_id = instance AND at >= coalesce(bore.history_since(instance, since), '-infinity')
        WINDOW oldest AS (ORDER BY at, id)),
    sums AS (
        SELECT coalesce(extract(epoch FROM sum(ends - begins) FILTER (WHERE up)), 0) AS up,
               coalesce(extract(epoch FROM sum(ends - begins) FILTER (WHERE down)), 0) AS down,
               count(*) FILTER (WHERE down AND was_down IS NOT TRUE) AS incidents,
               bore.ms(now) - bore.ms(min(begins)) AS span
        FROM stretch)
    SELECT json_build_object(
        'uptime_percentage', CASE WHEN up + down = 0 THEN 100 ELSE round(100 * up / (up + down), 3) END,
        'total_downtime_ms', floor(down * 1000)::bigint, 'incident_count', incidents,
        'history_span_ms', greatest(0, span))
    FROM sums;
$$;

-- An instance's statuses, with what is known of it now. With a window: those that reach into it, and the uptime in it.
CREATE FUNCTION bore.instance_history(account text, wanted text, most integer, mark text, time_window text)
    RETURNS TABLE (instance_id text, current_status text, status_reason text, health_metrics text,
                   last_heartbeat bigint, heartbeat_age_ms bigint, uptime_data text, next_cursor text,
                   id bigint, status text, reason text, "timestamp" bigint)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    now    timestamptz := bore.clock();
    own    bore.instances := bore.own_instance(account, wanted);
    after  record := bore.page_at(mark);
    since  timestamptz := now - CASE time_window WHEN '24h' THEN interval '24 hours' WHEN '7d' THEN interval '7 days'
                                                 WHEN '30d' THEN interval '30 days' END;
    begins timestamptz := coalesce(bore.history_since(wanted, since), '-infinity');
BEGIN
    IF time_window IS NOT NULL AND since IS NULL THEN
        PERFORM bore.refuse('validation_error', 'must be 24h, 7d or 30d', 'window');
    ELSIF after.id !~ '^[0-9]{0,18}$' THEN
        PERFORM bore.refuse('validation_error', 'is not a cursor of this list', 'cursor');
    END IF;
    RETURN QUERY
        WITH page AS (
            SELECT history.*, row_number() OVER (ORDER BY history.at DESC, history.id DESC) AS place
            FROM bore.status_history AS history
            WHERE history.instance_id = wanted
              AND (history.at, history.id) < (after.at, coalesce(nullif(after.id, '')::bigint, 0))
              AND history.at >= begins
            ORDER BY history.at DESC, history.id DESC LIMIT most + 1)
        SELECT wanted, own.status, own.status_reason,
               json_build_object('vscode_responsive', own.vscode_responsive, 'has_code_server', own.has_code_server,
                                 'cpu_usage', heard.cpu_usage, 'memory_usage', heard.memory_usage,
                                 'last_activity', heard.last_activity)::text,
               bore.ms(heard.at), bore.age_ms(heard.at),
               (SELECT bore.uptime_data(wanted, since, now)::text),
               (SELECT bore.page_mark(last.at, last.id::text) FROM page AS last
                WHERE last.place = most AND EXISTS (SELECT 1 FROM page AS further WHERE further.place > most)),
               page.id, page.status, page.reason, bore.ms(page.at)
        FROM (SELECT 1) AS always LEFT JOIN bore.heartbeats AS heard ON heard.instance_id = wanted
        LEFT JOIN page ON page.place <= most
        ORDER BY page.place;
END $$;

-- The stretches of all of a user's instances in the last hours, oldest first, as JSON; the present one has no end. An
-- answer has 50,000 stretches at most, 1,000 an instance: of an instance with more, the newest.
CREATE FUNCTION bore.status_strips(account text, span integer)
    RETURNS TABLE (hours integer, instance_id text, stretches text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    since timestamptz := bore.clock() - make_interval(hours => span);
    most  bigint := (SELECT least(1000, 50000 / greatest(count(*), 1)) FROM bore.instances WHERE user_id = account);
BEGIN
    RETURN QUERY
        SELECT span, owned.id,
               (SELECT json_agg(json_build_object('status', stretch.status,
                                                  'from', bore.ms(greatest(stretch.at, since)),
                                                  'to', bore.ms(stretch.until)) ORDER BY stretch.at, stretch.id)::text
                FROM (SELECT seen.*, lead(seen.at) OVER (ORDER BY seen.at, seen.id) AS until
                      FROM (SELECT * FROM (
                                (SELECT history.id, history.status, history.at FROM bore.status_history AS history
                                 WHERE history.instance_id = owned.id AND history.at > since
                                 ORDER BY history.at DESC, history.id DESC LIMIT most)
                                UNION ALL
                                (SELECT history.id, history.status, history.at FROM bore.status_history AS history
                                 WHERE history.instance_id = owned.id AND history.at <= since
                                 ORDER BY history.at DESC, history.id DESC LIMIT 1)) AS both_sides
                            ORDER BY at DESC, id DESC LIMIT most) AS seen) AS stretch)
        FROM (SELECT 1) AS always
        LEFT JOIN (SELECT * FROM bore.instances WHERE user_id = account
                   ORDER BY created_at DESC, id DESC LIMIT 10000) AS owned ON true
        ORDER BY owned.created_at DESC, owned.id DESC;
END $$;

-- ---- sessions ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION bore.tunnel_session_list(account text, wanted text, most integer, mark text)
    RETURNS TABLE (id text, state text, server_id text, remote_port integer, public_url text, created_at bigint,
                   connected_at bigint, closed_at bigint, close_reason text, bytes_in bigint, bytes_out bigint,
                   bytes_transferred bigint, next_cursor text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    after record := bore.page_at(mark);
BEGIN
    PERFORM bore.own_instance(account, wanted);
    RETURN QUERY
        WITH page AS (
            SELECT had.*, row_number() OVER (ORDER BY had.created_at DESC, had.id DESC) AS place
            FROM bore.tunnel_sessions AS had
            WHERE had.instance_id = wanted AND (had.created_at, had.id) < (after.at, after.id)
            ORDER BY had.created_at DESC, had.id DESC LIMIT most + 1)
        SELECT page.id, page.state, page.server_id, page.remote_port, page.public_url, bore.ms(page.created_at),
               bore.ms(page.connected_at), bore.ms(page.closed_at), page.close_reason, page.bytes_in, page.bytes_out,
               page.bytes_transferred,
               (SELECT bore.page_mark(last.created_at, last.id) FROM page AS last
                WHERE last.place = most AND EXISTS (SELECT 1 FROM page AS further WHERE further.place > most))
        FROM page WHERE page.place <= most ORDER BY page.place;
END $$;
