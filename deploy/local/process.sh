# Processes that outlived their supervisor: how they are remembered and ended. Sourced by service_run and supervise.sh.
# A process is known by its pid, its start time and the boot, so that a reused pid is never mistaken for it.
# shellcheck shell=dash

# start_time PID: field 22 of /proc/PID/stat (field 2, the name, may hold anything: what follows its bracket counts), and
# the boot that it counts from. Fails for one that is dead, though nobody may have asked for its remains.
start_time() {
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086  # fields
    set -- ${stat##*) }
    [ "$1" != Z ] || return 1
    read -r boot </proc/sys/kernel/random/boot_id
    printf '%s/%s\n' "${20}" "$boot"
}

# record_process FILE: notes this shell, which will become the process by exec.
record_process() {
    printf '%s %s\n' "$$" "$(start_time $$)" >"$1"
}

# end_leftover FILE [SIGNAL]: if the noted process still lives, SIGNAL (TERM), 3 s, KILL.
end_leftover() {
    { read -r left_pid left_start <"$1"; } 2>/dev/null || return 0
    [ "$left_pid" != "$$" ] && [ "$(start_time "$left_pid")" = "$left_start" ] || return 0
    echo "ending process $left_pid, which outlived its supervisor"
    kill -s "${2:-TERM}" "$left_pid" 2>/dev/null
    tries=0
    while [ "$(start_time "$left_pid")" = "$left_start" ]; do
        tries=$((tries + 1))
        [ "$tries" -ne 60 ] || kill -KILL "$left_pid" 2>/dev/null
        [ "$tries" -lt 100 ] || return 0
        sleep 0.05
    done
}

# end_orphaned_backends: a killed postmaster's backends hold its shared memory until they notice, and no new one starts
# meanwhile. They work in the data directory; those that are still there after 0.2 s are killed, as after any crash the
# log is replayed. A postmaster.pid whose number now belongs to another program would stop the start too, and goes.
end_orphaned_backends() {
    tries=0
    while [ "$tries" -lt 100 ]; do
        found=
        for entry in /proc/[0-9]*; do
            if [ "$entry/cwd" -ef "$BORE_HOME/postgres" ]; then
                found=yes
                [ "$tries" -lt 4 ] || kill -KILL "${entry#/proc/}" 2>/dev/null
            fi
        done
        [ -n "$found" ] || break
        tries=$((tries + 1))
        sleep 0.05
    done
    { read -r stale <"$BORE_HOME/postgres/postmaster.pid"; } 2>/dev/null || return 0
    if [ -z "$found" ] && [ -d "/proc/$stale" ]; then
        rm -f "$BORE_HOME/postgres/postmaster.pid" "$BORE_SOCKETS/.s.PGSQL.5432.lock"
    fi
}
