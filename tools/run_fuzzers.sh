#!/bin/sh
# run_fuzzers.sh DIRECTORY: each fuzz target for FUZZ_SECONDS. tests/fuzz/corpus/<name> is read and kept as it is; what is
# found new goes to build/fuzz/corpus/<name>, and an input that breaks a target to build/fuzz/crashes.
set -eu
programs=$(cd "$1" && pwd)
cd "$(dirname -- "$0")/.."

failed=0
mkdir -p build/fuzz/crashes
for program in "$programs"/fuzz_*; do
    [ -x "$program" ] || continue
    name=$(basename "$program")
    name=${name#fuzz_}
    mkdir -p "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name"
    log=build/fuzz/$name.log
    if "$program" -max_total_time="${FUZZ_SECONDS:-20}" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 \
        -verbosity=0 -artifact_prefix="build/fuzz/crashes/$name-" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" \
        >"$log" 2>&1; then
        sed -n "s/^stat::number_of_executed_units: */fuzz: $name, runs without a fault: /p" "$log"
    else
        grep -v '# Uses:' "$log" | tail -n 60
        failed=$((failed + 1))
    fi
done
if [ "$failed" -ne 0 ]; then echo "fuzz: $failed targets failed; inputs in build/fuzz/crashes" >&2; exit 1; fi
