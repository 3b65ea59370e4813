#!/bin/sh
# backup.sh FILE: everything that the database knows, in PostgreSQL's custom format, while the system runs. The file
# appears whole or not at all, readable by its owner alone: it holds password hashes and addresses. Secrets are not in
# the database: keep .env beside it. Run where docker-compose.yml is.
# shellcheck shell=dash
set -eu
umask 077
file=${1:?which file?}
trap 'rm -f "$file.part"' EXIT
docker compose exec -T postgres pg_dump -U postgres -Fc bore_db >"$file.part"
# the end of the archive is read too, so that half a backup is noticed today and not when it is needed
docker compose exec -T postgres pg_restore -f /dev/null <"$file.part"
sync "$file.part"
mv "$file.part" "$file"
echo "$file: $(wc -c <"$file") bytes"
