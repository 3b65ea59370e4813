# What every part of ./bore needs: messages, settings from a file, who we are, whether the system runs. Sourced.
# shellcheck shell=dash

say() {
    printf '%s\n' "$*"
}

die() {
    printf 'bore: %s\n' "$*" >&2
    exit 1
}

# warn: the same without ending.
warn() {
    printf 'bore: %s\n' "$*" >&2
}

# load_settings FILE: exports each KEY=VALUE of the file that the environment does not have (empty counts as not there).
# The rules are those of common/settings.c: `#` begins a comment line, `export ` is skipped, quotes around the value go.
load_settings() {
    [ -e "$1" ] || return 0
    [ -r "$1" ] || die "cannot read $1"
    line_number=0
    while IFS= read -r line || [ -n "$line" ]; do
        line_number=$((line_number + 1))
        line=$(trim "$line")
        case $line in '' | '#'*) continue ;; esac
        line=${line#export }
        key=$(trim "${line%%=*}")
        case $line in *=*) ;; *) die "$1 line $line_number is not KEY=VALUE" ;; esac
        case $key in '' | [0-9]* | *[!A-Za-z0-9_]*) die "$1 line $line_number is not KEY=VALUE" ;; esac
        value=$(unquote "$(trim "${line#*=}")") || die "$1 line $line_number: a quote does not end"
        eval "present=\${$key:-}"
        [ -n "$present" ] || export "$key=$value"
    done <"$1"
}

trim() {
    text=$1
    text=${text#"${text%%[![:space:]]*}"}
    text=${text%"${text##*[![:space:]]}"}
    printf '%s' "$text"
}

unquote() {
    case $1 in
        \"*\") [ "$1" != '"' ] || return 1; text=${1#\"}; printf '%s' "${text%\"}" ;;
        \'*\') [ "$1" != "'" ] || return 1; text=${1#\'}; printf '%s' "${text%\'}" ;;
        \"* | \'*) return 1 ;;
        *) printf '%s' "$1" ;;
    esac
}

# is_number TEXT LOW HIGH
is_number() {
    case $1 in '' | *[!0-9]* | ??????*) return 1 ;; esac
    [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

# process_is PID WORD...: the process lives and all words are in its command line. (A recorded pid may be reused.)
process_is() {
    process=$1
    shift
    case $process in '' | *[!0-9]*) return 1 ;; esac
    [ -r "/proc/$process/cmdline" ] || return 1
    command_line=$( { tr "\0" " " <"/proc/$process/cmdline"; } 2>/dev/null) || return 1
    for word; do
        case $command_line in *"$word"*) ;; *) return 1 ;; esac
    done
}

# supervisor_pid: prints the pid of the runsvdir that serves BORE_HOME, or fails.
supervisor_pid() {
    [ -r "$BORE_HOME/supervisor.pid" ] || return 1
    read -r recorded <"$BORE_HOME/supervisor.pid" || return 1
    process_is "$recorded" runsvdir "$BORE_HOME/service" || return 1
    printf '%s\n' "$recorded"
}
