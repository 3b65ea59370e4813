#!/bin/sh
# postgres.sh: a private PostgreSQL for the time that one command runs.
#
#   tests/unit/postgres.sh COMMAND [ARGUMENT...]
#
# COMMAND finds DB_HOST (the directory of a unix socket), DB_PORT, DB_NAME and DB_USER in its environment, and in
# TEST_POSTGRES_PID the process id of the postmaster; the exit status is its own. The cluster lies in a directory of its
# own, belongs to an unprivileged user when root asks, and is gone afterwards, also when COMMAND crashed or this script was
# killed (a watcher looks every half second). Nothing is flushed to disk: it is fast, and survives no power failure.
# TEST_POSTGRES_OPTIONS: further options for postgres, as `-c name=value`. When it does not start, its log is printed.
set -eu

fail() {
    echo "postgres.sh: $1" >&2
    exit 1
}

[ $# -ge 1 ] || fail "usage: postgres.sh COMMAND [ARGUMENT...]"

# PATH's server, or the newest of those that Debian keeps outside of PATH.
programs=
for folder in "$(dirname "$(command -v initdb || echo /none/initdb)")" /usr/lib/postgresql/*/bin; do
    if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/createdb" ]; then programs=$folder; fi
done
[ -n "$programs" ] || fail "no PostgreSQL server is installed (Debian: postgresql)"

# A short path, because a unix socket's name has at most 107 bytes; and one that another user can reach.
home=$(mktemp -d /tmp/bore-test.XXXXXX)
if [ "$(id -u)" = 0 ]; then
    owner=nobody
    if id postgres >/dev/null 2>&1; then owner=postgres; fi
    chown "$owner" "$home"
    as_owner="setpriv --reuid=$owner --regid=$(id -g "$owner") --clear-groups --"
else
    as_owner=
fi

command=
stop() {
    trap - EXIT INT TERM HUP
    [ -z "$command" ] || kill "$command" 2>/dev/null || true
    if [ -s "$home/data/postmaster.pid" ]; then
        pid=$(head -n 1 "$home/data/postmaster.pid")
        # Frozen processes, which tests make, would not hear the signal to end.
        kill -CONT "$pid" 2>/dev/null || true
        # shellcheck disable=SC2013 # words are meant
        for child in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); do kill -CONT "$child" 2>/dev/null || true; done
        (cd / && $as_owner "$programs/pg_ctl" -D "$home/data" -m immediate -w -t 10 stop >/dev/null 2>&1) || true
    fi
    rm -rf "$home"
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

start() {
    cd /
    # shellcheck disable=SC2086 # as_owner and the options are lists of words
    $as_owner "$programs/initdb" -D "$home/data" -U bore -A trust -E UTF8 --locale=C -N >"$home/log" 2>&1 || return 1
    # shellcheck disable=SC2086
    $as_owner "$programs/pg_ctl" -D "$home/data" -l "$home/data/log" -w -t 30 start -o "-c listen_addresses= \
        -c unix_socket_directories=$home -c port=5432 -c fsync=off -c shared_buffers=16MB -c max_connections=50 \
        -c log_statement=none ${TEST_POSTGRES_OPTIONS:-}" >>"$home/log" 2>&1 || return 1
    $as_owner "$programs/createdb" -h "$home" -U bore bore_db >>"$home/log" 2>&1
}

if ! (start); then
    cat "$home/log" "$home/data/log" >&2 2>/dev/null || true
    fail "the private PostgreSQL did not start"
fi

TEST_POSTGRES_PID=$(head -n 1 "$home/data/postmaster.pid")
export TEST_POSTGRES_PID DB_HOST="$home" DB_PORT=5432 DB_NAME=bore_db DB_USER=bore
# In the background, so that a signal to this script is heard at once.
"$@" <&0 &
command=$!

# Should this script be killed, nobody else would clean up.
(
    trap - EXIT
    trap '' INT HUP
    while kill -0 $$ 2>/dev/null; do sleep 0.5; done
    stop
) </dev/null >/dev/null 2>&1 &
watcher=$!

status=0
wait "$command" || status=$?
command=
kill "$watcher" 2>/dev/null || true
exit "$status"
