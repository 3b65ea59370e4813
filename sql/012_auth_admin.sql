-- 012_auth_admin.sql: what admins do with users, the first admin, the audit log, and housekeeping.
--
-- Whoever calls is checked here, against what holds now, whatever the token says. Who is an admin is changed by one
-- transaction at a time (an advisory lock, before all others), so that two cannot remove each other's last one.

-- Refuses unless the caller is an admin who is not disabled.
CREATE FUNCTION bore.require_admin(account text) RETURNS void
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM bore.users WHERE id = account AND is_admin AND NOT disabled) THEN
        PERFORM bore.refuse('forbidden', 'Only admins may do this.');
    END IF;
END $$;

-- Locks caller and target, checks both, answers the target.
CREATE FUNCTION bore.admin_target(admin text, target text) RETURNS bore.users
    LANGUAGE plpgsql AS $$
DECLARE
    found_user bore.users;
BEGIN
    PERFORM bore.lock_users(admin, target);
    PERFORM bore.require_admin(admin);
    SELECT * INTO found_user FROM bore.users WHERE id = target;
    IF NOT FOUND THEN
        PERFORM bore.refuse('user_not_found');
    END IF;
    RETURN found_user;
END $$;

-- Users as admins see them.
CREATE VIEW bore.admin_users AS
    SELECT users.id, users.email, users.name, users.plan, bore.ms(users.plan_expires) AS plan_expires, users.is_admin,
           users.disabled, bore.ms(users.created_at) AS created_at, bore.ms(users.last_login_at) AS last_login_at,
           owned.instances, owned.active_tunnels
    FROM bore.users CROSS JOIN LATERAL (
        SELECT count(*) AS instances, count(*) FILTER (WHERE phase = 'connected') AS active_tunnels
        FROM bore.instances WHERE instances.user_id = users.id) AS owned;

CREATE FUNCTION bore.admin_user_json(target text) RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT row_to_json(admin_users)::text FROM bore.admin_users WHERE id = target);

-- All users whose id is q or whose e-mail or name contains it, newest first.
CREATE FUNCTION bore.admin_user_list(admin text, q text, most integer, mark text)
    RETURNS TABLE (total bigint, next_cursor text, id text, email text, name text, plan text, plan_expires bigint,
                   is_admin boolean, disabled boolean, created_at bigint, last_login_at bigint, instances bigint,
                   active_tunnels bigint)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    after record := bore.page_at(mark);
BEGIN
    PERFORM bore.require_admin(admin);
    RETURN QUERY
        WITH matching AS (
            SELECT users.id, users.created_at FROM bore.users
            WHERE coalesce(q, '') = '' OR users.id = q OR position(lower(q) IN lower(users.email)) > 0
               OR position(lower(q) IN lower(users.name)) > 0),
        page AS (
            SELECT matching.id, matching.created_at,
                   row_number() OVER (ORDER BY matching.created_at DESC, matching.id DESC) AS place
            FROM matching WHERE (matching.created_at, matching.id) < (after.at, after.id)
            ORDER BY matching.created_at DESC, matching.id DESC LIMIT most + 1)
        SELECT (SELECT count(*) FROM matching),
               (SELECT bore.page_mark(last.created_at, last.id) FROM page AS last
                WHERE last.place = most AND EXISTS (SELECT 1 FROM page AS further WHERE further.place > most)),
               seen.*
        FROM (SELECT 1) AS always
        LEFT JOIN (page JOIN bore.admin_users AS seen USING (id)) ON page.place <= most
        ORDER BY page.place;
END $$;

-- make-admin, remove-admin, disable, enable, revoke-sessions and delete.
CREATE FUNCTION bore.admin_user_action(admin text, target text, wanted text, address text,
                                       OUT success boolean, OUT "user" text, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    touched bore.users;
    entries bore.new_event[];
    revoked bore.revocation[];
    why     text := 'an admin ended the session';
BEGIN
    PERFORM pg_advisory_xact_lock(x'626f7265'::int, 11);
    touched := bore.admin_target(admin, target);
    IF wanted IN ('remove-admin', 'disable', 'delete') AND touched.is_admin AND NOT EXISTS (
        SELECT 1 FROM bore.users WHERE is_admin AND NOT disabled AND id <> target) THEN
        PERFORM bore.refuse('last_admin');
    END IF;
    PERFORM bore.audit_add(admin, 'admin.' || wanted, target, address, touched.email);
    CASE wanted
        WHEN 'make-admin' THEN
            UPDATE bore.users SET is_admin = true, updated_at = clock_timestamp() WHERE id = target;
        WHEN 'remove-admin' THEN
            UPDATE bore.users SET is_admin = false, updated_at = clock_timestamp() WHERE id = target;
        WHEN 'enable' THEN
            UPDATE bore.users SET disabled = false, updated_at = clock_timestamp() WHERE id = target;
        WHEN 'disable' THEN
            UPDATE bore.users SET disabled = true, updated_at = clock_timestamp() WHERE id = target;
            why := 'the account was disabled';
            revoked := bore.revoke_user_sessions(target);
        WHEN 'revoke-sessions' THEN
            revoked := bore.revoke_user_sessions(target);
        WHEN 'delete' THEN
            why := 'the account was deleted';
            revoked := bore.revoke_user_sessions(target);
            entries := bore.remove_user(target);
        ELSE
            PERFORM bore.refuse('not_found');
    END CASE;
    success := true;
    "user" := bore.admin_user_json(target);
    events := bore.announce(entries, revoked, why);
END $$;

-- Deletes a locked user with all that hangs on it, tunnels closed first (bore.instance_close); answers the events to
-- append.
CREATE FUNCTION bore.remove_user(target text) RETURNS bore.new_event[]
    LANGUAGE plpgsql AS $$
DECLARE
    now     timestamptz;
    owned   bore.instances;
    entries bore.new_event[];
BEGIN
    PERFORM 1 FROM bore.users WHERE id = target FOR UPDATE;
    PERFORM 1 FROM bore.usage_sessions WHERE user_id = target ORDER BY id FOR UPDATE;
    PERFORM 1 FROM bore.instances WHERE user_id = target ORDER BY id FOR UPDATE;
    now := bore.clock();
    FOR owned IN SELECT * FROM bore.instances WHERE user_id = target ORDER BY id LOOP
        entries := entries || bore.instance_close(owned.id, 'the account was deleted', now)
            || ROW ('instance.deleted', target, owned.id,
                    jsonb_build_object('name', owned.name, 'status', owned.status, 'reason', owned.status_reason),
                    now)::bore.new_event;
    END LOOP;
    DELETE FROM bore.users WHERE id = target;
    RETURN entries;
END $$;

-- A plan by an admin's hand. Days: trial 1, pro 30, enterprise without end, unless given.
CREATE FUNCTION bore.admin_set_plan(admin text, target text, wanted text, days integer, address text,
                                    OUT success boolean, OUT "user" text)
    LANGUAGE plpgsql AS $$
DECLARE
    touched bore.users := bore.admin_target(admin, target);
    lasts   integer := coalesce(days, CASE wanted WHEN 'trial' THEN 1 WHEN 'pro' THEN 30 END);
BEGIN
    IF NOT EXISTS (SELECT 1 FROM bore.plans WHERE name = wanted) THEN
        PERFORM bore.refuse('invalid_plan', 'There is no such plan.');
    END IF;
    UPDATE bore.users SET plan = wanted, plan_expires = clock_timestamp() + make_interval(days => lasts),
        updated_at = clock_timestamp()
    WHERE id = touched.id;
    PERFORM bore.audit_add(admin, 'admin.plan', target, address, concat_ws(' ', wanted, lasts || ' days'));
    success := true;
    "user" := bore.admin_user_json(target);
END $$;

-- A one-time password, made by the caller, takes the place of the present one; every session ends.
CREATE FUNCTION bore.admin_reset_password(admin text, target text, new_hash text, address text,
                                          OUT success boolean, OUT events text)
    LANGUAGE plpgsql AS $$
DECLARE
    touched bore.users := bore.admin_target(admin, target);
BEGIN
    UPDATE bore.users SET password_hash = new_hash, updated_at = clock_timestamp() WHERE id = touched.id;
    PERFORM bore.audit_add(admin, 'admin.reset-password', target, address, touched.email);
    success := true;
    events := bore.announce(NULL, bore.revoke_user_sessions(target), 'an admin reset the password');
END $$;

-- The audit log, newest first; a cursor is the id of the last entry seen.
CREATE FUNCTION bore.admin_audit(admin text, most integer, mark text)
    RETURNS TABLE (id bigint, at bigint, actor_id text, actor_email text, action text, target text, address text,
                   details text, next_cursor text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    PERFORM bore.require_admin(admin);
    IF mark !~ '^[0-9]{1,18}$' THEN
        PERFORM bore.refuse('validation_error', 'is not a cursor of this list', 'cursor');
    END IF;
    RETURN QUERY
        WITH page AS (
            SELECT * FROM bore.audit WHERE mark IS NULL OR id < mark::bigint ORDER BY id DESC LIMIT most + 1)
        SELECT id, bore.ms(at), actor_id, actor_email, action, target, address, details,
               CASE WHEN (SELECT count(*) FROM page) > most
                    THEN (SELECT id::text FROM page ORDER BY id DESC OFFSET most - 1 LIMIT 1) END
        FROM page ORDER BY id DESC LIMIT most;
END $$;

-- The first admin. Answers 'present', 'promoted', 'created', or 'absent' when there is no such account and no hash to
-- make it with. An existing account keeps its password, name and plan.
CREATE FUNCTION bore.ensure_admin(given_email text, given_name text, hash text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    account bore.users;
BEGIN
    INSERT INTO bore.users (id, email, name, password_hash, plan, plan_expires, is_admin)
    SELECT bore.new_id('user'), given_email, given_name, hash, 'enterprise', NULL, true WHERE hash IS NOT NULL
    ON CONFLICT (lower(email)) DO NOTHING
    RETURNING * INTO account;
    IF FOUND THEN
        PERFORM bore.audit_add(NULL, 'admin.created', account.id, NULL, given_email);
        RETURN 'created';
    END IF;
    SELECT * INTO account FROM bore.users WHERE lower(email) = lower(given_email) FOR NO KEY UPDATE;
    IF NOT FOUND OR account.is_admin THEN
        RETURN CASE WHEN account.is_admin THEN 'present' ELSE 'absent' END;
    END IF;
    UPDATE bore.users SET is_admin = true, updated_at = clock_timestamp() WHERE id = account.id;
    PERFORM bore.audit_add(NULL, 'admin.promoted', account.id, NULL, given_email);
    RETURN 'promoted';
END $$;

-- ---- housekeeping ---------------------------------------------------------------------------------------------------

-- Deletes what has no meaning any more, at most so many rows of each kind; answers how many. One caller at a time: the
-- others answer 0.
CREATE FUNCTION bore.auth_sweep(most integer) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    now   timestamptz := clock_timestamp();
    total integer := 0;
    gone  integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(x'626f7265'::int, 10) THEN
        RETURN 0;
    END IF;
    DELETE FROM bore.refresh_tokens WHERE token_hash IN (
        SELECT token_hash FROM bore.refresh_tokens WHERE expires_at < now LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.sessions WHERE id IN (
        SELECT id FROM bore.sessions
        WHERE revoked_at < now - interval '1 day'
           OR (expires_at < now - interval '1 day' AND token_expires_at < now - interval '1 day')
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.revoked_sessions WHERE session_id IN (
        SELECT session_id FROM bore.revoked_sessions WHERE expires_at < now LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.login_throttle WHERE key IN (
        SELECT key FROM bore.login_throttle WHERE window_start < now - bore.throttle_window()
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    DELETE FROM bore.idempotency WHERE (scope, key) IN (
        SELECT scope, key FROM bore.idempotency WHERE created_at < now - interval '24 hours'
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END $$;
