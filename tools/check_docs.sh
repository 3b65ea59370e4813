#!/bin/sh
# check_docs.sh TOOLS: docs/protocol.md is what the message table says now.
cd "$(dirname -- "$0")/.." || exit 1

[ -x "$1/protocol_doc" ] || { echo "check_docs: $1/protocol_doc was not built" >&2; exit 1; }
"$1/protocol_doc" | diff -u docs/protocol.md - || { echo "docs/protocol.md is not fresh: make docs" >&2; exit 1; }
