-- 040_monitor_covered.sql: covered time: how long the control plane could hear, so far.
--
-- Silence is evidence only over time in which somebody was listening. A canary goes the way of every heartbeat, from
-- outside through edge, gateway, bus and monitor to COMMIT, once a second. Its sender measures by its own monotonic
-- clock; what lies between two canaries that came through is covered, and nothing else ever is. Every timeout
-- (heartbeats, starting, leases of bore-servers) is measured in it, so that neither an outage of ours, nor a frozen
-- process, nor a clock that jumps makes anybody late.

CREATE TABLE bore.coverage (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    covered    bigint NOT NULL DEFAULT 0,  -- milliseconds
    sender     text NOT NULL DEFAULT '',   -- the process that sends the canaries
    sent       bigint NOT NULL DEFAULT 0,  -- its monotonic clock when it sent the last one that came through
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 20);
INSERT INTO bore.coverage DEFAULT VALUES;

-- Longer than this between two canaries, and somebody may not have been heard.
CREATE FUNCTION bore.longest_step() RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 2500;

-- The covered time now, as an upper bound: what is stamped with it was heard then or earlier, never later. Behind the
-- last canary the clock tells how far we are; one that jumped tells nothing, and a second is taken for it.
CREATE VIEW bore.covered_time AS
    SELECT covered + CASE WHEN since BETWEEN 0 AND bore.longest_step() THEN since ELSE 1000 END AS now
    FROM bore.coverage
    CROSS JOIN LATERAL (SELECT bore.ms(bore.clock()) - bore.ms(at) AS since OFFSET 0) AS passed
    WHERE only_row; -- found by its index, even where a function forbids to read whole tables

CREATE FUNCTION bore.covered_now() RETURNS bigint
    LANGUAGE plpgsql AS $$ -- plpgsql keeps the plan; a SQL function would plan anew at each call
BEGIN
    RETURN (SELECT covered_time.now FROM bore.covered_time);
END $$;

-- A canary came through. `after_sender` and `after_sent` name the one that its sender knows to have come through last:
-- its own one before, whose answer it got, or, when that sender has fallen silent, another's, whom it replaces. Only
-- between two of one sender, of which the second follows the first, time is covered. So canaries that were held up
-- somewhere and come through all at once cover what one of them does. `sender`: whose canaries count from here on.
CREATE FUNCTION bore.canary_hear(from_sender text, sent_ms bigint, after_sender text, after_sent bigint,
                                 OUT success boolean, OUT sender text, OUT covered bigint)
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bore.coverage AS known
    SET covered = known.covered
            + CASE WHEN known.sender = from_sender AND known.sent = after_sent AND after_sender = from_sender
                        AND sent_ms - after_sent BETWEEN 1 AND bore.longest_step()
                   THEN sent_ms - after_sent ELSE 0 END,
        sender = from_sender, sent = sent_ms, at = bore.clock()
    WHERE known.sender = from_sender AND known.sent < sent_ms
       OR known.sender <> from_sender AND known.sender = after_sender AND known.sent = after_sent;
    success := FOUND;
    SELECT known.sender, known.covered INTO sender, covered FROM bore.coverage AS known;
END $$;
