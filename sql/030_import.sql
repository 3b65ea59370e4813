-- 030_import.sql: users and instances of an older installation, from the tables `users` and `instances` of the schema
-- public in the same database, which are only read.
--
-- Their columns differ from version to version. So each row is read as JSON, with names in lower case and without
-- underscores (user_id, userId: `userid`), and a value is the first that is there of its likely names. Whatever has no
-- sane value is named and skipped; times without a zone are UTC. What was copied is remembered, so that a second run
-- adds only what is new, and never brings back what was deleted since.

CREATE TABLE bore.imported (
    kind        text NOT NULL CHECK (kind IN ('user', 'instance')),
    old_id      text NOT NULL,
    new_id      text NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT now(), -- the same in all rows of one run
    PRIMARY KEY (kind, old_id)
);
CREATE INDEX imported_new ON bore.imported (new_id);

-- ---- values --------------------------------------------------------------------------------------------------------

CREATE FUNCTION bore.older_name(name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    RETURN replace(lower(name), '_', '');

CREATE FUNCTION bore.older_row(given jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT
    RETURN (SELECT jsonb_object_agg(bore.older_name(key), value) FROM jsonb_each(given));

-- The first of these that has more than blanks.
CREATE FUNCTION bore.older_text(older jsonb, VARIADIC names text[]) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN (SELECT btrim(older ->> name) FROM unnest(names) WITH ORDINALITY AS likely (name, place)
            WHERE btrim(older ->> name) <> '' ORDER BY place LIMIT 1);

-- One line of at most so many characters.
CREATE FUNCTION bore.older_line(given text, most integer) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN left(nullif(btrim(regexp_replace(given, '[[:cntrl:]]+', ' ', 'g')), ''), most);

CREATE FUNCTION bore.older_port(given text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN given ~ '^[0-9]{1,5}$' AND given::integer BETWEEN 1 AND 65535 THEN given::integer END;

CREATE FUNCTION bore.older_flag(given text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN coalesce(lower(given) IN ('true', 't', 'yes', 'y', '1'), false);

-- ISO text, or seconds or milliseconds since 1970; NULL for anything else.
CREATE FUNCTION bore.older_time(given text) RETURNS timestamptz
    LANGUAGE plpgsql STABLE SET timezone = 'UTC' AS $$
BEGIN
    RETURN CASE WHEN given ~ '^[0-9]{9,11}(\.[0-9]+)?$' THEN to_timestamp(given::double precision)
                WHEN given ~ '^[0-9]{12,14}$' THEN bore.from_ms(given::bigint)
                WHEN given ~ '^[0-9]{4}-' THEN given::timestamptz END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- An old id stays when clients can go on using it: text, not a number, and nobody else's here.
CREATE FUNCTION bore.older_id(prefix text, old_id text, taken boolean) RETURNS text
    LANGUAGE sql VOLATILE
    RETURN CASE WHEN NOT taken AND old_id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{2,63}$' AND old_id ~ '[^0-9]'
                     AND old_id <> 'status-strips' -- a path of ours
                THEN old_id ELSE bore.new_id(prefix) END;

-- ---- rows ----------------------------------------------------------------------------------------------------------

-- complaint: why a row cannot be copied; NULL when it can.
CREATE FUNCTION bore.older_users()
    RETURNS TABLE (old_id text, email text, name text, password_hash text, plan text, plan_expires timestamptz,
                   trial_claimed boolean, is_admin boolean, created_at timestamptz, complaint text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH older AS (SELECT bore.older_row(to_jsonb(users)) AS row FROM public.users),
    plain AS (
        SELECT bore.older_text(row, 'id') AS old_id,
               bore.older_text(row, 'email') AS email,
               bore.older_line(bore.older_text(row, 'name', 'username', 'fullname', 'displayname'), 255) AS name,
               bore.older_text(row, 'passwordhash', 'password') AS password_hash,
               lower(bore.older_text(row, 'plan', 'plantype')) AS plan,
               bore.older_time(bore.older_text(row, 'planexpires', 'planexpiresat')) AS plan_expires,
               bore.older_flag(bore.older_text(row, 'trialclaimed', 'trialused')) AS trial_claimed,
               bore.older_flag(bore.older_text(row, 'isadmin'))
                   OR coalesce(lower(bore.older_text(row, 'role')) = 'admin', false) AS is_admin,
               bore.older_time(bore.older_text(row, 'createdat')) AS created_at
        FROM older)
    SELECT plain.old_id, plain.email, coalesce(plain.name, left(split_part(plain.email, '@', 1), 255)),
           plain.password_hash,
           CASE WHEN plain.plan IN (SELECT plans.name FROM bore.plans) THEN plain.plan ELSE 'trial' END,
           -- As a new user's; the other plans may be without end.
           CASE WHEN plain.plan_expires IS NULL AND coalesce(plain.plan, '') NOT IN ('pro', 'enterprise')
                THEN now() + interval '24 hours' ELSE plain.plan_expires END,
           plain.trial_claimed, plain.is_admin, least(coalesce(plain.created_at, now()), now()),
           CASE WHEN plain.old_id IS NULL THEN 'it has no id'
                WHEN plain.email IS NULL OR plain.email !~ '^[^@[:space:][:cntrl:]]+@[^@[:space:][:cntrl:]]+$'
                     OR octet_length(plain.email) NOT BETWEEN 3 AND 320 THEN 'its e-mail is not an address'
                -- Costs beyond 14 take longer than a sign-in may.
                WHEN coalesce(plain.password_hash, '') !~ '^\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}$'
                THEN 'its password is no bcrypt hash (cost 4 to 14)' END
    FROM plain;
END $$;

CREATE FUNCTION bore.older_instances()
    RETURNS TABLE (old_id text, old_user_id text, name text, local_port integer, region text, server_host text,
                   phase text, created_at timestamptz, complaint text)
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH older AS (SELECT bore.older_row(to_jsonb(instances)) AS row FROM public.instances),
    plain AS (
        SELECT bore.older_text(row, 'id') AS old_id,
               bore.older_text(row, 'userid') AS old_user_id,
               bore.older_line(bore.older_text(row, 'name'), 255) AS name,
               bore.older_port(bore.older_text(row, 'localport')) AS local_port,
               bore.older_line(bore.older_text(row, 'region', 'serverregion'), 100) AS region,
               bore.older_line(bore.older_text(row, 'serverhost', 'serveraddress'), 255) AS server_host,
               lower(bore.older_text(row, 'status')) AS status,
               bore.older_time(bore.older_text(row, 'createdat')) AS created_at
        FROM older)
    SELECT plain.old_id, plain.old_user_id, coalesce(plain.name, left('instance ' || plain.old_id, 255)),
           plain.local_port, coalesce(plain.region, 'local'), plain.server_host,
           -- No tunnel was reported connected here, whatever was so there; and without one there is no address.
           CASE WHEN plain.status IN ('active', 'online', 'connected', 'degraded', 'idle', 'offline', 'disconnected')
                THEN 'disconnected' WHEN plain.status = 'error' THEN 'failed' ELSE 'inactive' END,
           least(coalesce(plain.created_at, now()), now()),
           CASE WHEN plain.old_id IS NULL THEN 'it has no id'
                WHEN plain.local_port IS NULL THEN 'its local port is not 1 to 65535' END
    FROM plain;
END $$;

-- ---- the import ----------------------------------------------------------------------------------------------------

-- Refuses when there is nothing to copy from.
CREATE FUNCTION bore.require_older_tables() RETURNS void
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    missing text;
BEGIN
    IF to_regclass('public.users') IS NULL THEN
        PERFORM bore.refuse('not_found',
                            'there is no older installation in this database: it has no table public.users');
    END IF;
    SELECT string_agg(format('public.%s has no column %s that this role may read', wanted.in_table,
                             array_to_string(wanted.names, ' or ')), '; ')
    INTO missing
    FROM (VALUES ('users', ARRAY ['id']), ('users', ARRAY ['email']), ('users', ARRAY ['password_hash', 'password']),
                 ('instances', ARRAY ['id']), ('instances', ARRAY ['user_id']), ('instances', ARRAY ['local_port']))
        AS wanted (in_table, names)
    WHERE to_regclass('public.' || wanted.in_table) IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name = wanted.in_table
          AND bore.older_name(column_name) IN (SELECT bore.older_name(name) FROM unnest(wanted.names) AS name));
    IF missing IS NOT NULL THEN
        PERFORM bore.refuse('conflict', missing);
    END IF;
END $$;

-- Copies one user. outcome: 'copied', 'present' (by an earlier run), 'joined' or 'skipped' with the reason.
CREATE FUNCTION bore.import_user(older record, OUT new_id text, OUT outcome text, OUT reason text)
    LANGUAGE plpgsql AS $$
DECLARE
    account bore.users;
BEGIN
    SELECT imported.new_id INTO new_id FROM bore.imported WHERE kind = 'user' AND old_id = older.old_id;
    IF FOUND OR older.complaint IS NOT NULL THEN
        outcome := CASE WHEN FOUND THEN 'present' ELSE 'skipped' END;
        reason := CASE WHEN NOT FOUND THEN older.complaint END;
        RETURN;
    END IF;
    outcome := 'copied';
    INSERT INTO bore.users (id, email, name, password_hash, plan, plan_expires, trial_claimed, is_admin, created_at)
    VALUES (bore.older_id('user', older.old_id, EXISTS (SELECT 1 FROM bore.users WHERE id = older.old_id)),
            older.email, older.name, older.password_hash, older.plan, older.plan_expires, older.trial_claimed,
            older.is_admin, older.created_at)
    ON CONFLICT (lower(email)) DO NOTHING
    RETURNING id INTO new_id;
    IF NOT FOUND THEN
        -- Whoever signed up here with this e-mail need not be its owner; an admin made by the settings is.
        SELECT * INTO account FROM bore.users WHERE lower(email) = lower(older.email);
        IF NOT account.is_admin OR EXISTS (SELECT 1 FROM bore.imported WHERE imported.new_id = account.id) THEN
            outcome := 'skipped';
            reason := 'another account here has its e-mail';
            RETURN;
        END IF;
        new_id := account.id;
        outcome := 'joined';
        reason := 'an admin here has its e-mail, and gets its instances';
    END IF;
    INSERT INTO bore.imported (kind, old_id, new_id) VALUES ('user', older.old_id, import_user.new_id);
END $$;

-- Copies one instance.
CREATE FUNCTION bore.import_instance(older record, OUT new_id text, OUT outcome text, OUT reason text)
    LANGUAGE plpgsql AS $$
DECLARE
    owner text;
    now   timestamptz := bore.clock();
BEGIN
    SELECT imported.new_id INTO new_id FROM bore.imported WHERE kind = 'instance' AND old_id = older.old_id;
    IF FOUND THEN
        outcome := 'present';
        RETURN;
    END IF;
    -- A user who was deleted here since the first run has no instances any more.
    SELECT users.id INTO owner FROM bore.imported JOIN bore.users ON users.id = imported.new_id
    WHERE kind = 'user' AND old_id = older.old_user_id;
    reason := coalesce(older.complaint, CASE WHEN NOT FOUND THEN 'its user is not here' END);
    IF reason IS NOT NULL THEN
        outcome := 'skipped';
        RETURN;
    END IF;
    outcome := 'copied';
    new_id := bore.older_id('inst', older.old_id, EXISTS (SELECT 1 FROM bore.instances WHERE id = older.old_id));
    INSERT INTO bore.instances (id, user_id, name, local_port, region, server_host, created_at, updated_at, phase,
                                phase_reason, phase_since, status, status_reason, status_since)
    SELECT import_instance.new_id, owner, older.name, older.local_port, older.region, older.server_host,
           older.created_at, now, older.phase, 'imported', now, state.status, state.reason, now
    FROM bore.instance_status(older.phase, 'imported', false, false, NULL, NULL, NULL, now, interval '1 hour') AS state;
    INSERT INTO bore.status_history (instance_id, status, reason, at)
    SELECT id, status, status_reason, status_since FROM bore.instances WHERE id = import_instance.new_id;
    INSERT INTO bore.imported (kind, old_id, new_id) VALUES ('instance', older.old_id, import_instance.new_id);
END $$;

-- Copies all that is not here yet, in one transaction; answers what became of each old row. One caller at a time.
CREATE FUNCTION bore.import_older()
    RETURNS TABLE (kind text, old_id text, new_id text, outcome text, reason text)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    older record;
BEGIN
    PERFORM bore.require_older_tables();
    PERFORM pg_advisory_xact_lock(x'626f7265'::int, 30);
    FOR older IN SELECT * FROM bore.older_users() ORDER BY created_at, old_id LOOP
        RETURN QUERY SELECT 'user', bore.older_line(older.old_id, 64), copy.* FROM bore.import_user(older) AS copy;
    END LOOP;
    IF to_regclass('public.instances') IS NOT NULL THEN
        FOR older IN SELECT * FROM bore.older_instances() ORDER BY created_at, old_id LOOP
            RETURN QUERY SELECT 'instance', bore.older_line(older.old_id, 64), copy.*
                         FROM bore.import_instance(older) AS copy;
        END LOOP;
    END IF;
    INSERT INTO bore.audit (action, details)
    SELECT 'import', string_agg(format('%s %ss', copied, kind), ', ' ORDER BY kind DESC)
    FROM (SELECT kind, count(*) AS copied FROM bore.imported WHERE imported_at = now() GROUP BY kind) AS sums
    HAVING count(*) > 0;
    PERFORM bore.append_events(ARRAY (
        SELECT ROW ('instance.created', user_id, id,
                    jsonb_build_object('name', name, 'status', status, 'reason', status_reason), NULL)::bore.new_event
        FROM bore.instances JOIN bore.imported ON kind = 'instance' AND new_id = id
        WHERE imported_at = now() ORDER BY created_at, id));
END $$;
