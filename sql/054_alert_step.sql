-- 054_alert_step.sql: the alerter's step, and what it does where the log cannot be read on.
--
-- Plans are made once a connection, maybe while the tables are still empty, and must be good for full ones: hence
-- generic plans, by indexes, without joins that read all of a table.

-- Looks at some instances as they are, in place of events that are gone: those with a problem, or known to have had one.
-- Answers the alerts that this brings at once.
CREATE FUNCTION bore.alert_resume(rules bore.alert_rules, most integer) RETURNS text[]
    LANGUAGE plpgsql AS $$
DECLARE
    own   record;
    last  text;
    heads text[] := '{}';
BEGIN
    FOR own IN
        SELECT id, status, status_reason, status_since FROM bore.instances
        WHERE id > (SELECT resuming FROM bore.alert_cursor)
          AND (bore.alert_type_of(status) IS NOT NULL
               OR EXISTS (SELECT 1 FROM bore.alert_problems WHERE instance_id = instances.id))
        ORDER BY id LIMIT most
    LOOP
        last := own.id;
        heads := array_append(heads, bore.alert_hear(rules, own.id, own.status, own.status_reason, NULL, NULL,
                                                     own.status_since));
    END LOOP;
    UPDATE bore.alert_cursor SET resuming = last;
    IF last IS NULL THEN
        DELETE FROM bore.alert_problems AS problem
        WHERE NOT EXISTS (SELECT 1 FROM bore.instances WHERE id = problem.instance_id);
    END IF;
    RETURN array_remove(heads, NULL);
END $$;

-- Hears the events behind the cursor, at most `most`; answers the alerts that they bring at once, and whether the end of
-- the log was reached.
CREATE FUNCTION bore.alert_hear_log(rules bore.alert_rules, most integer, OUT heads text[], OUT at_end boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    begins bigint := (SELECT id FROM bore.alert_cursor);
    head   bigint := (SELECT coalesce(max(id), 0) FROM bore.events);
    ends   bigint := least(head, begins + most);
    event  record;
BEGIN
    heads := '{}';
    FOR event IN
        SELECT kind, instance_id, payload, at FROM bore.events
        WHERE id > begins AND id <= ends AND kind IN ('status', 'instance.deleted') ORDER BY id
    LOOP
        IF event.kind = 'status' THEN
            heads := array_append(heads, bore.alert_hear(rules, event.instance_id, event.payload ->> 'status',
                event.payload ->> 'reason', event.payload ->> 'actor', event.payload ->> 'server_id', event.at));
        ELSE
            DELETE FROM bore.alert_problems WHERE instance_id = event.instance_id;
            DELETE FROM bore.alert_marks WHERE instance_id = event.instance_id;
        END IF;
    END LOOP;
    UPDATE bore.alert_cursor SET id = ends WHERE id <> ends;
    heads := array_remove(heads, NULL);
    at_end := ends = head;
END $$;

-- Tells what is due, at most `most` problems that are told alone.
CREATE FUNCTION bore.alert_tell_due(rules bore.alert_rules, most integer) RETURNS text[]
    LANGUAGE plpgsql AS $$
DECLARE
    now     timestamptz := bore.clock();
    heads   text[] := bore.alert_tell_recoveries(rules, now) || bore.alert_tell_outages(rules, now);
    problem bore.alert_problems;
BEGIN
    FOR problem IN
        SELECT * FROM bore.alert_problems WHERE due_at <= now AND server_id IS NULL
        ORDER BY due_at, instance_id LIMIT most
    LOOP
        heads := array_append(heads, CASE problem.alert_type
            WHEN 'High Error Rate' THEN bore.alert_tell_rate(rules, problem, now)
            ELSE bore.alert_tell(rules, problem, now) END);
    END LOOP;
    RETURN array_remove(heads, NULL);
END $$;

-- Whether the log does not go on behind the cursor: then the cursor moves to its head, and the instances are looked at.
CREATE FUNCTION bore.alert_check_cursor(OUT gap boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    log record;
BEGIN
    SELECT * INTO log FROM bore.event_head();
    UPDATE bore.alert_cursor SET epoch = log.epoch, id = log.head, resuming = ''
    WHERE epoch <> log.epoch OR id > log.head OR id < log.oldest - 1;
    gap := FOUND;
END $$;

-- One step; of several callers one takes it, and the others are told that they need not (`is_mine`). `more`: call again
-- at once. Otherwise `wait_ms` is the time until something is due, at most a second. `gap`: the log could not be read on.
-- `types`: how many alerts of each type, as JSON. `events`: to be published.
CREATE FUNCTION bore.alerter_step(settle interval, cooldown interval, rate_count integer, rate_window interval,
                                  channels text[], most integer,
                                  OUT is_mine boolean, OUT more boolean, OUT wait_ms bigint, OUT gap boolean,
                                  OUT alerts integer, OUT types text, OUT events text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off
    SET enable_hashjoin = off AS $$
DECLARE
    rules bore.alert_rules := ROW (settle, cooldown, rate_count, rate_window, channels);
    heads text[] := '{}';
    heard record;
    due   timestamptz;
BEGIN
    wait_ms := 1000;
    more := false;
    gap := false;
    alerts := 0;
    is_mine := pg_try_advisory_xact_lock(x'626f7265'::int, 50);
    IF NOT is_mine THEN
        RETURN;
    END IF;
    gap := bore.alert_check_cursor();
    IF (SELECT resuming IS NOT NULL FROM bore.alert_cursor) THEN
        heads := bore.alert_resume(rules, most);
        more := true;
    ELSE
        heard := bore.alert_hear_log(rules, most);
        heads := heard.heads;
        more := NOT heard.at_end;
        -- Only with all news known is it certain that a problem still holds.
        IF NOT more THEN
            heads := heads || bore.alert_tell_due(rules, most);
            due := least(bore.clock() + interval '1 second', (SELECT min(due_at) FROM bore.alert_problems),
                         (SELECT min(recovered_at) + bore.gathering(rules) FROM bore.alert_problems
                          WHERE recovered_at IS NOT NULL));
            wait_ms := greatest(100, bore.ms(due) - bore.ms(bore.clock()));
        END IF;
    END IF;
    alerts := cardinality(heads);
    IF alerts > 0 THEN
        types := (SELECT json_object_agg(kind.alert_type, kind.count)
                  FROM (SELECT alert_type, count(*) FROM bore.alert_history WHERE id = ANY (heads) GROUP BY alert_type)
                      AS kind);
        events := bore.append_events(bore.alert_events(heads));
    END IF;
END $$;
