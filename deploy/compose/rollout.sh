#!/bin/sh
# rollout.sh SERVICE...: replaces every container of these services by new ones, of the image and settings as they are
# now, without a lost request: as many new ones are started beside the old, and only when all are healthy the old ones
# are asked to end, one after the other. For what may have replicas: gateway stream auth registry monitor alerter.
# Run where docker-compose.yml is, with the same environment as `docker compose up`.
# shellcheck shell=dash
set -eu

WAIT_SECONDS=120

fail() { echo "rollout: $*" >&2; exit 1; }

# wait_healthy ID...
wait_healthy() {
    waited=0
    for id; do
        while [ "$(docker inspect --format '{{.State.Health.Status}}' "$id")" != healthy ]; do
            [ "$(docker inspect --format '{{.State.Status}}' "$id")" = running ] || fail "a new container does not run: docker logs $id"
            [ "$waited" -lt $((WAIT_SECONDS * 2)) ] || fail "a new container is not healthy: docker logs $id"
            waited=$((waited + 1))
            sleep 0.5
        done
    done
}

roll() {
    service=$1
    old=$(docker compose ps -q "$service")
    count=$(printf '%s\n' "$old" | grep -c .) || fail "$service does not run"
    # --no-recreate: what runs stays as it is, what is new has the image and settings of now
    docker compose up -d --no-deps --no-recreate --scale "$service=$((count * 2))" "$service" >/dev/null 2>&1 ||
        fail "no further containers of $service could be started"
    new=
    for id in $(docker compose ps -q "$service"); do
        case $old in *"$id"*) ;; *) new="$new $id" ;; esac
    done
    # shellcheck disable=SC2086  # a list of ids
    wait_healthy $new
    for id in $old; do
        docker stop "$id" >/dev/null
        docker rm "$id" >/dev/null
    done
    echo "$service: $count replaced"
}

[ $# -gt 0 ] || fail "which services?"
for service; do
    case $service in
        gateway | stream | auth | registry | monitor | alerter) roll "$service" ;;
        *) fail "$service has no replicas: docker compose up -d $service (or restart) is how it is replaced" ;;
    esac
done
