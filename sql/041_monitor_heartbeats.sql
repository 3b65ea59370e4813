-- 041_monitor_heartbeats.sql: heartbeats, many at a time.
--
-- The hottest path of all. A heartbeat that changes nothing locks its instance, writes its row in bore.heartbeats and a
-- sample into the instance's ring, all by heap-only updates; only one that changes evidence or status goes further,
-- through bore.settle. Several of one instance are taken in turns, in the order of arrival. Plans as in 024.

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
    this    integer := 0;
    turns   integer;
    answers bore.heartbeat_answer[];
    part    bore.heartbeat_answer[];
    changed text[];
    told    bore.new_event[];
BEGIN
    PERFORM 1 FROM bore.instances WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
    now := bore.clock();
    moment := bore.covered_now();
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
                   verdict.status, verdict.reason, last.instance_id IS NOT NULL AS has_row,
                   coalesce(last.samples, 0) AS samples,
                   mine.phase = 'connected' AND (NOT mine.heartbeat_session OR mine.silent)
                   OR known.vscode IS DISTINCT FROM mine.vscode_responsive
                   OR known.code IS DISTINCT FROM mine.has_code_server
                   OR verdict.status <> mine.status OR verdict.reason <> mine.status_reason AS changes
            FROM given
            LEFT JOIN bore.instances AS mine ON mine.id = given.id AND mine.user_id = given.account
            LEFT JOIN bore.heartbeats AS last ON last.instance_id = mine.id
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
            FROM heard WHERE mine.id = heard.id AND found AND changes),
        kept AS (
            UPDATE bore.heartbeats AS last
            SET covered = moment, at = now, watched = true, inactive = heard.status = 'idle',
                samples = heard.samples + 1, last_activity = activity_now, cpu_usage = coalesce(cpu, cpu_usage),
                memory_usage = coalesce(memory, memory_usage)
            FROM heard WHERE last.instance_id = heard.id AND found),
        begun AS (
            INSERT INTO bore.heartbeats (instance_id, covered, at, watched, inactive, samples, last_activity, cpu_usage,
                                         memory_usage)
            SELECT id, moment, now, true, heard.status = 'idle', 1, activity, cpu, memory
            FROM heard WHERE found AND NOT has_row),
        sampled AS (
            UPDATE bore.health_metrics AS sample
            SET at = now, vscode_responsive = vscode, has_code_server = code, cpu_usage = cpu, memory_usage = memory,
                last_activity = activity
            FROM heard
            WHERE sample.instance_id = heard.id AND slot = (samples % ring)::smallint AND found AND samples >= ring),
        added AS (
            INSERT INTO bore.health_metrics (instance_id, slot, at, vscode_responsive, has_code_server, cpu_usage,
                                             memory_usage, last_activity)
            SELECT id, samples::smallint, now, vscode, code, cpu, memory, activity
            FROM heard WHERE found AND samples < ring)
        SELECT array_agg(ROW (heard.ord, heard.status, heard.reason,
                              CASE WHEN NOT found THEN 'instance_not_found' END)::bore.heartbeat_answer),
               array_agg(heard.id) FILTER (WHERE found AND changes), (SELECT max(turn) FROM given)
        INTO part, changed, turns FROM heard;
        answers := answers || part;
        IF changed IS NOT NULL THEN
            told := told || bore.settle_instances(changed, 'client', NULL, idle_timeout);
        END IF;
        EXIT WHEN this = turns;
    END LOOP;
    RETURN QUERY SELECT ord, true, status, reason, unfit[ord], error, NULL::text FROM unnest(answers);
    IF told IS NOT NULL THEN
        RETURN QUERY SELECT NULL::integer, true, NULL::text, NULL::text, NULL::text, NULL::text,
                            bore.append_events(told);
    END IF;
END $$;
