# Installs the packages of deploy/local/packages that are missing. Sourced by ./bore; uses common.sh.
# shellcheck shell=dash

# missing_packages USE...: prints the packages of these uses that are neither installed nor made needless by a command.
missing_packages() {
    uses=" $* "
    while read -r use package instead; do
        case $use in '' | '#'*) continue ;; esac
        case $uses in *" $use "*) ;; *) continue ;; esac
        if [ -n "$instead" ] && has_command "${instead%%>=*}" "${instead##*>=}"; then continue; fi
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    done <"$ROOT/deploy/local/packages"
}

# has_command NAME MAJOR: the command exists in this major version or a later one.
has_command() {
    version=$("$1" --version 2>/dev/null) || return 1
    version=${version#v}
    is_number "${version%%.*}" "$2" 99999
}

# install_packages USE...: nothing happens when nothing is missing.
install_packages() {
    command -v dpkg-query >/dev/null || die "this is not Debian: install what deploy/local/packages lists, by hand"
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "missing packages, and no apt-get to install them: $missing"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "missing packages; as root: apt-get install --no-install-recommends $missing"
        say "installing (with sudo): $missing"
    else
        say "installing: $missing"
    fi
    # One root shell, so that sudo asks once and whatever it changes for the time of the installation it also undoes.
    # shellcheck disable=SC2086  # a list of words
    as_root sh "$ROOT/deploy/local/install_packages.sh" $missing || die "the packages could not be installed (see above): $missing"
    missing=$(missing_packages "$@")
    [ -z "$missing" ] || die "still missing after the installation: $missing"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi
}
