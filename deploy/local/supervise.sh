# Starting, watching, stopping and reporting the processes, with runit. Sourced by main.sh; uses common.sh, services.sh and
# process.sh. runsvdir keeps one runsv for each directory in $BORE_HOME/service, each runsv keeps one process and its svlogd.
# shellcheck shell=dash
# shellcheck disable=SC2034  # variables that main.sh uses

# start_supervisor: in a session of its own, so that the terminal's Ctrl-C reaches only the script.
start_supervisor() {
    mkdir -p "$BORE_HOME/log/supervisor"
    setsid runsvdir -P "$BORE_HOME/service" >"$BORE_HOME/log/supervisor/current" 2>&1 </dev/null 9>&- &
    echo $! >"$BORE_HOME/supervisor.pid"
}

# wait_healthy SECONDS: until /health answers 200. Fails at once, naming the process and its last words, when one gives up.
wait_healthy() {
    ends=$(($(date +%s) + $1))
    while [ "$(health_status)" != 200 ]; do
        supervisor_pid >/dev/null || { failure="the supervisor ended; see $BORE_HOME/log/supervisor/current"; return 1; }
        for process in $(processes); do
            gave_up "$process" || continue
            failure="$process does not start: $(last_words "$process") (log: $BORE_HOME/log/$process/current)"
            return 1
        done
        if [ "$(date +%s)" -ge "$ends" ]; then
            failure="not healthy after $1 s: $(curl -skm 2 --noproxy '*' "$(url)/health" || echo no answer) (logs: $BORE_HOME/log)"
            return 1
        fi
        sleep 0.1
    done
}

url() {
    if [ -n "${EDGE_TLS_FILE:-}" ]; then echo "https://localhost:$PORT"; else echo "http://localhost:$PORT"; fi
}

health_status() {
    curl -sk -m 2 --noproxy '*' -o /dev/null -w '%{http_code}' "$(url)/health" || :
}

# gave_up PROCESS: ended with 2 (its settings are wrong), or died young three times.
gave_up() {
    { read -r code _ <"$BORE_HOME/service/$1/state/exit"; } 2>/dev/null || return 1
    { read -r young <"$BORE_HOME/service/$1/state/young_deaths"; } 2>/dev/null || young=0
    [ "$code" = 2 ] || [ "$young" -ge 3 ]
}

# last_words PROCESS: the line of its log that says most.
last_words() {
    sleep 0.2
    lines=$(tail -n 20 "$BORE_HOME/log/$1/current" 2>/dev/null) || lines=
    line=$(printf '%s\n' "$lines" | grep -E 'FATAL|PANIC|ALERT|ERROR' | tail -n 1)
    [ -n "$line" ] || line=$(printf '%s\n' "$lines" | tail -n 1)
    printf '%s' "${line:-it wrote nothing}"
}

# stop_all: in the order of the table, backwards; each group is told together and waited for. PostgreSQL is never killed
# before it had a minute.
stop_all() {
    if pid=$(supervisor_pid); then
        kill -TERM "$pid" 2>/dev/null || :
        while supervisor_pid >/dev/null; do sleep 0.02; done
    fi
    rm -f "$BORE_HOME/supervisor.pid"
    # The edge takes no new connections from here on; those it has end with the streams, or after hard-stop-after.
    tell down "$(processes edge)"
    end_group 8 "$(processes gateway stream)"
    end_group 8 "$(processes edge)"
    end_group 8 "$(processes | grep -Ev '^(edge|gateway|stream|bus|postgres)-')"
    end_group 8 "$(processes bus)"
    end_group 60 "$(processes postgres)"
    for process in $(processes); do
        end_leftover "$BORE_HOME/service/$process/state/process" INT
    done
    { read -r sockets <"$BORE_HOME/sockets"; } 2>/dev/null || return 0
    case $sockets in /tmp/bore.*) rm -rf "$sockets" "$BORE_HOME/sockets" ;; esac
}

# end_group SECONDS PROCESSES: TERM (or what replaces it), wait, KILL; their runsv and svlogd end too.
end_group() {
    tell "-w $1 force-stop" "$2"
    tell "-w 5 force-shutdown" "$2"
}

# tell COMMAND PROCESSES: one sv for all that have a living supervisor.
tell() {
    command=$1 names=$2
    set --
    for process in $names; do
        if supervised "$process"; then set -- "$@" "$BORE_HOME/service/$process"; fi
    done
    [ $# -gt 0 ] || return 0
    # shellcheck disable=SC2086  # options and command
    sv $command "$@" >/dev/null 2>&1 || :
}

supervised() {
    [ -p "$BORE_HOME/service/$1/supervise/ok" ] && sv status "$BORE_HOME/service/$1" 2>/dev/null | grep -qv '^warning\|^fail'
}

# show_status: a line a process. Succeeds when all run.
show_status() {
    result=0
    printf '%-14s %-8s %8s %10s %9s\n' PROCESS STATE PID UPTIME RESTARTS
    for process in $(processes); do
        { read -r restarts <"$BORE_HOME/service/$process/state/restarts"; } 2>/dev/null || restarts=0
        # run: /path/name: (pid 17) 5s; run: log: ...        down: /path/name: 3s, normally up; ...
        line=$(sv status "$BORE_HOME/service/$process" 2>&1) || :
        state=${line%%:*}
        line=${line#*"/$process: "}
        line=${line%%;*}
        pid=- seconds=
        case $state in
            run | finish)
                pid=${line#*pid }
                pid=${pid%%)*}
                seconds=${line##*) }
                seconds=${seconds%%s*} ;;
            down) ;;
            *) state=dead ;;
        esac
        [ "$state" = run ] || result=1
        if [ "$state" = finish ]; then state=waiting pid=- seconds=; fi
        printf '%-14s %-8s %8s %10s %9s\n' "$process" "$state" "$pid" "$(duration "$seconds")" "$restarts"
    done
    return "$result"
}

duration() {
    case $1 in '' | *[!0-9]*) echo -; return ;; esac
    if [ "$1" -ge 86400 ]; then echo "$(($1 / 86400))d$(($1 % 86400 / 3600))h"
    elif [ "$1" -ge 3600 ]; then echo "$(($1 / 3600))h$(($1 % 3600 / 60))m"
    elif [ "$1" -ge 60 ]; then echo "$(($1 / 60))m$(($1 % 60))s"
    else echo "$1s"; fi
}

# control stop|start|restart NAME: the supervisor obeys, so nothing is undone until the next command or start of all.
# restart is the one and then the other: runit's own may say that it is done while the old process still runs.
control() {
    action=$1 name=$2
    names=$(processes "$name")
    [ -n "$names" ] || die "there is no process $name here: $(processes | tr '\n' ' ')"
    for process in $names; do
        case $action in stop | restart) ask_supervisor stop "$process" ;; esac
        case $action in start | restart) ask_supervisor start "$process" ;; esac
        case $action in stop) say "$process stopped" ;; start) say "$process started" ;; restart) say "$process restarted" ;; esac
    done
}

# ask_supervisor stop|start PROCESS: done when it returns. What does not end in time is killed, PostgreSQL never.
ask_supervisor() {
    case $1 in stop) command='-w 10 force-stop' ;; start) command='-w 10 start' ;; esac
    if [ "$1" = stop ] && [ "${2%-*}" = postgres ]; then command='-w 60 stop'; fi
    # shellcheck disable=SC2086  # options and command
    answer=$(sv $command "$BORE_HOME/service/$2" 2>&1) || die "$2: $(printf '%s' "$answer" | head -n 1)"
}
