#!/bin/sh
# make_env.sh [FILE]: writes .env for containers, readable by its owner alone: every setting as a comment (from
# .env.example) and secrets made here. What an existing file sets stays as it is; only secrets that it lacks are added.
set -eu
umask 077
cd "$(dirname -- "$0")/.."
file=${1:-.env}

random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

[ -e "$file" ] || sed 's/^# Settings for .*/# Settings; see also docs\/operations.md./' .env.example >"$file"
chmod 600 "$file"
added=
for name in JWT_SECRET INTERNAL_API_KEY EDGE_SECRET ADMIN_PASSWORD DB_PASSWORD POSTGRES_PASSWORD GRAFANA_PASSWORD; do
    if grep -Eq "^[[:space:]]*(export[[:space:]]+)?$name=." "$file"; then continue; fi
    [ -n "$added" ] || printf '\n# --- made by make env ---\n' >>"$file"
    printf '%s=%s\n' "$name" "$(random)" >>"$file"
    added="$added $name"
done
echo "$file: ${added:-nothing was missing}"
