#!/bin/sh
# check_metrics.sh: the metrics that the program counts are those of services/lib/metrics.def, and no others.
cd "$(dirname -- "$0")/.." || exit 1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

sed -n 's/^METRIC([A-Z]*, \([a-z_]*\),.*/\1/p' services/lib/metrics.def | LC_ALL=C sort >"$scratch/declared"
# Every string of the program that is wholly the name of a metric. Two others begin so: the database and the cookie.
find services -name '*.[ch]' -exec grep -ho '"bore_[a-z0-9_]*"' {} + | tr -d '"' | grep -vx 'bore_db\|bore_session' |
    LC_ALL=C sort -u >"$scratch/counted"
status=0
# complain WHAT FILE: an empty FILE is fine.
complain() {
    [ -s "$2" ] || return 0
    echo "$1: $(tr '\n' ' ' <"$2")" >&2
    status=1
}
LC_ALL=C comm -13 "$scratch/declared" "$scratch/counted" >"$scratch/undeclared"
LC_ALL=C comm -23 "$scratch/declared" "$scratch/counted" >"$scratch/uncounted"
complain "counted, but not in services/lib/metrics.def" "$scratch/undeclared"
complain "in services/lib/metrics.def, but counted nowhere" "$scratch/uncounted"
exit "$status"
