#!/bin/sh
# run.sh: runs suites of tests and sums them up.
#
#   tests/run.sh [SUITE...]        unit, system, lint, sanitize, fuzz, bench, chaos; default: unit system
#
# The last line is `N passed, N failed`; the exit status is 0 when nothing failed. A program that crashes, hangs or says
# nothing counts as one failure. lint counts each of its checks. sanitize is unit and system again, with
# AddressSanitizer and UndefinedBehaviorSanitizer in every process; any report of theirs is a failure. bench and chaos
# judge times, so they want a machine that does nothing else.
# SANITIZE_TESTS: names of the system tests that sanitize runs (every). SYSTEM_JOBS: system tests at once (2). BUILD: the build to test (build). Needs what ./bore test installs; ./bore test is the usual way to call this.
# shellcheck shell=dash
set -eu
cd "$(dirname -- "$0")/.."

BUILD=${BUILD:-build}
JOBS=$(nproc 2>/dev/null || echo 2)
passed=0
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP

# tally NAME PASSED FAILED
tally() {
    printf '%-40s %5s passed, %s failed\n' "$1" "$2" "$3"
    passed=$((passed + $2))
    failed=$((failed + $3))
}

# check NAME COMMAND...: a suite of one. Prints the command's output only when it fails.
check() {
    label=$1
    shift
    if "$@" >"$scratch/check" 2>&1 </dev/null; then
        tally "$label" 1 0
    else
        cat "$scratch/check"
        tally "$label" 0 1
    fi
}

build() {
    make -s -j"$JOBS" BUILD="$BUILD" SANITIZE="${SANITIZE:-}" "$@"
}

# judge NAME COMMAND...: a program that ends with `N passed, N failed`. Prints what it says as it says it.
judge() {
    label=$1
    shift
    "$@" 2>&1 </dev/null | tee "$scratch/judge" || :
    # shellcheck disable=SC2046  # two numbers
    set -- $(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$scratch/judge")
    if [ $# -eq 2 ] && [ $(($1 + $2)) -gt 0 ]; then tally "$label" "$1" "$2"; else tally "$label" 0 1; fi
}

# sum PATTERN FILE: adds the numbers that follow the pattern at the beginnings of lines.
sum() {
    awk -v pattern="$1" 'index($0, pattern) == 1 { split(substr($0, length(pattern) + 1), word, " "); total += word[1] }
        END { print total + 0 }' "$2"
}

# As many unit tests at once as there are processors; each has a database of its own, where it needs one.
unit() {
    build -k all unit-tests || tally "unit: build" 0 1
    rm -rf "$scratch/unit"
    mkdir "$scratch/unit"
    for program in "$BUILD"/test/test_*; do
        # Left over from a test that was since removed or renamed?
        if [ -x "$program" ] && [ -e "tests/unit/$(basename "$program").c" ]; then echo "$program"; fi
    done >"$scratch/programs"
    # shellcheck disable=SC2016  # for the inner shell
    xargs -P "$JOBS" -I PROGRAM sh -c '
        timeout -k 5 300 "$1" >"$2/$(basename "$1")" 2>&1 </dev/null
        echo $? >"$2/$(basename "$1").status"' - PROGRAM "$scratch/unit" <"$scratch/programs"
    while read -r program; do
        output=$scratch/unit/$(basename "$program")
        status=$(cat "$output.status")
        good=$(sum '[  PASSED  ] ' "$output")
        bad=$(sum '[  FAILED  ] ' "$output")
        if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$good" -eq 0 ]; }; then bad=1; fi
        if [ "$bad" -ne 0 ]; then
            cat "$output"
            echo "$program ended with $status"
        fi
        tally "unit: $(basename "$program")" "$good" "$bad"
    done <"$scratch/programs"
}

# prepare NAME TARGET...: builds what a suite in JavaScript needs; false, with the failure told, when it cannot.
prepare() {
    label=$1
    shift
    if build all tests/node_modules/.package-lock.json "$@"; then return 0; fi
    tally "$label: build" 0 1
    return 1
}

# Two files at once, each with systems of its own: they wait more than they compute. What a file printed comes when it
# is done.
system() {
    prepare system || return 0
    rm -rf "$scratch/system"
    mkdir "$scratch/system"
    for file in tests/system/*.test.js; do
        name=$(basename "$file" .test.js)
        case " ${SYSTEM_TESTS:-every} " in *" every "* | *" $name "*) echo "$name" ;; esac
    done >"$scratch/files"
    # shellcheck disable=SC2016  # for the inner shell
    BORE_BUILD=$BUILD xargs -P "${SYSTEM_JOBS:-2}" -I NAME sh -c '
        status=0
        timeout -k 30 900 node --test --test-reporter=spec --test-reporter-destination=stdout \
            --test-reporter=tap --test-reporter-destination="$1/$2.tap" "tests/system/$2.test.js" \
            >"$1/$2.output" 2>&1 </dev/null || status=$?
        echo "$status" >"$1/$2.status"
        cat "$1/$2.output"' - "$scratch/system" NAME <"$scratch/files"
    while read -r name; do
        status=$(cat "$scratch/system/$name.status" || echo 1)
        : >>"$scratch/system/$name.tap"
        good=$(sum '# pass ' "$scratch/system/$name.tap")
        bad=$(($(sum '# fail ' "$scratch/system/$name.tap") + $(sum '# cancelled ' "$scratch/system/$name.tap")))
        if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$good" -eq 0 ]; }; then bad=1; fi
        tally "system: $name" "$good" "$bad"
    done <"$scratch/files"
}

lint() {
    for step in format-check layering-check shell-check docs-check metrics-check web-check static-check; do
        check "lint: $step" make -s -k -j"$JOBS" BUILD="$BUILD" "$step"
    done
}

fuzz() {
    check "fuzz" make -s fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-10}"
}

# The processes run as another user when root tests, hence a place for their reports that everybody may write.
sanitize() {
    reports=$(mktemp -d /tmp/bore-sanitize.XXXXXX)
    chmod 1777 "$reports"
    usual_build=$BUILD
    BUILD=build/asan SANITIZE=1
    export BORE_SANITIZE=1
    export ASAN_OPTIONS="detect_stack_use_after_return=0:strict_string_checks=1:${ASAN_OPTIONS:-}"
    export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
    export LSAN_OPTIONS="suppressions=$PWD/tools/leaks.supp:print_suppressions=0:${LSAN_OPTIONS:-}"
    unit
    ASAN_OPTIONS="log_path=$reports/asan:$ASAN_OPTIONS"
    UBSAN_OPTIONS="log_path=$reports/ubsan:$UBSAN_OPTIONS"
    SYSTEM_TESTS=${SANITIZE_TESTS:-every}
    system
    SYSTEM_TESTS=every
    found=$(find "$reports" -type f | wc -l)
    [ "$found" -eq 0 ] || cat "$reports"/*
    if [ "$found" -eq 0 ]; then tally "sanitize: reports of running processes" 1 0; else tally "sanitize: reports of running processes" 0 "$found"; fi
    rm -rf "$reports"
    BUILD=$usual_build SANITIZE=
    unset BORE_SANITIZE ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS
}

# some_tests NAME PATTERN FILE: those tests of a system test that are called so, all together as one.
some_tests() {
    failures=0
    BORE_BUILD=$BUILD node --test --test-reporter=spec --test-name-pattern="$2" "tests/system/$3.test.js" </dev/null || failures=1
    tally "$1" $((1 - failures)) "$failures"
}

bench() {
    prepare bench benches || return 0
    for part in run streams; do
        BORE_BUILD=$BUILD judge "bench: $part" node "tests/bench/$part.js"
    done
    JUDGE_TIMES=1 some_tests "bench: pages" 'first view|thousand' dashboard_pages
}

chaos() {
    prepare chaos || return 0
    BORE_BUILD=$BUILD judge chaos node tests/chaos/run.js
    ALERTS_DOWN_SECONDS=60 some_tests "chaos: a receiver of alerts, down for a minute" 'a receiver that is down' alerts
}

for suite in "${@:-default}"; do
    case $suite in
        default) unit; system ;;
        unit | system | lint | sanitize | fuzz | bench | chaos) "$suite" ;;
        *) echo "tests/run.sh: no suite '$suite'" >&2; exit 2 ;;
    esac
done

printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
