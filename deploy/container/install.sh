#!/bin/sh
# install.sh SNAPSHOT PACKAGE...: Debian packages into a stage of the image, without what they only recommend.
# SNAPSHOT, if not empty, is a time such as 20261123T000000Z: then every package is the one of that time, from
# snapshot.debian.org, so the same image can be built again years later. What was installed is written, with versions,
# to /usr/share/bore/packages.
set -eu
snapshot=$1
shift
if [ -n "$snapshot" ]; then
    rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
    for archive in debian:bookworm debian:bookworm-updates debian-security:bookworm-security; do
        echo "deb [check-valid-until=no] http://snapshot.debian.org/archive/${archive%%:*}/$snapshot ${archive#*:} main"
    done >/etc/apt/sources.list
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
    /var/log/alternatives.log /var/log/haproxy*
mkdir -p /usr/share/bore
dpkg-query -W >/usr/share/bore/packages
