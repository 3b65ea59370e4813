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
CREATE FUNCTION bore.covered_now() RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    known bore.coverage;
    since bigint;
BEGIN
    SELECT * INTO known FROM bore.coverage;
    since := bore.ms(clock_timestamp()) - bore.ms(known.at);
    RETURN known.covered + CASE WHEN since BETWEEN 0 AND bore.longest_step() THEN since ELSE 1000 END;
END $$;
