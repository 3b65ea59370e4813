#!/bin/sh
# main.sh start|run|stop|status|ctl|import: the part of ./bore that runs as the user whom all processes run as, from its
# copy in $BORE_HOME/program/local. The environment comes from ./bore: BORE_HOME, PORT and whatever .env says.
# shellcheck shell=dash
# shellcheck disable=SC2154  # variables that the parts set
set -eu
umask 022
HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
for part in common services process prepare supervise; do
    # shellcheck source=/dev/null
    . "$HERE/$part.sh"
done

export LC_ALL=C.UTF-8 HOME="$BORE_HOME"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
BORE_NETWORK=127.$((PORT / 256)).$((PORT % 256))
export BORE_NETWORK PATH

# lock: one command at a time changes the state of a BORE_HOME.
lock() {
    exec 9>"$BORE_HOME/lock"
    flock -w "$1" 9 || die "another ./bore is at work in $BORE_HOME"
}

start() {
    lock 0
    if supervisor_pid >/dev/null; then die "already running in $BORE_HOME; ./bore stop ends it"; fi
    cd "$BORE_HOME"
    mkdir -p log
    if [ -n "${DB_HOST:-}" ]; then export BORE_FOREIGN_DATABASE=yes; else unset BORE_FOREIGN_DATABASE; fi
    check_scale
    stop_all
    check_port
    prepare_limits
    prepare_secrets
    prepare_sockets
    prepare_database
    prepare_edge
    make_service_directories
    export WEB_DIR="${WEB_DIR:-$BORE_HOME/program/web}"
    trap 'interrupted' INT TERM HUP
    start_supervisor
    if ! wait_healthy "${BORE_START_TIMEOUT:-60}"; then
        stop_all
        die "$failure"
    fi
    for process in $(processes); do
        if gave_up "$process"; then warn "$process does not start: $(last_words "$process") (log: $BORE_HOME/log/$process/current)"; fi
    done
    printf '%s\n' "$(url)" >url
}

interrupted() {
    trap '' INT TERM HUP
    say "stopping"
    stop_all
    exit 130
}

# summary HOW-TO-STOP
summary() {
    password="(in $BORE_HOME/secrets.env)"
    if [ -n "$given_admin_password" ]; then
        password="(the ADMIN_PASSWORD that you set)"
    elif [ ! -e password_shown ]; then
        password="$ADMIN_PASSWORD    (shown only now; kept in $BORE_HOME/secrets.env)"
        : >password_shown
    fi
    key="\"\$(cat '$BORE_HOME/internal_api_key')\""
    [ -z "$given_api_key" ] || key='"the INTERNAL_API_KEY that you set"'
    cat <<SUMMARY

Bore Backend runs.

  URL            $(url)
  admin          $ADMIN_EMAIL
  password       $password
  logs           $BORE_HOME/log/<process>/current
  processes      ./bore status
  stop           $1
  a bore-server  BORE_BACKEND_URL=$(url) BORE_BACKEND_API_KEY=$key bore-server

SUMMARY
}

# follow: the logs until Ctrl-C, or until somebody else stops the system.
follow() {
    set --
    for process in $(processes); do set -- "$@" "log/$process/current"; done
    trap 'kill "$tail_pid" 2>/dev/null || :' INT TERM HUP
    tail -q -n 0 --pid="$(supervisor_pid)" -s 0.5 -F "$@" 2>/dev/null &
    tail_pid=$!
    wait "$tail_pid" || :
    trap '' INT TERM HUP
    lock 120
    if supervisor_pid >/dev/null; then
        say "stopping"
        stop_all
    fi
}

case ${1:-} in
    start)
        start
        summary "./bore stop" ;;
    run)
        start
        summary "Ctrl-C"
        exec 9>&-
        follow ;;
    stop)
        if ! supervisor_pid >/dev/null && [ ! -d "$BORE_HOME/service" ]; then say "not running"; exit 0; fi
        lock 120
        stop_all
        rm -rf "$BORE_HOME/service"
        say "stopped" ;;
    status)
        supervisor_pid >/dev/null || { say "not running"; exit 3; }
        show_status ;;
    ctl)
        supervisor_pid >/dev/null || die "not running; ./bore start starts it"
        control "$2" "$3" ;;
    import)
        shift
        if [ -z "${DB_HOST:-}" ]; then
            supervisor_pid >/dev/null || die "not running: its database is reached through ./bore start"
            read -r DB_HOST <"$BORE_HOME/sockets"
            export DB_HOST DB_PORT=5432 DB_NAME=bore_db DB_USER=bore
        fi
        cd "$BORE_HOME"
        exec "$BORE_HOME/program/bin/bore-import" "$@" ;;
    *) die "main.sh: what?" ;;
esac
