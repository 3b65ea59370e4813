#!/bin/sh
# check_prometheus.sh: Prometheus's own judgement on what deploy/prometheus has: configuration, rules, tests of the rules.
cd "$(dirname -- "$0")/../deploy/prometheus" || exit 1

command -v promtool >/dev/null || { echo "check_prometheus: no promtool: ./bore test installs it" >&2; exit 1; }
# What it says of what is well is left out.
quietly() {
    output=$("$@" 2>&1) && return
    printf '%s\n' "$output" >&2
    exit 1
}
quietly promtool check config prometheus.yml
quietly promtool check rules rules/*.yml
quietly promtool test rules tests/*.yml
