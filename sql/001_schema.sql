-- 001_schema.sql: every table of the domain, in the schema `bore`.
--
-- An older installation's tables in the same database (schema public) are left alone. Times are timestamptz; what leaves
-- the database is milliseconds (bore.ms). Secrets are kept as SHA-256 in hex, passwords as bcrypt.
-- No index touches a column that every heartbeat writes, and hot tables leave room in their pages, so that heartbeats
-- stay heap-only (HOT) updates.

-- Whole milliseconds since the Unix epoch. STABLE as extract() of a timestamptz is: declared any stricter it would not be
-- inlined, and a list of instances would take twice as long.
CREATE FUNCTION bore.ms(moment timestamptz) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN floor(extract(epoch FROM moment) * 1000)::bigint;

CREATE FUNCTION bore.from_ms(milliseconds bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN to_timestamp(milliseconds / 1000.0);

CREATE FUNCTION bore.duration(milliseconds bigint) RETURNS interval
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN make_interval(secs => milliseconds / 1000.0);

-- The time, here and now: every function of instances and tunnels asks this one, so that a test may let hours pass.
CREATE FUNCTION bore.clock() RETURNS timestamptz
    LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN clock_timestamp();

-- A fresh id: prefix and 24 hex digits of a random UUID (94 of its bits are random).
CREATE FUNCTION bore.new_id(prefix text) RETURNS text
    LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
    RETURN prefix || '_' || right(replace(gen_random_uuid()::text, '-', ''), 12)
                  || left(replace(gen_random_uuid()::text, '-', ''), 12);

-- Refuses: `code` is a wire code of errors.def, `sentence` is for a person, `field` names the field of a validation_error.
CREATE FUNCTION bore.refuse(code text, sentence text DEFAULT '', field text DEFAULT '') RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'BE000', MESSAGE = code, DETAIL = sentence, COLUMN = field;
END $$;

CREATE TABLE bore.plans (
    name                   text PRIMARY KEY,
    max_concurrent_tunnels integer NOT NULL CHECK (max_concurrent_tunnels >= 0),
    max_bandwidth_gb       integer NOT NULL CHECK (max_bandwidth_gb >= 0)
);
INSERT INTO bore.plans VALUES ('trial', 1, 10), ('pro', 5, 100), ('enterprise', 20, 999);

CREATE TABLE bore.users (
    id            text PRIMARY KEY,
    email         text NOT NULL CHECK (char_length(email) BETWEEN 3 AND 320),
    name          text NOT NULL CHECK (char_length(name) <= 255),
    password_hash text NOT NULL,
    plan          text NOT NULL DEFAULT 'trial' REFERENCES bore.plans,
    plan_expires  timestamptz,                    -- NULL: never
    trial_claimed boolean NOT NULL DEFAULT false, -- by claim-plan; the one that signup gives is not counted
    is_admin      boolean NOT NULL DEFAULT false,
    disabled      boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_login_at timestamptz,
    -- what the tunnels carried in this calendar month (UTC); of another month it counts as nothing
    bandwidth_month date,
    bandwidth_bytes bigint NOT NULL DEFAULT 0 CHECK (bandwidth_bytes >= 0)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX users_email ON bore.users (lower(email));
CREATE INDEX users_newest ON bore.users (created_at DESC, id DESC);
CREATE INDEX users_admins ON bore.users (id) WHERE is_admin;

-- Where a user is signed in: one family of refresh tokens, and the JWTs issued to it.
CREATE TABLE bore.sessions (
    id               text PRIMARY KEY,
    user_id          text NOT NULL REFERENCES bore.users ON DELETE CASCADE,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at       timestamptz NOT NULL, -- of the newest refresh token
    token_expires_at timestamptz NOT NULL, -- no JWT issued to it is valid after this, whatever JWT_TTL_SECONDS was then
    address          text,
    user_agent       text,
    revoked_at       timestamptz
);
CREATE INDEX sessions_user ON bore.sessions (user_id, created_at DESC, id DESC);
CREATE INDEX sessions_expires ON bore.sessions (expires_at);
CREATE INDEX sessions_revoked ON bore.sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE bore.refresh_tokens (
    token_hash text PRIMARY KEY CHECK (length(token_hash) = 64),
    session_id text NOT NULL REFERENCES bore.sessions ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_session ON bore.refresh_tokens (session_id, created_at);
CREATE INDEX refresh_tokens_expires ON bore.refresh_tokens (expires_at);

-- Sessions whose JWTs are void although not expired. Kept without a foreign key: a deleted user's tokens stay void.
-- event_id is the event that announced it: gapless, in commit order, and independent of how long the log is kept.
CREATE TABLE bore.revoked_sessions (
    session_id text PRIMARY KEY,
    user_id    text NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL, -- no JWT of it can be valid after this
    event_id   bigint NOT NULL
);
CREATE INDEX revoked_sessions_event ON bore.revoked_sessions (event_id);
CREATE INDEX revoked_sessions_expires ON bore.revoked_sessions (expires_at);

-- Attempts by key within a window (010_auth.sql): "address:…", "email:<sha256>", "pair:<sha256>:…", "signup:…".
CREATE TABLE bore.login_throttle (
    key          text PRIMARY KEY,
    failures     integer NOT NULL DEFAULT 0,
    window_start timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
CREATE INDEX login_throttle_window ON bore.login_throttle (window_start);

CREATE TABLE bore.audit (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_id    text,
    actor_email text,
    action      text NOT NULL,
    target      text,
    address     text,
    details     text
);

-- First answers of requests that carried an Idempotency-Key, for 24 h.
CREATE TABLE bore.idempotency (
    scope        text NOT NULL, -- 'instance:<user id>' or 'signup:<sha256 of e-mail>'
    key          text NOT NULL CHECK (char_length(key) <= 255),
    request_hash text NOT NULL,
    answer_id    text NOT NULL, -- the id of what the first request made
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_created ON bore.idempotency (created_at);

CREATE TABLE bore.servers (
    id               text PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 255),
    host             text NOT NULL,
    port             integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    region           text NOT NULL DEFAULT 'local',
    max_tunnels      integer NOT NULL DEFAULT 100 CHECK (max_tunnels >= 0),
    active           boolean NOT NULL DEFAULT true,
    registered_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_expires_at timestamptz NOT NULL,      -- as it was told
    lease_covered    bigint NOT NULL DEFAULT 0  -- when it really ends, in covered time (sql/040)
) WITH (fillfactor = 70);

-- The evidence of a tunnel, its strongest tier, is `phase`: see 003_status.sql.
CREATE TABLE bore.instances (
    id                  text PRIMARY KEY,
    user_id             text NOT NULL REFERENCES bore.users ON DELETE CASCADE,
    name                text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    local_port          integer NOT NULL CHECK (local_port BETWEEN 1 AND 65535),
    region              text NOT NULL DEFAULT 'local' CHECK (char_length(region) <= 100),
    pinned_host         text,     -- the bore-server that its user named at creation
    server_host         text,     -- where the present token, or the last one, is to be used
    assigned_server     text,     -- servers.id, or NULL for a bore-server that does not register
    remote_port         integer CHECK (remote_port BETWEEN 0 AND 65535), -- of the tunnel that is open
    public_url          text,                                            -- likewise
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- evidence
    phase               text NOT NULL DEFAULT 'inactive'
                        CHECK (phase IN ('inactive', 'starting', 'failed', 'connected', 'disconnected')),
    phase_reason        text NOT NULL DEFAULT 'created',
    phase_since         timestamptz NOT NULL DEFAULT clock_timestamp(),
    server_reported     boolean NOT NULL DEFAULT false, -- since the last token: the client's word no longer counts
    current_session     text,                           -- tunnel_sessions.id: the open one that decides the phase
    heartbeat_session   boolean NOT NULL DEFAULT false, -- one came in this tunnel session
    silent              boolean NOT NULL DEFAULT false, -- they stopped for longer than HEARTBEAT_TIMEOUT_SECONDS
    has_code_server     boolean,
    vscode_responsive   boolean,
    -- the status that follows from it (bore.instance_status), written by bore.settle alone
    status              text NOT NULL DEFAULT 'inactive'
                        CHECK (status IN ('inactive', 'starting', 'active', 'online', 'degraded', 'idle', 'offline', 'error')),
    status_reason       text NOT NULL DEFAULT 'created',
    status_since        timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 60);
CREATE INDEX instances_user ON bore.instances (user_id, created_at DESC, id DESC);
CREATE INDEX instances_newest ON bore.instances (created_at DESC, id DESC);

-- The instances in the phase 'starting'. Apart, because each connect and each tunnel that opens changes it: a column with
-- an index would make these write every index of bore.instances.
CREATE TABLE bore.waiting (
    instance_id text PRIMARY KEY,
    due         bigint NOT NULL -- the covered time when the rules of time look at it (sql/042)
) WITH (fillfactor = 50);

-- The last heartbeat of each instance that ever sent one. What every heartbeat writes stands here, in a narrow row: one
-- look at each of 100,000 takes some milliseconds, so nobody must be told when to look (sql/042).
CREATE TABLE bore.heartbeats (
    covered       bigint NOT NULL,      -- when it was heard, in covered time (sql/040)
    at            timestamptz NOT NULL, -- and by the clock
    watched       boolean NOT NULL,     -- false: its silence has been noticed
    inactive      boolean NOT NULL,     -- no activity for longer than IDLE_TIMEOUT_SECONDS: has been noticed
    samples       bigint NOT NULL,      -- how many there were; the next one's slot in health_metrics follows
    last_activity bigint,               -- Unix seconds, the client's word in this tunnel session
    cpu_usage     double precision,
    memory_usage  double precision,
    instance_id   text PRIMARY KEY,
    -- what bore.settle copies here, so that a heartbeat that changes nothing needs not look at its instance (sql/041)
    owner         text,
    steady        text,                 -- its status; NULL while more than heartbeats decide it: no tunnel, or silent
    vscode        boolean,
    code          boolean
) WITH (fillfactor = 80);

CREATE TABLE bore.tunnel_tokens (
    token_hash  text PRIMARY KEY CHECK (length(token_hash) = 64),
    instance_id text NOT NULL,
    user_id     text NOT NULL,
    server_id   text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz, -- first successful validate-key
    session_id  text,        -- tunnel_sessions.id: the pending session that the last one opened
    revoked_at  timestamptz
) WITH (fillfactor = 80);
CREATE INDEX tunnel_tokens_instance ON bore.tunnel_tokens (instance_id);
CREATE INDEX tunnel_tokens_expires ON bore.tunnel_tokens (expires_at);
CREATE INDEX tunnel_tokens_unused ON bore.tunnel_tokens (user_id) WHERE used_at IS NULL AND revoked_at IS NULL;
CREATE INDEX tunnel_tokens_server ON bore.tunnel_tokens (server_id)
    WHERE used_at IS NULL AND revoked_at IS NULL AND server_id IS NOT NULL;

-- One tunnel of an instance, as far as it is known (022_registry_sessions.sql). A session that ended before it was heard
-- to begin is `cancelled`; it stays one when its late `connected` arrives.
CREATE TABLE bore.tunnel_sessions (
    id                text PRIMARY KEY,
    instance_id       text NOT NULL,
    user_id           text NOT NULL,
    state             text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'open', 'closed', 'cancelled')),
    token_hash        text,
    server_id         text,
    remote_port       integer CHECK (remote_port BETWEEN 0 AND 65535),
    public_url        text,
    external_id       text,        -- what its bore-server calls it
    sequence          bigint,      -- or numbers it
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(), -- last validated, or else first heard of
    validated_at      timestamptz, -- NULL: announced by `connected` alone
    attempts          smallint NOT NULL DEFAULT 1,    -- how often its token was validated while it was pending
    connected_at      timestamptz, -- when `connected` was first heard
    closed_at         timestamptz,
    live              boolean NOT NULL DEFAULT true CHECK (live = (closed_at IS NULL)), -- pending or open
    closed_by         text CHECK (closed_by IN ('report', 'proof', 'user', 'replaced', 'lease')),
    close_reason      text,
    disconnects       smallint NOT NULL DEFAULT 0,    -- copies of its `disconnected` that were heard
    disconnect_at     timestamptz,                    -- when the last of them was
    doubtful_port     boolean NOT NULL DEFAULT false, -- its `connected` may have been a late copy of another's
    doubtful_until    timestamptz,                    -- it may have been another one that ended
    bytes_in          bigint CHECK (bytes_in >= 0),
    bytes_out         bigint CHECK (bytes_out >= 0),
    bytes_transferred bigint CHECK (bytes_transferred >= 0),
    validated_covered bigint       -- when it was validated, in covered time (sql/040)
) WITH (fillfactor = 70);
CREATE INDEX tunnel_sessions_instance ON bore.tunnel_sessions (instance_id, created_at DESC, id DESC);
CREATE INDEX tunnel_sessions_recent ON bore.tunnel_sessions (instance_id, closed_at DESC NULLS FIRST);
-- Live ones by a column of their own: by `state`, a pending one could not open by a heap-only update; by closed_at, the
-- planner of an empty database would rather read all of the index above.
CREATE INDEX tunnel_sessions_live ON bore.tunnel_sessions (user_id) WHERE live;
CREATE INDEX tunnel_sessions_server ON bore.tunnel_sessions (server_id) WHERE live AND server_id IS NOT NULL;
CREATE INDEX tunnel_sessions_doubtful ON bore.tunnel_sessions (doubtful_until) WHERE doubtful_until IS NOT NULL;

-- What tunnel/start, usage and end tell: joined to a tunnel session by (user, server, public port), which may be heard
-- of later. Outlives its instance, because the bytes are its user's.
CREATE TABLE bore.usage_sessions (
    id                text PRIMARY KEY,
    user_id           text NOT NULL REFERENCES bore.users ON DELETE CASCADE,
    server_id         text NOT NULL,
    public_port       integer NOT NULL,
    local_port        integer NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at          timestamptz,
    tunnel_session    text REFERENCES bore.tunnel_sessions ON DELETE SET NULL,
    bytes_in          bigint,
    bytes_out         bigint,
    bytes_transferred bigint
) WITH (fillfactor = 70);
CREATE INDEX usage_sessions_port ON bore.usage_sessions (user_id, public_port, started_at DESC);
CREATE INDEX usage_sessions_tunnel ON bore.usage_sessions (tunnel_session) WHERE tunnel_session IS NOT NULL;
CREATE INDEX usage_sessions_ended ON bore.usage_sessions (ended_at) WHERE ended_at IS NOT NULL;

-- Tunnels that registered bore-servers shall close, because a user disconnected or deleted the instance.
CREATE TABLE bore.pending_closes (
    server_id   text NOT NULL REFERENCES bore.servers ON DELETE CASCADE,
    instance_id text NOT NULL, -- may be gone
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (server_id, instance_id)
);
CREATE INDEX pending_closes_instance ON bore.pending_closes (instance_id);

CREATE TABLE bore.status_history (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id text NOT NULL,
    status      text NOT NULL,
    reason      text NOT NULL,
    at          timestamptz NOT NULL
);
CREATE INDEX status_history_instance ON bore.status_history (instance_id, at DESC, id DESC);

-- The last 1000 samples of an instance: a ring, written in place.
CREATE TABLE bore.health_metrics (
    instance_id       text NOT NULL,
    slot              smallint NOT NULL CHECK (slot BETWEEN 0 AND 999),
    at                timestamptz NOT NULL,
    vscode_responsive boolean,
    has_code_server   boolean,
    cpu_usage         double precision,
    memory_usage      double precision,
    last_activity     bigint,
    PRIMARY KEY (instance_id, slot)
) WITH (fillfactor = 70);

-- What is written of an instance, under its lock, many times a second: a foreign key would be checked for each row, which
-- is several times the cost of the row. A trigger removes what a deleted instance leaves; the heartbeats' row first,
-- because it is what a steady heartbeat holds while it adds a sample (sql/041).
CREATE FUNCTION bore.forget_instances() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM bore.heartbeats WHERE instance_id IN (SELECT id FROM gone);
    DELETE FROM bore.health_metrics WHERE instance_id IN (SELECT id FROM gone);
    DELETE FROM bore.status_history WHERE instance_id IN (SELECT id FROM gone);
    DELETE FROM bore.waiting WHERE instance_id IN (SELECT id FROM gone);
    DELETE FROM bore.tunnel_tokens WHERE instance_id IN (SELECT id FROM gone);
    DELETE FROM bore.tunnel_sessions WHERE instance_id IN (SELECT id FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER forget_instances AFTER DELETE ON bore.instances REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION bore.forget_instances();
