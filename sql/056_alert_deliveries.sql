-- 056_alert_deliveries.sql: how alerts reach their channels, and how long they are kept.
--
-- A delivery is claimed for a time (its next_attempt_at moves behind it), tried outside of any transaction, and settled.
-- Who dies in between leaves a claim that ends. The number of the attempt tells a late answer from a newer claim.
-- Alerts of one instance go in their order: a delivery waits until those that it follows are delivered or given up.

CREATE FUNCTION bore.delivery_patience() RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN interval '24 hours';

-- How long to wait after the n-th attempt failed: from 1 to 2 s after the first, doubling, from 7.5 to 15 min at most.
-- chance: from 0 to 1.
CREATE FUNCTION bore.retry_delay(attempt integer, chance double precision) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN make_interval(secs => least(900, 2 ^ least(attempt, 20)) * (0.5 + 0.5 * least(greatest(chance, 0), 1)));

-- Claims up to `most` deliveries that are due.
CREATE FUNCTION bore.alert_claim(channels text[], most integer, lease interval)
    RETURNS TABLE (alert_id text, channel text, attempt integer, alert_type text, message text, sent_at bigint,
                   instance_id text, instance_name text, owner text)
    -- In the order of an index, to be read as far as room goes, and no further.
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_sort = off SET enable_mergejoin = off SET enable_hashjoin = off AS $$
#variable_conflict use_column
DECLARE
    now   timestamptz := bore.clock();
    ready text[] := ARRAY (
        SELECT asked.name FROM unnest(channels) AS asked (name)
        WHERE NOT EXISTS (SELECT 1 FROM bore.alert_channels AS known WHERE known.name = asked.name AND resume_at > now));
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT delivery.alert_id, delivery.channel FROM bore.alert_deliveries AS delivery
        WHERE state = 'pending' AND next_attempt_at <= now AND channel = ANY (ready)
          AND (follows = '{}' OR NOT EXISTS (
              SELECT 1 FROM bore.alert_deliveries AS earlier
              WHERE earlier.alert_id = ANY (delivery.follows) AND earlier.channel = delivery.channel
                AND earlier.state NOT IN ('delivered', 'failed')))
        ORDER BY next_attempt_at LIMIT most FOR UPDATE OF delivery SKIP LOCKED),
    claimed AS (
        UPDATE bore.alert_deliveries AS delivery SET attempts = attempts + 1, next_attempt_at = now + lease
        FROM due WHERE delivery.alert_id = due.alert_id AND delivery.channel = due.channel
        RETURNING delivery.alert_id, delivery.channel, delivery.attempts)
    SELECT claimed.alert_id, claimed.channel, claimed.attempts, told.alert_type, told.message, bore.ms(told.sent_at),
           told.instance_id, own.name, owner.email
    FROM claimed JOIN bore.alert_history AS told ON told.id = claimed.alert_id
    LEFT JOIN bore.instances AS own ON own.id = told.instance_id
    LEFT JOIN bore.users AS owner ON owner.id = told.user_id
    ORDER BY told.sent_at, told.id;
END $$;

-- It has arrived, whatever else was thought of it meanwhile.
CREATE FUNCTION bore.alert_delivered(alert text, to_channel text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bore.alert_deliveries SET state = 'delivered', last_error = NULL
    WHERE alert_id = alert AND channel = to_channel;
END $$;

-- The attempt failed: another one follows, unless the problem is permanent or the patience at its end. rest_ms: the
-- channel asked for so long a rest, 0 if it did not. Answers the new state ('' when the attempt is not the latest) and
-- the time until the next attempt.
CREATE FUNCTION bore.alert_failed(alert text, to_channel text, attempt integer, problem text, is_permanent boolean,
                                  rest_ms bigint, chance double precision, OUT new_state text, OUT wait_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    now  timestamptz := bore.clock();
    rest interval := bore.duration(least(rest_ms, 86400000));
BEGIN
    UPDATE bore.alert_deliveries AS delivery SET
        state = CASE WHEN is_permanent OR late THEN 'failed' ELSE 'pending' END,
        last_error = left(CASE WHEN late AND NOT is_permanent THEN 'given up after 24 hours: ' ELSE '' END || problem, 400),
        next_attempt_at = least(greatest(now + bore.retry_delay(attempt, chance), now + rest),
                                created_at + bore.delivery_patience())
    FROM (SELECT created_at <= now - bore.delivery_patience() AS late FROM bore.alert_deliveries
          WHERE alert_id = alert AND channel = to_channel) AS age
    WHERE alert_id = alert AND channel = to_channel AND attempts = attempt AND state = 'pending'
    RETURNING state, greatest(0, bore.ms(next_attempt_at) - bore.ms(now)) INTO new_state, wait_ms;
    new_state := coalesce(new_state, '');
    wait_ms := coalesce(wait_ms, 0);
    IF rest_ms > 0 THEN
        INSERT INTO bore.alert_channels AS known (name, resume_at) VALUES (to_channel, now + rest)
        ON CONFLICT (name) DO UPDATE SET resume_at = greatest(known.resume_at, excluded.resume_at);
    END IF;
END $$;

-- Gives up what nobody has tried for a day (its channel is no longer configured), and deletes what is too old, at most
-- `most` rows of each kind; answers how many were deleted. One caller at a time: the others answer 0.
CREATE FUNCTION bore.alert_sweep(retention interval, cooldown interval, most integer) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    now   timestamptz := bore.clock();
    total integer;
    gone  integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(x'626f7265'::int, 51) THEN
        RETURN 0;
    END IF;
    UPDATE bore.alert_deliveries SET state = 'failed',
        last_error = left('given up after 24 hours: ' || coalesce(last_error, 'this channel was not served'), 400)
    WHERE (alert_id, channel) IN (
        SELECT alert_id, channel FROM bore.alert_deliveries
        WHERE state = 'pending' AND next_attempt_at < now
          AND created_at < now - bore.delivery_patience() - interval '10 minutes'
        LIMIT most FOR UPDATE SKIP LOCKED);
    DELETE FROM bore.alert_history WHERE id IN (
        SELECT id FROM bore.alert_history WHERE sent_at < now - retention LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS total = ROW_COUNT;
    DELETE FROM bore.alert_marks WHERE (instance_id, alert_type) IN (
        SELECT instance_id, alert_type FROM bore.alert_marks
        WHERE sent_at < now - greatest(cooldown, interval '2 days') LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END $$;

-- ---- lists ----------------------------------------------------------------------------------------------------------

-- An alert's deliveries as JSON: the record `alert_delivery` of proto/messages.def.
CREATE FUNCTION bore.deliveries_json(alert text) RETURNS text
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(json_agg(json_build_object('channel', channel, 'state', state, 'attempts', attempts,
                                                       'last_error', last_error) ORDER BY channel), '[]')::text
            FROM bore.alert_deliveries WHERE alert_id = alert);
END $$;

-- An instance's alerts, newest first. Of one that was sent with others: its own part.
CREATE FUNCTION bore.instance_alert_list(account text, wanted text, most integer, mark text)
    RETURNS TABLE (id text, instance_id text, alert_type text, message text, sent_at bigint, deliveries text,
                   next_cursor text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    after record := bore.page_at(mark);
BEGIN
    PERFORM bore.own_instance(account, wanted);
    RETURN QUERY
        WITH page AS (
            SELECT told.*, row_number() OVER (ORDER BY told.sent_at DESC, told.id DESC) AS place
            FROM bore.alert_history AS told
            WHERE told.instance_id = wanted AND (told.sent_at, told.id) < (after.at, after.id)
            ORDER BY told.sent_at DESC, told.id DESC LIMIT most + 1)
        SELECT page.id, page.instance_id, page.alert_type, page.message, bore.ms(page.sent_at),
               bore.deliveries_json(coalesce(page.part_of, page.id)),
               (SELECT bore.page_mark(last.sent_at, last.id) FROM page AS last
                WHERE last.place = most AND EXISTS (SELECT 1 FROM page AS further WHERE further.place > most))
        FROM page WHERE page.place <= most ORDER BY page.place;
END $$;

-- All alerts, newest first, those of several instances once; of one instance: its parts in such, too. NULL: any.
CREATE FUNCTION bore.admin_alert_list(admin text, wanted_type text, wanted_instance text, wanted_state text, q text,
                                      most integer, mark text)
    RETURNS TABLE (id text, instance_id text, alert_type text, message text, sent_at bigint, deliveries text,
                   next_cursor text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    after record := bore.page_at(mark);
BEGIN
    PERFORM bore.require_admin(admin);
    IF wanted_type NOT IN ('Instance Offline', 'Instance Degraded', 'Instance Idle', 'Instance Recovered',
                           'High Error Rate') THEN
        PERFORM bore.refuse('validation_error', 'is not a type of alert', 'alert_type');
    ELSIF wanted_state NOT IN ('pending', 'delivered', 'failed') THEN
        PERFORM bore.refuse('validation_error', 'must be pending, delivered or failed', 'state');
    END IF;
    RETURN QUERY
        WITH page AS (
            SELECT told.*, row_number() OVER (ORDER BY told.sent_at DESC, told.id DESC) AS place
            FROM bore.alert_history AS told
            WHERE (told.sent_at, told.id) < (after.at, after.id)
              AND CASE WHEN wanted_instance IS NULL THEN told.part_of IS NULL
                       ELSE told.instance_id = wanted_instance END
              AND (wanted_type IS NULL OR told.alert_type = wanted_type)
              AND (coalesce(q, '') = '' OR position(lower(q) IN lower(told.message)) > 0 OR told.instance_id = q)
              AND (wanted_state IS NULL OR EXISTS (
                  SELECT 1 FROM bore.alert_deliveries AS delivery
                  WHERE delivery.alert_id = coalesce(told.part_of, told.id) AND delivery.state = wanted_state))
            ORDER BY told.sent_at DESC, told.id DESC LIMIT most + 1)
        SELECT page.id, page.instance_id, page.alert_type, page.message, bore.ms(page.sent_at),
               bore.deliveries_json(coalesce(page.part_of, page.id)),
               (SELECT bore.page_mark(last.sent_at, last.id) FROM page AS last
                WHERE last.place = most AND EXISTS (SELECT 1 FROM page AS further WHERE further.place > most))
        FROM page WHERE page.place <= most ORDER BY page.place;
END $$;
