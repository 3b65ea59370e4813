# Which processes there are, and their runit directories. Sourced by main.sh; uses common.sh.
# shellcheck shell=dash

# The processes in the order of their end, backwards: what others need comes first. A new service is one more line.
#   name      replicas: one, or as many as SCALE says
service_table() {
    cat <<'TABLE'
postgres  one
bus       one
metrics   one
auth      many
registry  many
monitor   many
alerter   many
gateway   many
stream    many
edge      one
TABLE
}

# services: the names that run here, in table order.
services() {
    service_table | while read -r service _; do
        if [ "$service" = postgres ] && [ -n "${BORE_FOREIGN_DATABASE:-}" ]; then continue; fi
        printf '%s\n' "$service"
    done
}

# replicas NAME: how many SCALE="registry=2 gateway=2" asks for; 1 when it does not name it.
replicas() {
    for word in ${SCALE:-}; do
        if [ "${word%%=*}" = "$1" ]; then printf '%s\n' "${word#*=}"; return; fi
    done
    echo 1
}

check_scale() {
    for word in ${SCALE:-}; do
        case $word in *=*) ;; *) die "SCALE: '$word' is not SERVICE=NUMBER" ;; esac
        kind=$(service_table | awk -v name="${word%%=*}" '$1 == name { print $2 }')
        case $kind in
            many) ;;
            one) die "SCALE: there is always one ${word%%=*}" ;;
            *) die "SCALE: there is no service ${word%%=*}" ;;
        esac
        is_number "${word#*=}" 1 32 || die "SCALE: ${word%%=*} takes a number from 1 to 32"
    done
}

# make_service_directories: $BORE_HOME/service anew, one directory a process, and its log directory.
make_service_directories() {
    rm -rf "$BORE_HOME/service.new" "$BORE_HOME/service"
    mkdir -p "$BORE_HOME/service.new"
    for service in $(services); do
        number=1
        while [ "$number" -le "$(replicas "$service")" ]; do
            make_service_directory "$service" "$number"
            number=$((number + 1))
        done
    done
    mv "$BORE_HOME/service.new" "$BORE_HOME/service"
}

make_service_directory() {
    directory=$BORE_HOME/service.new/$1-$2
    logs=$BORE_HOME/log/$1-$2
    mkdir -p "$directory/log" "$directory/state" "$logs"
    # Paths are relative to the directory, where runit starts these: whatever BORE_HOME is called needs no quoting.
    write_script "$directory/run" "exec ../../program/local/service_run $1 $2"
    write_script "$directory/finish" 'exec ../../program/local/service_finish "$@"'
    write_script "$directory/log/run" "exec svlogd $(log_options "$1") ../../../log/$1-$2"
    # Bounded: four old files of 4 MB and the current one.
    printf 's4194304\nn4\n' >"$logs/config"
    case $1 in
        # PostgreSQL's fast shutdown, HAProxy's soft stop: the signal that runit sends is replaced.
        postgres) replace_term "$directory" INT ;;
        edge)
            printf 'p%s-%s \n' "$1" "$2" >>"$logs/config"
            replace_term "$directory" USR1 ;;
    esac
}

# Our own processes date their lines; HAProxy does not.
log_options() {
    if [ "$1" = edge ]; then echo '-ttt -l 4000 -b 8192'; else echo '-l 8000 -b 16384'; fi
}

replace_term() {
    mkdir -p "$1/control"
    write_script "$1/control/t" "read -r pid <supervise/pid && kill -s $2 \"\$pid\""
}

write_script() {
    printf '#!/bin/sh\n%s\n' "$2" >"$1"
    chmod 755 "$1"
}

# processes [NAME[-NUMBER]...]: the directories of these, or of all, in table order.
processes() {
    for service in $(service_table | awk '{ print $1 }'); do
        for directory in "$BORE_HOME/service/$service"-*; do
            [ -d "$directory" ] || continue
            process=${directory##*/}
            if [ $# -eq 0 ]; then printf '%s\n' "$process"; continue; fi
            for wanted; do
                case $wanted in "$process" | "$service") printf '%s\n' "$process" ;; esac
            done
        done
    done
}
