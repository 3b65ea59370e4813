#!/bin/sh
# check_docs.sh TOOLS: docs/protocol.md and docs/metrics.md are what their tables say now, and README.md and .env.example have the
# settings of config.def.
cd "$(dirname -- "$0")/.." || exit 1

[ -x "$1/protocol_doc" ] || { echo "check_docs: $1/protocol_doc was not built" >&2; exit 1; }
stale() { echo "$1 is not fresh: make docs" >&2; exit 1; }
awk -f tools/metrics_doc.awk services/lib/metrics.def | diff -u docs/metrics.md - || stale docs/metrics.md
"$1/protocol_doc" | diff -u docs/protocol.md - || stale docs/protocol.md
for file in README.md .env.example; do
    awk -f tools/settings_doc.awk services/lib/config.def "$file" | diff -u "$file" - || stale "$file"
done
