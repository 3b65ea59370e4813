#!/bin/sh
# install_packages.sh PACKAGE...: apt-get, as root, without starting a system service (now or, Prometheus, at the next
# boot) or creating Debian's own PostgreSQL cluster. What it changes in /etc and /usr for that time it puts back, also when it is interrupted.
set -eu

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
wrote_policy=

put_back() {
    if [ -n "$wrote_policy" ]; then rm -f "$policy"; fi
    if [ -e "$cluster.bore" ]; then mv "$cluster.bore" "$cluster"; fi
}
trap put_back EXIT
trap 'exit 130' INT TERM HUP

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

install_quietly() {
    apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }
}

log=$(mktemp)
apt-get update -q >"$log" 2>&1 </dev/null || { tail -n 5 "$log" >&2; exit 1; }

if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    wrote_policy=yes
fi
case " $* " in *" postgresql-15 "*)
    # The cluster is created by the server's package, and postgresql-common's configuration says whether.
    install_quietly postgresql-common
    cp -p "$cluster" "$cluster.bore"
    echo 'create_main_cluster = false' >>"$cluster" ;;
esac
install_quietly "$@"
case " $* " in *" prometheus "*)
    # The tests start their own. Where systemd runs, Debian's would be there after the next boot.
    if command -v systemctl >/dev/null; then systemctl disable -q prometheus.service >/dev/null 2>&1 || :; fi ;;
esac
rm -f "$log"
