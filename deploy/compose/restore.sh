#!/bin/sh
# restore.sh FILE: the database as backup.sh saved it, in place of the present one. Our processes are stopped meanwhile
# and started again. The log of events begins a new epoch, so no client goes on from a position that never was: each is
# told to reload. Run where docker-compose.yml is, after `docker compose up -d --wait postgres` on a new machine.
# shellcheck shell=dash
set -eu
file=${1:?which file?}
[ -r "$file" ] || { echo "restore: cannot read $file" >&2; exit 1; }

sql() {
    docker compose exec -T postgres psql -X -q -v ON_ERROR_STOP=1 -U postgres "$@"
}

running=$(docker compose ps --services --status running | grep -vx -e postgres -e bus -e edge || :)
# shellcheck disable=SC2086  # a list of names
[ -z "$running" ] || docker compose stop $running
docker compose exec -T postgres pg_restore -f /dev/null <"$file" || { echo "restore: $file is no whole backup; nothing was changed" >&2; exit 1; }
# The new database gets its name when it is complete.
sql -d postgres -c 'DROP DATABASE IF EXISTS bore_restored' -c 'CREATE DATABASE bore_restored OWNER bore'
docker compose exec -T postgres pg_restore -U postgres --exit-on-error --single-transaction --no-owner --role=bore -d bore_restored <"$file"
sql -d bore_restored -c "UPDATE bore.event_epoch SET epoch = left(replace(gen_random_uuid()::text, '-', ''), 8)" -c ANALYZE
sql -d postgres -c 'DROP DATABASE IF EXISTS bore_db WITH (FORCE)' -c 'ALTER DATABASE bore_restored RENAME TO bore_db'
# shellcheck disable=SC2086
[ -z "$running" ] || docker compose start $running
echo "restored from $file"
