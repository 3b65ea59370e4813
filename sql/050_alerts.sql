-- 050_alerts.sql: what is known of problems, the alerts that told them, and their deliveries.
--
-- The alerter alone writes these tables. None refers to an instance or a user by a foreign key: they may go at any time,
-- and what was told of them stays until ALERT_RETENTION has passed.

-- How far the event log has been heard. After a gap (a new epoch, or a log that was trimmed too far) `resuming` is how
-- far the instances have been looked at instead, by id; NULL: there is no gap.
CREATE TABLE bore.alert_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    text NOT NULL,
    id       bigint NOT NULL,
    resuming text
);
INSERT INTO bore.alert_cursor (epoch, id) SELECT epoch, 0 FROM bore.event_epoch;

-- What is wrong with an instance, or was told to be and has not been told to be well again.
CREATE TABLE bore.alert_problems (
    instance_id  text NOT NULL,
    alert_type   text NOT NULL,
    status       text NOT NULL,
    reason       text NOT NULL,
    since        timestamptz NOT NULL,
    holds        boolean NOT NULL DEFAULT true,  -- now; false: worse or other came after it
    is_told      boolean NOT NULL DEFAULT false, -- its recovery is owed
    due_at       timestamptz, -- when it is to be told (or, of a told High Error Rate, looked at again)
    server_id    text,        -- the bore-server whose end brought it, and the others that are told with it
    outage       text,        -- the alert that told it with others
    recovered_at timestamptz, -- of such: well since then, and to be told with others
    PRIMARY KEY (instance_id, alert_type)
) WITH (fillfactor = 80);
CREATE INDEX alert_problems_due ON bore.alert_problems (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX alert_problems_server ON bore.alert_problems (server_id) WHERE server_id IS NOT NULL;
CREATE INDEX alert_problems_recovered ON bore.alert_problems (outage) WHERE recovered_at IS NOT NULL;

-- An alert of several instances has no instance and no user; each of them has a row of its own beside it, `part_of` it.
CREATE TABLE bore.alert_history (
    id          text PRIMARY KEY,
    instance_id text,
    user_id     text,
    alert_type  text NOT NULL CHECK (alert_type IN ('Instance Offline', 'Instance Degraded', 'Instance Idle',
                                                    'Instance Recovered', 'High Error Rate')),
    message     text NOT NULL,
    sent_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    part_of     text
);
CREATE INDEX alert_history_newest ON bore.alert_history (sent_at DESC, id DESC);
CREATE INDEX alert_history_instance ON bore.alert_history (instance_id, sent_at DESC, id DESC);
CREATE INDEX alert_history_parts ON bore.alert_history (part_of) WHERE part_of IS NOT NULL;

-- When an instance's last alert of a type was recorded: for the cooldown, and for the order of deliveries.
CREATE TABLE bore.alert_marks (
    instance_id text NOT NULL,
    alert_type  text NOT NULL,
    sent_at     timestamptz NOT NULL,
    alert_id    text NOT NULL, -- that has the deliveries
    PRIMARY KEY (instance_id, alert_type)
) WITH (fillfactor = 80);
CREATE INDEX alert_marks_sent ON bore.alert_marks (sent_at);

-- One an alert and configured channel. `next_attempt_at` of one that is under way is the end of its claim.
CREATE TABLE bore.alert_deliveries (
    alert_id        text NOT NULL REFERENCES bore.alert_history ON DELETE CASCADE,
    channel         text NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts        integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    follows         text[] NOT NULL DEFAULT '{}', -- alerts of the same instances, which go first
    last_error      text,
    PRIMARY KEY (alert_id, channel)
) WITH (fillfactor = 70);
CREATE INDEX alert_deliveries_due ON bore.alert_deliveries (next_attempt_at) WHERE state = 'pending';

-- A channel that asked for a rest (Retry-After).
CREATE TABLE bore.alert_channels (
    name      text PRIMARY KEY,
    resume_at timestamptz NOT NULL
);

-- ---- words ----------------------------------------------------------------------------------------------------------

-- An instance's name in a sentence.
CREATE FUNCTION bore.quoted_name(name text, most integer DEFAULT 100) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '"' || CASE WHEN char_length(name) > most THEN left(name, most - 1) || '…' ELSE name END || '"';

-- At most 500 characters: no more than 2,000 bytes.
CREATE FUNCTION bore.bounded_text(given text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN char_length(given) > 500 THEN left(given, 499) || '…' ELSE given END;

-- The first names of many, and how many more there are.
CREATE FUNCTION bore.listed_names(names text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg(bore.quoted_name(name, 30), ', ' ORDER BY place)
            FROM unnest(names) WITH ORDINALITY AS given (name, place) WHERE place <= 10)
           || CASE WHEN cardinality(names) > 10 THEN format(' and %s more', cardinality(names) - 10) ELSE '' END;

-- A duration for a person: "45 s", "12 min", "3 h 5 min", "4 d 2 h".
CREATE FUNCTION bore.duration_text(span interval) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    seconds bigint := greatest(0, floor(extract(epoch FROM span)));
BEGIN
    RETURN CASE
        WHEN seconds < 60 THEN format('%s s', seconds)
        WHEN seconds < 3600 THEN format('%s min', seconds / 60)
        WHEN seconds < 86400 THEN format('%s h %s min', seconds / 3600, seconds % 3600 / 60)
        ELSE format('%s d %s h', seconds / 86400, seconds % 86400 / 3600)
    END;
END $$;

CREATE FUNCTION bore.moment_text(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC';

-- What an alert says of one problem.
CREATE FUNCTION bore.problem_text(problem bore.alert_problems, name text) RETURNS text
    LANGUAGE sql STABLE
    RETURN bore.bounded_text(bore.quoted_name(name) || CASE problem.status
        WHEN 'offline' THEN format(' is offline since %s: %s.', bore.moment_text(problem.since), problem.reason)
        WHEN 'error' THEN format(' has no tunnel since %s: %s.', bore.moment_text(problem.since), problem.reason)
        WHEN 'degraded' THEN format(' is degraded since %s: %s.', bore.moment_text(problem.since), problem.reason)
        ELSE format(' is idle since %s: %s. Consider hibernating it: disconnect its tunnel until it is needed again.',
                    bore.moment_text(problem.since), problem.reason)
    END);

-- And when it is over. `was`: what it was told to be, oldest first.
CREATE FUNCTION bore.recovery_text(name text, now_status text, was text[], since timestamptz, at timestamptz)
    RETURNS text
    LANGUAGE sql STABLE
    RETURN bore.bounded_text(format('%s is %s again, after %s: it was %s.', bore.quoted_name(name),
        CASE now_status WHEN 'idle' THEN 'connected (and idle)' ELSE now_status END,
        bore.duration_text(at - since), array_to_string(was, ', then ')));
