-- 011_auth_accounts.sql: signing up, signing in, what slows guessing down, and what users change of their own account.

-- ---- throttle -------------------------------------------------------------------------------------------------------

CREATE FUNCTION bore.throttle_window() RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN interval '15 minutes';

-- Counts one attempt for every key, before its outcome is known, so that guesses made at once cannot pass the limits.
-- Answers 0, or, when a key is at its limit, the seconds until it is not; then nothing is counted. Keys in order.
CREATE FUNCTION bore.throttle_take(keys text[], limits integer[]) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    now     timestamptz := clock_timestamp();
    counted bore.login_throttle;
BEGIN
    FOR i IN 1 .. cardinality(keys) LOOP
        INSERT INTO bore.login_throttle AS known (key, failures, window_start) VALUES (keys[i], 0, now)
        ON CONFLICT (key) DO UPDATE SET
            failures = CASE WHEN known.window_start <= now - bore.throttle_window() THEN 0 ELSE known.failures END,
            window_start = CASE WHEN known.window_start <= now - bore.throttle_window() THEN now
                                ELSE known.window_start END
        RETURNING known.* INTO counted;
        IF counted.failures >= limits[i] THEN
            RETURN greatest(1, ceil(extract(epoch FROM counted.window_start + bore.throttle_window() - now)))::integer;
        END IF;
    END LOOP;
    UPDATE bore.login_throttle SET failures = failures + 1 WHERE key = ANY (keys);
    RETURN 0;
END $$;

-- The attempt was a good one: it is not counted, and the key `cleared` (may be NULL) starts from nothing.
CREATE FUNCTION bore.throttle_give_back(keys text[], cleared text) RETURNS void
    LANGUAGE sql VOLATILE AS $$
    WITH mine AS (SELECT key FROM bore.login_throttle WHERE key = ANY (keys) ORDER BY key FOR UPDATE)
    UPDATE bore.login_throttle SET failures =
        CASE WHEN login_throttle.key = cleared THEN 0 ELSE greatest(login_throttle.failures - 1, 0) END
    FROM mine WHERE login_throttle.key = mine.key;
$$;

-- Three counts for each attempt: the address, the account from everywhere, the account from this address.
CREATE FUNCTION bore.login_keys(given_email text, address text) RETURNS text[]
    LANGUAGE sql IMMUTABLE
    RETURN ARRAY ['address:' || bore.address_key(address),
                  'email:' || bore.text_hash(lower(given_email)),
                  'pair:' || bore.text_hash(lower(given_email)) || ':' || bore.address_key(address)];

CREATE FUNCTION bore.login_succeeded(given_email text, address text) RETURNS void
    LANGUAGE sql VOLATILE AS $$
    SELECT bore.throttle_give_back(keys, keys[3]) FROM bore.login_keys(given_email, address) AS keys;
$$;

-- ---- sign-in --------------------------------------------------------------------------------------------------------

-- Reserves an attempt to sign in and answers the hash to compare with (NULL: there is no such account). retry_after >
-- 0: none is left. user_id is NULL when the account is unknown or disabled. The bound over all addresses does not hold
-- for one from which the account was used within 30 days, so that strangers cannot lock its owner out.
CREATE FUNCTION bore.login_begin(given_email text, given_address text, per_account integer, per_address integer,
                                 OUT retry_after integer, OUT user_id text, OUT password_hash text)
    LANGUAGE plpgsql AS $$
DECLARE
    keys     text[] := bore.login_keys(given_email, given_address);
    limits   integer[] := ARRAY [per_address, per_account * 10, per_account];
    account  bore.users;
BEGIN
    SELECT * INTO account FROM bore.users WHERE lower(email) = lower(given_email);
    IF EXISTS (SELECT 1 FROM bore.sessions AS used
               WHERE used.user_id = account.id AND used.last_used_at > clock_timestamp() - interval '30 days'
                 AND bore.address_key(used.address) = bore.address_key(given_address)) THEN
        limits[2] := 2147483647;
    END IF;
    retry_after := bore.throttle_take(keys, limits);
    IF retry_after > 0 THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM bore.login_throttle JOIN unnest(keys, limits) AS bound (key, most) USING (key)
               WHERE failures = most) THEN
        PERFORM bore.audit_add(NULL, 'login.throttled', left(given_email, 320), given_address,
                               'the last attempt allowed within 15 minutes');
    END IF;
    user_id := CASE WHEN NOT account.disabled THEN account.id END;
    password_hash := account.password_hash;
END $$;

-- The password was right. No row when the account changed meanwhile. renewed_hash may be NULL.
CREATE FUNCTION bore.login_finish(account text, verified_hash text, renewed_hash text, refresh_hash text,
                                  refresh_ttl_ms bigint, token_ttl_ms bigint, most_sessions integer, address text,
                                  user_agent text) RETURNS SETOF bore.signed_in
    LANGUAGE plpgsql AS $$
DECLARE
    owner bore.users;
BEGIN
    UPDATE bore.users SET last_login_at = clock_timestamp(), password_hash = coalesce(renewed_hash, password_hash)
    WHERE id = account AND password_hash = verified_hash AND NOT disabled
    RETURNING * INTO owner;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM bore.login_succeeded(owner.email, address);
    PERFORM bore.audit_add(owner.id, 'login', owner.id, address);
    RETURN NEXT bore.session_open(owner, refresh_hash, refresh_ttl_ms, token_ttl_ms, most_sessions, address,
                                  user_agent);
END $$;

-- ---- sign-up --------------------------------------------------------------------------------------------------------

-- What stands against this e-mail: 'exists'; 'replay' (this key made this account from the same request within 24
-- hours), 'conflict' (from another one); NULL: nothing. The password is no part of the request's hash: it is verified.
CREATE FUNCTION bore.signup_obstacle(given_name text, given_email text, idempotency_key text) RETURNS text
    LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN earlier.request_hash IS NULL THEN 'exists'
                WHEN earlier.request_hash = bore.text_hash(given_name) THEN 'replay'
                ELSE 'conflict' END
    FROM bore.users LEFT JOIN bore.idempotency AS earlier
        ON earlier.scope = 'signup:' || bore.text_hash(lower(given_email)) AND earlier.key = idempotency_key
            AND earlier.answer_id = users.id AND earlier.created_at > clock_timestamp() - interval '24 hours'
    WHERE lower(users.email) = lower(given_email);
$$;

-- Counts an attempt to sign up, before a password hash is computed for it.
CREATE FUNCTION bore.signup_begin(given_name text, given_email text, idempotency_key text, address text,
                                  per_address integer, OUT retry_after integer, OUT outcome text)
    LANGUAGE plpgsql AS $$
BEGIN
    retry_after := bore.throttle_take(ARRAY ['signup:' || bore.address_key(address)], ARRAY [per_address]);
    IF retry_after = 0 THEN
        outcome := coalesce(bore.signup_obstacle(given_name, given_email, idempotency_key), 'new');
    END IF;
END $$;

-- Makes the account and its first session.
CREATE FUNCTION bore.signup_finish(given_name text, given_email text, hash text, idempotency_key text,
                                   refresh_hash text, refresh_ttl_ms bigint, token_ttl_ms bigint,
                                   most_sessions integer, address text, user_agent text) RETURNS bore.signed_in
    LANGUAGE plpgsql AS $$
DECLARE
    owner  bore.users;
    answer bore.signed_in;
BEGIN
    INSERT INTO bore.users (id, email, name, password_hash, plan, plan_expires, last_login_at)
    VALUES (bore.new_id('user'), given_email, given_name, hash, 'trial', clock_timestamp() + interval '24 hours',
            clock_timestamp())
    ON CONFLICT (lower(email)) DO NOTHING
    RETURNING * INTO owner;
    IF NOT FOUND THEN
        answer.outcome := coalesce(bore.signup_obstacle(given_name, given_email, idempotency_key), 'exists');
        RETURN answer;
    END IF;
    INSERT INTO bore.idempotency (scope, key, request_hash, answer_id)
    SELECT 'signup:' || bore.text_hash(lower(given_email)), idempotency_key, bore.text_hash(given_name), owner.id
    WHERE idempotency_key <> ''
    ON CONFLICT (scope, key) DO UPDATE
        SET request_hash = excluded.request_hash, answer_id = excluded.answer_id, created_at = excluded.created_at;
    PERFORM bore.audit_add(owner.id, 'signup', owner.id, address);
    RETURN bore.session_open(owner, refresh_hash, refresh_ttl_ms, token_ttl_ms, most_sessions, address, user_agent);
END $$;

-- ---- the account ----------------------------------------------------------------------------------------------------

-- As login_begin, for somebody signed in who must prove the password once more. No row: the account is gone.
CREATE FUNCTION bore.password_begin(account text, address text, per_account integer, per_address integer)
    RETURNS TABLE (retry_after integer, user_id text, password_hash text)
    LANGUAGE sql VOLATILE AS $$
    SELECT attempt.* FROM bore.users, bore.login_begin(users.email, address, per_account, per_address) AS attempt
    WHERE users.id = account;
$$;

-- The present password was right. No row when the account changed meanwhile.
CREATE FUNCTION bore.password_change(account text, verified_hash text, new_hash text, kept_session text, address text)
    RETURNS TABLE (success boolean, events text)
    LANGUAGE plpgsql AS $$
DECLARE
    owner bore.users;
BEGIN
    UPDATE bore.users SET password_hash = new_hash, updated_at = clock_timestamp()
    WHERE id = account AND password_hash = verified_hash AND NOT disabled
    RETURNING * INTO owner;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM bore.login_succeeded(owner.email, address);
    PERFORM bore.audit_add(account, 'password.changed', account, address);
    RETURN QUERY SELECT true, bore.announce(NULL, bore.revoke_user_sessions(account, kept_session),
                                            'the password was changed');
END $$;

-- Takes a plan by oneself. Never shortens or lowers what the user has: that is a conflict, or the later end.
CREATE FUNCTION bore.claim_plan(account text, wanted text, pro_self_service boolean, address text,
                                OUT success boolean, OUT plan text, OUT expires_at bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    owner bore.users;
    ends  timestamptz;
    runs  boolean;
BEGIN
    SELECT * INTO owner FROM bore.users WHERE id = account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM bore.refuse('unauthorized');
    ELSIF wanted NOT IN ('trial', 'pro') THEN
        PERFORM bore.refuse('invalid_plan');
    ELSIF wanted = 'pro' AND NOT pro_self_service THEN
        PERFORM bore.refuse('forbidden', 'An administrator assigns this plan.');
    ELSIF wanted = 'trial' AND owner.trial_claimed THEN
        PERFORM bore.refuse('trial_used');
    END IF;
    runs := owner.plan_expires IS NULL OR owner.plan_expires > clock_timestamp();
    IF runs AND (owner.plan = 'enterprise' OR (owner.plan = 'pro' AND wanted = 'trial')) THEN
        PERFORM bore.refuse('conflict', format('Your plan %s is better and has not expired.', owner.plan));
    END IF;
    ends := clock_timestamp() + CASE wanted WHEN 'trial' THEN interval '24 hours' ELSE interval '30 days' END;
    IF runs AND owner.plan = wanted THEN
        ends := CASE WHEN owner.plan_expires IS NULL THEN NULL ELSE greatest(owner.plan_expires, ends) END;
    END IF;
    UPDATE bore.users SET plan = wanted, plan_expires = ends, trial_claimed = trial_claimed OR wanted = 'trial',
        updated_at = clock_timestamp()
    WHERE id = account;
    PERFORM bore.audit_add(account, 'plan.claimed', account, address, wanted);
    success := true;
    plan := wanted;
    expires_at := bore.ms(ends);
END $$;
