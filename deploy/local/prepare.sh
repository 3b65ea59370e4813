# What must be there before the processes start: secrets, the sockets' directory, the database, the edge's files.
# Sourced by main.sh; uses common.sh and services.sh. Runs as the user whom everything runs as.
# shellcheck shell=dash
# shellcheck disable=SC2034  # variables that main.sh uses

POSTGRES_BIN=/usr/lib/postgresql/15/bin
export POSTGRES_BIN

random_hex() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

random_password() {
    tr -dc 'A-HJ-NP-Za-km-z2-9' </dev/urandom | head -c 20
}

# prepare_secrets: what neither the environment nor .env gives is made once and kept in secrets.env (0600).
prepare_secrets() {
    file=$BORE_HOME/secrets.env
    given_admin_password=${ADMIN_PASSWORD:+yes}
    given_api_key=${INTERNAL_API_KEY:+yes}
    load_settings "$file"
    keep_secret JWT_SECRET random_hex
    keep_secret INTERNAL_API_KEY random_hex
    keep_secret EDGE_SECRET random_hex
    keep_secret ADMIN_EMAIL echo admin@bore.local
    keep_secret ADMIN_PASSWORD random_password
    if [ -n "$given_api_key" ]; then
        rm -f "$BORE_HOME/internal_api_key"
    else
        (umask 077 && printf '%s\n' "$INTERNAL_API_KEY" >"$BORE_HOME/internal_api_key")
    fi
}

# keep_secret NAME COMMAND...: exports NAME; when it is not set, with what the command prints, kept.
keep_secret() {
    eval "present=\${$1:-}"
    if [ -z "$present" ]; then
        name=$1
        shift
        present=$("$@")
        [ -n "$present" ] || die "cannot make $name"
        (umask 077 && printf '%s=%s\n' "$name" "$present" >>"$file")
        export "$name=$present"
    fi
}

# prepare_sockets: a directory of mode 0700 whose path is short (a unix socket's has at most 107 bytes) and plain.
prepare_sockets() {
    BORE_SOCKETS=$BORE_HOME/s
    case $BORE_SOCKETS in *[!A-Za-z0-9_./-]*) plain= ;; *) plain=yes ;; esac
    if [ -z "$plain" ] || [ "${#BORE_SOCKETS}" -gt 80 ]; then
        { read -r BORE_SOCKETS <"$BORE_HOME/sockets"; } 2>/dev/null || BORE_SOCKETS=
        # /tmp may have been emptied since, and its names are anybody's: only our own directory will do.
        if [ -z "$BORE_SOCKETS" ] || [ -L "$BORE_SOCKETS" ] || [ ! -O "$BORE_SOCKETS" ]; then
            BORE_SOCKETS=$(mktemp -d /tmp/bore.XXXXXX) || die "cannot make a directory for sockets in /tmp"
        fi
    else
        mkdir -p "$BORE_SOCKETS"
    fi
    chmod 700 "$BORE_SOCKETS"
    printf '%s\n' "$BORE_SOCKETS" >"$BORE_HOME/sockets"
    export BORE_SOCKETS
    if [ -z "${BUS_URL:-}" ]; then export BUS_URL="ipc://$BORE_SOCKETS/bus"; fi
}

# prepare_database: DB_HOST given means that one; else a private cluster, made whole before it gets its name.
prepare_database() {
    if [ -n "${BORE_FOREIGN_DATABASE:-}" ]; then
        export DB_PORT="${DB_PORT:-5432}" DB_NAME="${DB_NAME:-bore_db}" DB_USER="${DB_USER:-postgres}"
        answer=$(PGCONNECT_TIMEOUT=5 PGPASSWORD=${DB_PASSWORD:-} psql -X -w -At -h "$DB_HOST" -p "$DB_PORT" -U "$DB_USER" \
            -d "$DB_NAME" -c 'SELECT 1' 2>&1) || die "the database does not answer: $(printf '%s' "$answer" | tr '\n' ' ')"
        return
    fi
    export DB_HOST="$BORE_SOCKETS" DB_PORT=5432 DB_NAME=bore_db DB_USER=bore DB_PASSWORD=
    unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGPASSFILE PGDATABASE PGOPTIONS PGSERVICE PGSSLMODE
    [ -x "$POSTGRES_BIN/postgres" ] || die "PostgreSQL 15 is not in $POSTGRES_BIN"
    data=$BORE_HOME/postgres
    if [ -e "$data" ]; then
        version=$(cat "$data/PG_VERSION" 2>/dev/null) || die "the database in $data is broken: it has no PG_VERSION"
        [ "$version" = 15 ] || die "the database in $data is of PostgreSQL '$version', not 15"
        return
    fi
    say "creating the database in $data"
    rm -rf "$data.new"
    # No listener but the unix socket, and that lies where only this user comes: hence trust.
    "$POSTGRES_BIN/initdb" -D "$data.new" -U postgres -E UTF8 --locale=C.UTF-8 --lc-collate=C --data-checksums \
        --auth-local=trust --auth-host=reject >"$BORE_HOME/log/initdb" 2>&1 ||
        die "the database could not be created: $(tail -n 1 "$BORE_HOME/log/initdb")"
    printf 'CREATE ROLE bore LOGIN;\nCREATE DATABASE bore_db OWNER bore;\n' |
        "$POSTGRES_BIN/postgres" --single -D "$data.new" postgres >>"$BORE_HOME/log/initdb" 2>&1 ||
        die "the database could not be created: $(tail -n 1 "$BORE_HOME/log/initdb")"
    mv "$data.new" "$data"
}

# prepare_edge: HAProxy's servers, one a replica, its TLS file and its settings; the whole is checked by HAProxy itself.
# A unix socket refuses at once, and HAProxy would use up its retries at once. So a gateway that refuses is out of service
# until it passes a check; when there is no other one, its requests are retried, at a pace, at a port that is closed
# (`returns`), as long as the gateway's checks have not failed for good.
prepare_edge() {
    mkdir -p "$BORE_HOME/edge"
    for service in gateway stream; do
        printf 'backend %s from to_%s\n' "$service" "$service"
        if [ "$service" = stream ]; then
            echo '    use-server %[url_param(sid),field(1,.)] if { url_param(sid) -m found }'
        fi
        number=1
        while [ "$number" -le "$(replicas "$service")" ]; do
            if [ "$service" = gateway ]; then
                socket=unix@$BORE_SOCKETS/gateway-$number
                printf '    server gateway-%s %s on-error mark-down\n' "$number" "$socket"
                printf '    server gateway-%s-returns %s.%s:9 backup addr %s\n' "$number" "$BORE_NETWORK" "$number" "$socket"
            else
                printf '    server stream-%s %s.%s:8081\n' "$number" "$BORE_NETWORK" "$number"
            fi
            number=$((number + 1))
        done
        echo
    done >"$BORE_HOME/edge/backends.cfg"

    export EDGE_STATS_SOCKET="$BORE_SOCKETS/edge.stats"
    EDGE_TRUSTED_PROXIES=$(printf '%s' "${TRUSTED_PROXIES:-}" | tr ',' ' ')
    export EDGE_TRUSTED_PROXIES
    if [ -s /proc/net/if_inet6 ]; then export EDGE_IPV6=yes; else unset EDGE_IPV6; fi
    if [ -n "${TLS_CERT_FILE:-}" ]; then export EDGE_TLS_FILE="$BORE_HOME/edge/tls.pem"; else unset EDGE_TLS_FILE; fi
    haproxy -c -f "$BORE_HOME/program/haproxy.cfg" -f "$BORE_HOME/edge/backends.cfg" >"$BORE_HOME/log/edge-check" 2>&1 ||
        die "the edge refuses its settings: $(grep -m 1 ALERT "$BORE_HOME/log/edge-check" || tail -n 1 "$BORE_HOME/log/edge-check")"
}

# prepare_limits: many files, no core dumps; the edge's connections follow from the files.
prepare_limits() {
    ulimit -c 0
    hard=$(ulimit -Hn)
    case $hard in unlimited) hard=262144 ;; esac
    [ "$hard" -le 262144 ] || hard=262144
    ulimit -Sn "$hard"
    [ "$hard" -ge 20000 ] || warn "only $hard open files are allowed here (ulimit -Hn): fewer than 10,000 streams will fit"
    # Two files a connection, and some for listeners, health checks and idle server connections.
    most=$(((hard - 300) / 2))
    [ "$most" -le 40000 ] || most=40000
    export EDGE_MAXCONN="${EDGE_MAXCONN:-$most}"
}

# check_port: somebody else's listener is found before anything is started.
check_port() {
    port_hex=$(printf '%04X' "$PORT")
    tables=
    for table in /proc/net/tcp /proc/net/tcp6; do [ ! -r "$table" ] || tables="$tables $table"; done
    # shellcheck disable=SC2086  # a list of files
    if awk -v port=":$port_hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' $tables </dev/null; then
        die "port $PORT is in use by another program: choose another one, for example PORT=$((PORT % 65535 + 1)) ./bore start"
    fi
    { read -r lowest </proc/sys/net/ipv4/ip_unprivileged_port_start; } 2>/dev/null || lowest=1024
    [ "$PORT" -ge "$lowest" ] || [ "$(id -u)" = 0 ] || die "port $PORT needs privileges that the processes do not have: choose one from $lowest on"
}
