#!/bin/sh
# check_layers.sh: common <- proto <- services/lib <- services/<name>. Each layer includes only itself and what is below;
# services never include each other. Every project header is included by its path from the root.
cd "$(dirname -- "$0")/.." || exit 1

# shellcheck disable=SC2016  # awk's own variables
find common proto services -name '*.[ch]' | sort | xargs awk '
    # layer PATH: the folder that decides, e.g. "proto", "services/lib", "services/auth"
    function layer(path) {
        if (path ~ /^services\//) { sub(/^services\//, "", path); sub(/\/.*/, "", path); return "services/" path }
        sub(/\/.*/, "", path)
        return path
    }
    function allowed(from, to) {
        if (from == to || to == "common") return 1
        if (to == "gen") return from ~ /^services\//
        if (to == "proto") return from ~ /^services\//
        if (to == "services/lib") return from ~ /^services\//
        return 0
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        path = $0
        sub(/^[^"]*"/, "", path)
        sub(/".*/, "", path)
        if (path !~ /\// || path ~ /\.\./) {
            print FILENAME ":" FNR ": include \"" path "\" by its path from the root"
            bad++
        } else if (!allowed(layer(FILENAME), layer(path))) {
            print FILENAME ":" FNR ": " layer(FILENAME) " must not know " path
            bad++
        }
    }
    END { exit bad > 0 }
'
