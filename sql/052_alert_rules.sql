-- 052_alert_rules.sql: how changes of status become alerts.
--
-- One alerter at a time takes a step (bore.alerter_step): it hears the events since the cursor, tells what is due, and
-- moves the cursor, all in one transaction. What it knows is in alert_problems:
--   * offline and error are Instance Offline, degraded is Instance Degraded, idle is Instance Idle. Each begins with a
--     change of status and is told when it still holds ALERT_SETTLE_SECONDS later, or when the cooldown of its instance
--     and type ends, whichever is later. While a tunnel is being opened (starting) nothing is known: a problem waits.
--   * Five changes to offline, error or degraded within ten minutes are High Error Rate. One that its user's disconnect
--     ends within the settling time is not counted.
--   * Instance Recovered is told when the instance is well, at once, if a problem was told: once for all of them. Well is
--     active, online, and after all but Instance Idle also idle; for High Error Rate also that the rate has fallen.
--   * An instance that its user disconnects or deletes has no problem, and has not recovered.
--   * What a bore-server's end brings (actor `monitor`, with its server_id) is told together, and so is its recovery.
-- Locks: the step's own (a try-lock), rows that only the step writes, the event log's last. Instances are only read.

CREATE TYPE bore.alert_rules AS (
    settle      interval,
    cooldown    interval,
    rate_count  integer,
    rate_window interval,
    channels    text[]
);

-- How long those that are told together are waited for after the last of them, and after the first.
CREATE FUNCTION bore.gathering(rules bore.alert_rules) RETURNS interval
    LANGUAGE sql IMMUTABLE
    RETURN greatest(rules.settle, interval '2 seconds');
CREATE FUNCTION bore.gathering_limit() RETURNS interval
    LANGUAGE sql IMMUTABLE
    RETURN interval '10 seconds';

CREATE FUNCTION bore.alert_type_of(status text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN status IN ('offline', 'error') THEN 'Instance Offline'
                WHEN status = 'degraded' THEN 'Instance Degraded'
                WHEN status = 'idle' THEN 'Instance Idle' END;

-- ---- recording ------------------------------------------------------------------------------------------------------

-- Records an alert of one instance, or of several with a summary; answers the id of the one that has the deliveries.
CREATE FUNCTION bore.alert_record(rules bore.alert_rules, alert_type text, instances text[], owners text[],
                                  messages text[], summary text) RETURNS text
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    now    timestamptz := bore.clock();
    head   text := bore.new_id('alert');
    single boolean := cardinality(instances) = 1;
    latest text[]; -- the last alerts of these instances
BEGIN
    INSERT INTO bore.alert_history (id, instance_id, user_id, alert_type, message, sent_at)
    VALUES (head, CASE WHEN single THEN instances[1] END, CASE WHEN single THEN owners[1] END, alert_type,
            CASE WHEN single THEN messages[1] ELSE bore.bounded_text(summary) END, now);
    INSERT INTO bore.alert_history (id, instance_id, user_id, alert_type, message, sent_at, part_of)
    SELECT bore.new_id('alert'), part.instance_id, part.user_id, alert_type, part.message, now, head
    FROM unnest(instances, owners, messages) AS part (instance_id, user_id, message) WHERE NOT single;
    -- By the primary key: a condition of `pending` would lead the planner to all that are.
    latest := ARRAY (SELECT DISTINCT mark.alert_id FROM bore.alert_marks AS mark WHERE mark.instance_id = ANY (instances));
    INSERT INTO bore.alert_deliveries (alert_id, channel, created_at, next_attempt_at, follows)
    SELECT head, channel.name, now, now, ARRAY (
        SELECT earlier.alert_id FROM bore.alert_deliveries AS earlier
        WHERE earlier.alert_id = ANY (latest) AND earlier.channel = channel.name
          AND earlier.state NOT IN ('delivered', 'failed'))
    FROM unnest(rules.channels) AS channel (name);
    INSERT INTO bore.alert_marks AS mark (instance_id, alert_type, sent_at, alert_id)
    SELECT told.id, alert_type, now, head FROM unnest(instances) AS told (id)
    ON CONFLICT ON CONSTRAINT alert_marks_pkey DO UPDATE SET sent_at = excluded.sent_at, alert_id = excluded.alert_id;
    RETURN head;
END $$;

-- The events of these alerts, in their order.
CREATE FUNCTION bore.alert_events(heads text[]) RETURNS bore.new_event[]
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY (
        SELECT ROW ('alert.sent', told.user_id, told.instance_id,
                    jsonb_build_object('alert_id', told.id, 'alert_type', told.alert_type, 'message', told.message),
                    told.sent_at)::bore.new_event
        FROM unnest(heads) WITH ORDINALITY AS head (id, place)
        CROSS JOIN LATERAL (SELECT * FROM bore.alert_history WHERE id = head.id
                            UNION ALL
                            SELECT * FROM bore.alert_history WHERE part_of = head.id) AS told
        ORDER BY head.place, told.part_of NULLS FIRST, told.id);
END $$;

-- ---- recovery -------------------------------------------------------------------------------------------------------

-- Tells that an instance is well after all that it was told to be of these types; NULL when there is nothing to tell.
CREATE FUNCTION bore.alert_recover(rules bore.alert_rules, instance text, types text[], now_status text,
                                   at timestamptz) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    own   bore.instances;
    was   text[];
    begun timestamptz;
BEGIN
    WITH over AS (
        DELETE FROM bore.alert_problems AS problem WHERE instance_id = instance AND alert_type = ANY (types)
        RETURNING problem.status, problem.since, problem.is_told)
    SELECT array_agg(over.status ORDER BY over.since), min(over.since) INTO was, begun FROM over WHERE over.is_told;
    SELECT * INTO own FROM bore.instances WHERE id = instance;
    IF was IS NULL OR own.id IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN bore.alert_record(rules, 'Instance Recovered', ARRAY [instance], ARRAY [own.user_id],
                             ARRAY [bore.recovery_text(own.name, now_status, was, begun, at)], NULL);
END $$;

-- Tells the recoveries of instances that were told together, once no further one has come for a moment.
CREATE FUNCTION bore.alert_tell_recoveries(rules bore.alert_rules, now timestamptz) RETURNS text[]
    LANGUAGE plpgsql AS $$
DECLARE
    ready record;
    known record;
    heads text[] := '{}';
BEGIN
    FOR ready IN
        SELECT problem.outage, min(recovered_at) AS first, max(recovered_at) AS last
        FROM bore.alert_problems AS problem WHERE recovered_at IS NOT NULL GROUP BY problem.outage
    LOOP
        CONTINUE WHEN ready.last > now - bore.gathering(rules)
            AND ready.first > now - bore.gathering(rules) - bore.gathering_limit();
        WITH over AS (
            DELETE FROM bore.alert_problems AS problem
            WHERE problem.outage = ready.outage AND recovered_at IS NOT NULL
            RETURNING problem.*),
        well AS (
            SELECT own.id, own.user_id, own.name, max(over.server_id) AS server_id, max(over.recovered_at) AS at,
                   min(over.since) AS since, array_agg(over.status ORDER BY over.since) AS was
            FROM over JOIN bore.instances AS own ON own.id = over.instance_id GROUP BY own.id)
        SELECT array_agg(id ORDER BY name, id) AS ids, array_agg(user_id ORDER BY name, id) AS owners,
               array_agg(bore.recovery_text(name, 'connected', was, since, at) ORDER BY name, id) AS messages,
               array_agg(name ORDER BY name, id) AS names, max(server_id) AS server_id
        INTO known FROM well;
        CONTINUE WHEN known.ids IS NULL;
        heads := heads || bore.alert_record(rules, 'Instance Recovered', known.ids, known.owners, known.messages,
            format('%s instances that were offline with bore-server %s are connected again: %s.',
                   cardinality(known.ids), bore.quoted_name(coalesce(known.server_id, '?')),
                   bore.listed_names(known.names)));
    END LOOP;
    RETURN heads;
END $$;

-- ---- hearing --------------------------------------------------------------------------------------------------------

-- The instance is well, as far as its status goes.
CREATE FUNCTION bore.alert_hear_well(rules bore.alert_rules, instance text, now_status text, at timestamptz)
    RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    over  text[] := ARRAY ['Instance Offline', 'Instance Degraded'];
    group_of text;
BEGIN
    IF now_status <> 'idle' THEN
        over := over || 'Instance Idle'::text;
    END IF;
    -- What a told High Error Rate waits for.
    UPDATE bore.alert_problems SET due_at = at
    WHERE instance_id = instance AND alert_type = 'High Error Rate' AND is_told AND due_at IS NULL;
    SELECT max(outage) INTO group_of FROM bore.alert_problems
    WHERE instance_id = instance AND alert_type = ANY (over) AND is_told;
    IF group_of IS NULL THEN
        RETURN bore.alert_recover(rules, instance, over, now_status, at);
    END IF;
    DELETE FROM bore.alert_problems WHERE instance_id = instance AND alert_type = ANY (over) AND NOT is_told;
    UPDATE bore.alert_problems SET recovered_at = at, due_at = NULL, holds = false, outage = group_of
    WHERE instance_id = instance AND alert_type = ANY (over) AND recovered_at IS NULL;
    RETURN NULL;
END $$;

-- A problem begins, or goes on.
CREATE FUNCTION bore.alert_hear_problem(rules bore.alert_rules, instance text, type text, now_status text, why text,
                                        server text, at timestamptz) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    due timestamptz := at + CASE WHEN server IS NULL THEN rules.settle ELSE bore.gathering(rules) END;
BEGIN
    -- Others no longer hold: those that were told are owed a recovery.
    DELETE FROM bore.alert_problems
    WHERE instance_id = instance AND alert_type NOT IN (type, 'High Error Rate') AND NOT is_told;
    UPDATE bore.alert_problems SET holds = false, due_at = NULL
    WHERE instance_id = instance AND alert_type NOT IN (type, 'High Error Rate');
    INSERT INTO bore.alert_problems AS known (instance_id, alert_type, status, reason, since, due_at, server_id)
    VALUES (instance, type, now_status, why, at, due, server)
    ON CONFLICT (instance_id, alert_type) DO UPDATE SET
        status = excluded.status, reason = excluded.reason, holds = true,
        since = CASE WHEN known.holds THEN known.since ELSE excluded.since END,
        due_at = CASE WHEN known.holds AND known.is_told THEN NULL ELSE excluded.due_at END,
        server_id = CASE WHEN known.holds AND known.is_told THEN known.server_id ELSE excluded.server_id END;
    -- One more bad change: maybe too many.
    IF type <> 'Instance Idle' AND (
        SELECT count(*) FROM (SELECT 1 FROM bore.status_history AS history
                              WHERE history.instance_id = instance AND history.at > alert_hear_problem.at - rules.rate_window
                                AND history.at <= alert_hear_problem.at
                                AND history.status IN ('offline', 'error', 'degraded')
                              ORDER BY history.at DESC LIMIT rules.rate_count) AS recent) >= rules.rate_count THEN
        INSERT INTO bore.alert_problems (instance_id, alert_type, status, reason, since, due_at)
        VALUES (instance, 'High Error Rate', now_status, why, at, at + rules.settle)
        ON CONFLICT (instance_id, alert_type) DO UPDATE SET status = excluded.status, reason = excluded.reason;
    END IF;
END $$;

-- A change of status; answers the alert that it brings at once, or NULL.
CREATE FUNCTION bore.alert_hear(rules bore.alert_rules, instance text, now_status text, why text, actor text,
                                server text, at timestamptz) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    type text := bore.alert_type_of(now_status);
    head text;
BEGIN
    -- Most news is good, and of an instance that had no problem.
    IF type IS NULL AND NOT EXISTS (SELECT 1 FROM bore.alert_problems WHERE instance_id = instance) THEN
        RETURN NULL;
    END IF;
    IF now_status = 'inactive' THEN
        DELETE FROM bore.alert_problems WHERE instance_id = instance AND recovered_at IS NULL;
    ELSIF now_status = 'starting' THEN
        UPDATE bore.alert_problems SET due_at = NULL
        WHERE instance_id = instance AND NOT is_told AND alert_type <> 'High Error Rate';
    ELSE
        IF type IS NULL OR type = 'Instance Idle' THEN
            head := bore.alert_hear_well(rules, instance, now_status, at);
        ELSIF EXISTS (SELECT 1 FROM bore.alert_problems
                      WHERE instance_id = instance AND recovered_at IS NOT NULL) THEN
            -- It was well for a moment only, but it was.
            head := bore.alert_recover(rules, instance, ARRAY (
                SELECT alert_type FROM bore.alert_problems
                WHERE instance_id = instance AND recovered_at IS NOT NULL), 'connected', at);
        END IF;
        IF type IS NOT NULL THEN
            PERFORM bore.alert_hear_problem(rules, instance, type, now_status, why,
                CASE WHEN actor = 'monitor' AND now_status = 'offline' THEN server END, at);
        END IF;
    END IF;
    RETURN head;
END $$;

-- ---- telling --------------------------------------------------------------------------------------------------------

-- When the cooldown of an instance and type ends; NULL when none is on.
CREATE FUNCTION bore.alert_cooled_at(rules bore.alert_rules, instance text, type text, now timestamptz)
    RETURNS timestamptz
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT sent_at + rules.cooldown FROM bore.alert_marks
            WHERE instance_id = instance AND alert_type = type AND sent_at + rules.cooldown > now);
END $$;

-- Tells one problem that is due, or puts it off.
CREATE FUNCTION bore.alert_tell(rules bore.alert_rules, problem bore.alert_problems, now timestamptz) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    own    bore.instances;
    cooled timestamptz := bore.alert_cooled_at(rules, problem.instance_id, problem.alert_type, now);
BEGIN
    SELECT * INTO own FROM bore.instances WHERE id = problem.instance_id;
    IF NOT FOUND THEN
        DELETE FROM bore.alert_problems WHERE instance_id = problem.instance_id;
        RETURN NULL;
    END IF;
    UPDATE bore.alert_problems SET due_at = cooled, is_told = is_told OR cooled IS NULL
    WHERE instance_id = problem.instance_id AND alert_type = problem.alert_type;
    IF cooled IS NOT NULL THEN
        RETURN NULL;
    END IF;
    RETURN bore.alert_record(rules, problem.alert_type, ARRAY [own.id], ARRAY [own.user_id],
                             ARRAY [bore.problem_text(problem, own.name)], NULL);
END $$;

-- The newest changes to offline, error or degraded within the window, newest first. Left out is what its user's
-- disconnect ended within the settling time, and the last one while that may still come.
CREATE FUNCTION bore.alert_bad_changes(rules bore.alert_rules, instance text, now timestamptz) RETURNS timestamptz[]
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY (
        SELECT history.at
        FROM (SELECT at, id, status, lead(status) OVER oldest AS next, lead(at) OVER oldest AS next_at
              FROM (SELECT * FROM bore.status_history
                    WHERE instance_id = instance AND at > now - rules.rate_window
                    ORDER BY at DESC, id DESC LIMIT 1000) AS recent
              WINDOW oldest AS (ORDER BY at, id)) AS history
        WHERE history.status IN ('offline', 'error', 'degraded')
          AND CASE WHEN next IS NULL THEN history.at <= now - rules.settle
                   ELSE next <> 'inactive' OR next_at > history.at + rules.settle END
        ORDER BY history.at DESC, history.id DESC);
END $$;

-- Tells a High Error Rate that is due, its end when it was told, or puts it off.
CREATE FUNCTION bore.alert_tell_rate(rules bore.alert_rules, problem bore.alert_problems, now timestamptz) RETURNS text
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    own    bore.instances;
    bad    timestamptz[] := bore.alert_bad_changes(rules, problem.instance_id, now);
    latest timestamptz;
    cooled timestamptz := bore.alert_cooled_at(rules, problem.instance_id, problem.alert_type, now);
    again  timestamptz;
    is_bad boolean := cardinality(bad) >= rules.rate_count;
BEGIN
    SELECT * INTO own FROM bore.instances WHERE id = problem.instance_id;
    SELECT max(at) INTO latest FROM bore.status_history
    WHERE instance_id = own.id AND status IN ('offline', 'error', 'degraded') AND at > now - rules.settle;
    IF own.id IS NULL OR NOT is_bad AND latest IS NULL AND (NOT problem.is_told OR own.status = 'inactive') THEN
        DELETE FROM bore.alert_problems
        WHERE instance_id = problem.instance_id AND alert_type = problem.alert_type;
        RETURN NULL;
    ELSIF NOT is_bad AND latest IS NULL AND own.status IN ('active', 'online', 'idle') THEN
        DELETE FROM bore.alert_problems
        WHERE instance_id = problem.instance_id AND alert_type = problem.alert_type;
        RETURN bore.alert_record(rules, 'Instance Recovered', ARRAY [own.id], ARRAY [own.user_id],
            ARRAY [format('%s is steady again: fewer than %s bad changes within %s.', bore.quoted_name(own.name),
                          rules.rate_count, bore.duration_text(rules.rate_window))], NULL);
    END IF;
    again := CASE
        WHEN is_bad AND problem.is_told THEN bad[rules.rate_count] + rules.rate_window
        WHEN is_bad AND cooled IS NOT NULL THEN cooled
        WHEN is_bad THEN bad[rules.rate_count] + rules.rate_window
        WHEN latest IS NOT NULL THEN latest + rules.settle
    END;
    UPDATE bore.alert_problems SET due_at = again, is_told = is_told OR is_bad AND cooled IS NULL
    WHERE instance_id = problem.instance_id AND alert_type = problem.alert_type;
    IF NOT is_bad OR problem.is_told OR cooled IS NOT NULL THEN
        RETURN NULL;
    END IF;
    RETURN bore.alert_record(rules, problem.alert_type, ARRAY [own.id], ARRAY [own.user_id], ARRAY [bore.bounded_text(
        format('%s changed for the worse %s times within %s (offline, error or degraded); last: %s, %s.',
               bore.quoted_name(own.name), cardinality(bad), bore.duration_text(rules.rate_window), problem.status,
               problem.reason))], NULL);
END $$;

-- Tells what ends of bore-servers brought, one alert for each of them, once no further instance has come for a moment.
CREATE FUNCTION bore.alert_tell_outages(rules bore.alert_rules, now timestamptz) RETURNS text[]
    LANGUAGE plpgsql AS $$
DECLARE
    most  constant integer := 3000;
    ready record;
    known record;
    head  text;
    heads text[] := '{}';
BEGIN
    FOR ready IN
        SELECT server_id, min(due_at) AS first FROM bore.alert_problems
        WHERE server_id IS NOT NULL AND due_at <= now GROUP BY server_id
    LOOP
        CONTINUE WHEN ready.first > now - bore.gathering_limit() AND EXISTS (
            SELECT 1 FROM bore.alert_problems
            WHERE server_id = ready.server_id AND due_at > now AND since > now - bore.gathering(rules));
        UPDATE bore.alert_problems AS problem SET due_at = mark.sent_at + rules.cooldown
        FROM bore.alert_marks AS mark
        WHERE problem.server_id = ready.server_id AND due_at <= now AND mark.instance_id = problem.instance_id
          AND mark.alert_type = problem.alert_type AND mark.sent_at + rules.cooldown > now;
        WITH gone AS (
            DELETE FROM bore.alert_problems AS problem
            WHERE problem.server_id = ready.server_id AND due_at <= now
              AND NOT EXISTS (SELECT 1 FROM bore.instances WHERE id = problem.instance_id)
            RETURNING instance_id),
        due AS (
            SELECT own.id, own.user_id, own.name, problem.reason, bore.problem_text(problem, own.name) AS message
            FROM bore.alert_problems AS problem JOIN bore.instances AS own ON own.id = problem.instance_id
            WHERE problem.server_id = ready.server_id AND due_at <= now LIMIT most)
        SELECT array_agg(id ORDER BY name, id) AS ids, array_agg(user_id ORDER BY name, id) AS owners,
               array_agg(message ORDER BY name, id) AS messages, array_agg(name ORDER BY name, id) AS names,
               max(reason) AS reason
        INTO known FROM due;
        CONTINUE WHEN known.ids IS NULL;
        head := bore.alert_record(rules, 'Instance Offline', known.ids, known.owners, known.messages,
            format('bore-server %s took %s instances offline (%s): %s.', bore.quoted_name(ready.server_id),
                   cardinality(known.ids), known.reason, bore.listed_names(known.names)));
        UPDATE bore.alert_problems SET is_told = true, due_at = NULL,
               outage = CASE WHEN cardinality(known.ids) > 1 THEN head END
        WHERE instance_id = ANY (known.ids) AND alert_type = 'Instance Offline';
        heads := heads || head;
    END LOOP;
    RETURN heads;
END $$;
