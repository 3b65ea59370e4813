-- 041_monitor_heartbeats.sql: heartbeats, many at a time.
--
-- The hottest path of all. Nearly every heartbeat says what the one before it said: bore.heartbeats_steady takes those.
-- Each finds in its row of bore.heartbeats what bore.settle left there, writes the row, which is also its lock, and a
-- sample into the instance's ring, both by heap-only updates. Whatever is not so simple it leaves unanswered, for
-- bore.heartbeats_hear, in a transaction of its own, since that locks instances first. There only those that change
-- evidence or status go through bore.settle; several of one instance are taken in turns, in the order of arrival.
--
-- Plans as in 024; and where rows are found once, by index from what was given, and written where they were found (ctid),
-- a plan made while a table was empty is good for a full one (LIMIT 1 keeps the lookups lookups).

-- Heartbeats whose instance is connected, had some in this session, is not silent, and keeps evidence and status. Answers
-- a row for each of them, and none for others: the second and further ones of an instance are left too, so that order is
-- kept. Rows are locked by id.
CREATE FUNCTION bore.heartbeats_steady(accounts text[], ids text[], vscodes boolean[], codes boolean[],
                                       cpus double precision[], memories double precision[], activities bigint[],
                                       unfit text[], idle_timeout interval)
    RETURNS TABLE (ord integer, success boolean, status text, reason text, ignored text, error text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off SET enable_hashjoin = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    ring   CONSTANT bigint := 1000; -- slots of health_metrics
    now    timestamptz := bore.clock();
    before bigint := floor(date_part('epoch', now - idle_timeout)); -- an earlier activity is none
BEGIN
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (id) *
        FROM unnest(accounts, ids, vscodes, codes, cpus, memories, activities) WITH ORDINALITY
            AS one (account, id, vscode, code, cpu, memory, activity, ord)
        ORDER BY id, ord),
    kept AS (
        UPDATE bore.heartbeats AS last
        SET covered = (SELECT covered_time.now FROM bore.covered_time), at = now, watched = true,
            inactive = coalesce(coalesce(activity, last_activity) < before, false), samples = last.samples + 1,
            last_activity = coalesce(activity, last_activity), cpu_usage = coalesce(cpu, cpu_usage),
            memory_usage = coalesce(memory, memory_usage)
        FROM given
        WHERE last.instance_id = given.id AND last.owner = given.account
          AND coalesce(given.vscode = last.vscode, given.vscode IS NULL)
          AND coalesce(given.code = last.code, given.code IS NULL)
          AND last.steady = (SELECT verdict.status FROM bore.instance_status('connected', '', true, false, last.code,
                last.vscode, coalesce(activity, last_activity), now, idle_timeout) AS verdict)
        RETURNING given.*, last.code AS code_now, last.vscode AS vscode_now, last.last_activity AS activity_now,
            last.samples - 1 AS place),
    sampled AS (
        UPDATE bore.health_metrics AS sample
        SET at = now, vscode_responsive = vscode, has_code_server = code, cpu_usage = cpu, memory_usage = memory,
            last_activity = activity
        FROM kept
        WHERE place >= ring AND sample.instance_id = kept.id AND sample.slot = (place % ring)::smallint),
    added AS (
        INSERT INTO bore.health_metrics (instance_id, slot, at, vscode_responsive, has_code_server, cpu_usage,
                                         memory_usage, last_activity)
        SELECT id, place, now, vscode, code, cpu, memory, activity FROM kept WHERE place < ring)
    SELECT kept.ord::integer, true, verdict.status, verdict.reason, unfit[kept.ord], NULL::text
    FROM kept CROSS JOIN LATERAL bore.instance_status('connected', '', true, false, code_now, vscode_now, activity_now,
        now, idle_timeout) AS verdict;
END $$;

-- What is answered to one of a batch.
CREATE TYPE bore.heartbeat_answer AS (ord integer, status text, reason text, error text);

-- Counts as evidence only while the tunnel is connected; else it is kept for those who ask, and says nothing about the
-- tunnel. What a heartbeat leaves out keeps what the session's earlier ones said. Answers a row for each, with `ord`, and
-- one without with what was appended to the event log.
CREATE FUNCTION bore.heartbeats_hear(accounts text[], ids text[], vscodes boolean[], codes boolean[],
                                     cpus double precision[], memories double precision[], activities bigint[],
                                     unfit text[], idle_timeout interval)
    RETURNS TABLE (ord integer, success boolean, status text, reason text, ignored text, error text, events text)
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_mergejoin = off SET enable_hashjoin = off AS $$
#variable_conflict use_column
DECLARE
    ring    CONSTANT bigint := 1000; -- slots of health_metrics
    now     timestamptz;
    moment  bigint;
    before  bigint; -- an earlier activity is none
    this    integer := 0;
    turns   integer;
    answers bore.heartbeat_answer[];
    part    bore.heartbeat_answer[];
    changed text[];
    told    bore.new_event[];
BEGIN
    PERFORM 1 FROM bore.instances WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
    PERFORM 1 FROM bore.heartbeats WHERE instance_id = ANY (ids) ORDER BY instance_id FOR NO KEY UPDATE;
    now := bore.clock();
    moment := bore.covered_now();
    before := floor(date_part('epoch', now - idle_timeout));
    LOOP
        this := this + 1;
        WITH given AS MATERIALIZED (
            SELECT *, row_number() OVER (PARTITION BY id ORDER BY ord) AS turn
            FROM unnest(accounts, ids, vscodes, codes, cpus, memories, activities) WITH ORDINALITY
                AS one (account, id, vscode, code, cpu, memory, activity, ord)),
        heard AS MATERIALIZED (
            SELECT given.ord, given.id, given.vscode, given.code, given.cpu, given.memory, given.activity,
                   mine.id IS NOT NULL AS found, mine.phase = 'connected' AS connected,
                   known.vscode AS vscode_now, known.code AS code_now, known.activity AS activity_now,
                   verdict.status, verdict.reason, coalesce(last.samples, 0) AS samples, mine.at AS mine_at,
                   last.at AS last_at, sample.at AS sample_at,
                   mine.phase = 'connected' AND (NOT mine.heartbeat_session OR mine.silent
                                                 OR last.steady IS DISTINCT FROM mine.status)
                   OR known.vscode IS DISTINCT FROM mine.vscode_responsive
                   OR known.code IS DISTINCT FROM mine.has_code_server
                   OR verdict.status <> mine.status OR verdict.reason <> mine.status_reason AS changes
            FROM given
            LEFT JOIN LATERAL (SELECT id, phase, phase_reason, heartbeat_session, silent, vscode_responsive,
                                      has_code_server, status, status_reason, ctid AS at
                               FROM bore.instances WHERE id = given.id AND user_id = given.account
                               LIMIT 1) AS mine ON true
            LEFT JOIN LATERAL (SELECT samples, last_activity, steady, ctid AS at FROM bore.heartbeats
                               WHERE instance_id = mine.id LIMIT 1) AS last ON true
            LEFT JOIN LATERAL (SELECT ctid AS at FROM bore.health_metrics
                               WHERE instance_id = mine.id AND slot = (last.samples % ring)::smallint
                               LIMIT 1) AS sample ON true
            CROSS JOIN LATERAL (
                SELECT coalesce(given.vscode, mine.vscode_responsive) AS vscode,
                       coalesce(given.code, mine.has_code_server) AS code,
                       CASE WHEN mine.heartbeat_session THEN coalesce(given.activity, last.last_activity)
                            ELSE given.activity END AS activity) AS known
            CROSS JOIN LATERAL bore.instance_status(mine.phase, mine.phase_reason, true, false, known.code,
                known.vscode, known.activity, now, idle_timeout) AS verdict
            WHERE given.turn = this),
        noted AS (
            UPDATE bore.instances AS mine
            SET heartbeat_session = connected, silent = false, vscode_responsive = vscode_now,
                has_code_server = code_now
            FROM heard WHERE mine.ctid = mine_at AND changes),
        kept AS (
            UPDATE bore.heartbeats AS last
            SET covered = moment, at = now, watched = true, inactive = coalesce(activity_now < before, false),
                samples = heard.samples + 1, last_activity = activity_now, cpu_usage = coalesce(cpu, cpu_usage),
                memory_usage = coalesce(memory, memory_usage)
            FROM heard WHERE last.ctid = last_at),
        begun AS (
            INSERT INTO bore.heartbeats (instance_id, covered, at, watched, inactive, samples, last_activity, cpu_usage,
                                         memory_usage)
            SELECT id, moment, now, true, coalesce(activity < before, false), 1, activity, cpu, memory
            FROM heard WHERE found AND last_at IS NULL),
        sampled AS (
            UPDATE bore.health_metrics AS sample
            SET at = now, vscode_responsive = vscode, has_code_server = code, cpu_usage = cpu, memory_usage = memory,
                last_activity = activity
            FROM heard WHERE sample.ctid = sample_at),
        added AS (
            INSERT INTO bore.health_metrics (instance_id, slot, at, vscode_responsive, has_code_server, cpu_usage,
                                             memory_usage, last_activity)
            SELECT id, samples % ring, now, vscode, code, cpu, memory, activity
            FROM heard WHERE found AND sample_at IS NULL)
        SELECT array_agg(ROW (heard.ord, heard.status, heard.reason,
                              CASE WHEN NOT found THEN 'instance_not_found' END)::bore.heartbeat_answer),
               array_agg(heard.id) FILTER (WHERE found AND changes), (SELECT max(turn) FROM given)
        INTO part, changed, turns FROM heard;
        answers := answers || part;
        IF changed IS NOT NULL THEN
            told := told || bore.settle_instances(changed, 'client', NULL, idle_timeout);
        END IF;
        EXIT WHEN this >= turns;
    END LOOP;
    RETURN QUERY SELECT ord, true, status, reason, unfit[ord], error, NULL::text FROM unnest(answers);
    IF told IS NOT NULL THEN
        RETURN QUERY SELECT NULL::integer, true, NULL::text, NULL::text, NULL::text, NULL::text,
                            bore.append_events(told);
    END IF;
END $$;
