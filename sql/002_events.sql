-- 002_events.sql: the event log. Ids are gapless and in commit order.
--
-- bore.append_events takes a transaction-level advisory lock, always the last lock that a transaction takes, and then, in
-- further statements (each with a new snapshot, the function being VOLATILE), numbers its rows from the highest id. It is
-- called last inside the one server-side call that commits, so the lock spans that commit's flush and no client round trip.

CREATE TABLE bore.events (
    id          bigint PRIMARY KEY,
    at          timestamptz NOT NULL,
    kind        text NOT NULL,
    user_id     text,
    instance_id text,
    payload     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_user ON bore.events (user_id, id); -- a stream that resumes reads its user's alone
CREATE INDEX events_revoked ON bore.events (id) WHERE kind = 'user.revoked';

-- A restore from backup begins a new epoch: ids after it may repeat with another meaning.
CREATE TABLE bore.event_epoch (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    text NOT NULL
);
INSERT INTO bore.event_epoch (epoch) VALUES (left(replace(gen_random_uuid()::text, '-', ''), 8));

-- What is to be appended.
CREATE TYPE bore.new_event AS (
    kind        text,
    user_id     text,
    instance_id text,
    payload     jsonb,
    at          timestamptz
);

-- Appends in the array's order; answers the rows as JSON text for publishing after COMMIT, NULL when there are none.
CREATE FUNCTION bore.append_events(entries bore.new_event[]) RETURNS text
    LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    head   bigint;
    answer text;
BEGIN
    IF coalesce(cardinality(entries), 0) = 0 THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(x'626f7265'::int, 1);
    SELECT coalesce(max(id), 0) INTO head FROM bore.events;
    WITH appended AS (
        INSERT INTO bore.events (id, at, kind, user_id, instance_id, payload)
        SELECT head + entry.position, coalesce(entry.at, clock_timestamp()), entry.kind, entry.user_id,
               entry.instance_id, jsonb_strip_nulls(coalesce(entry.payload, '{}'))
        FROM unnest(entries) WITH ORDINALITY AS entry (kind, user_id, instance_id, payload, at, position)
        RETURNING id, at, kind, user_id, instance_id, payload)
    SELECT json_agg(told ORDER BY id)::text INTO answer
    FROM (SELECT id, bore.ms(at) AS at, kind, user_id, instance_id, payload::text AS payload FROM appended) AS told;
    RETURN answer;
END $$;

-- Where the log stands: epoch, highest id (0 when empty), lowest id kept.
CREATE FUNCTION bore.event_head(OUT epoch text, OUT head bigint, OUT oldest bigint)
    LANGUAGE sql STABLE
    RETURN (SELECT ROW ((SELECT event_epoch.epoch FROM bore.event_epoch),
                        (SELECT coalesce(max(id), 0) FROM bore.events),
                        (SELECT coalesce(min(id), 0) FROM bore.events)));

-- The cursor of the present snapshot as clients see it.
CREATE FUNCTION bore.event_cursor() RETURNS text
    LANGUAGE plpgsql STABLE AS $$ -- plpgsql keeps the plan; a SQL function would plan anew at each call
BEGIN
    RETURN (SELECT epoch FROM bore.event_epoch) || '-' || (SELECT coalesce(max(id), 0) FROM bore.events);
END $$;

-- Removes events older than the retention, a bounded number at a time, always keeping the newest row. Returns how many.
-- Ids are gapless, so the oldest `most` rows are a range of ids, whatever their age: a sweep that finds nothing to do
-- reads no more than those.
CREATE FUNCTION bore.trim_events(retention interval, most integer DEFAULT 10000) RETURNS integer
    LANGUAGE sql VOLATILE AS $$
    WITH gone AS (
        DELETE FROM bore.events
        WHERE id < (SELECT min(id) + most FROM bore.events) AND id < (SELECT max(id) FROM bore.events)
          AND at < bore.clock() - retention
        RETURNING 1)
    SELECT count(*)::integer FROM gone;
$$;
