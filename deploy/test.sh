#!/usr/bin/env bash
# Runs all tests with the race detector, against real servers.
#
#   ./deploy/test.sh [PACKAGE...]
#
# Without PACKAGE it tests everything, otherwise only the named packages, such as
# ./session/... On a bare Debian or Ubuntu machine with Go it installs missing programs:
# Redis, PostgreSQL, PgBouncer, nginx, HAProxy, Caddy, Prometheus, iproute2, and a C compiler for the race
# detector. It starts its own servers (servers.sh) on loopback, and stops them at the end. The last
# line of output names the servers that the tests really used.
#
# A run of everything also checks that deploy/docs/asvs.md is what the tests prove. With
# SESSIOND_TEST_ASVS=write it writes that file.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/servers.sh
. deploy/servers.sh
# shellcheck source=deploy/flavours.sh
. deploy/flavours.sh

gotestsum=gotest.tools/gotestsum@v1.13.0

everything=no
if [ $# -eq 0 ]; then
  everything=yes
  set -- ./...
fi
[[ $1 != -* ]] || die "unknown flag $1; usage: ./deploy/test.sh [PACKAGE...]"

# The race detector needs a C compiler.
find_compiler() {
  export CGO_ENABLED=1
  local cc
  cc=$(go env CC)
  # shellcheck disable=SC2086 # CC may contain flags
  echo '#include <stdlib.h>' | $cc -E - >/dev/null 2>&1 || missing+=(gcc libc6-dev)
}

require_go
find_compiler
require_servers
list=$(go list "$@")
mapfile -t packages <<<"$list"
start_servers
GOBIN=$dir run go install "$gotestsum"

# One test verifies sessiond's tokens with Node's jose library, if Node is installed.
if command -v node >/dev/null && command -v npm >/dev/null; then
  mkdir "$dir/jose"
  if run npm install --prefix "$dir/jose" --silent --no-fund --no-audit --no-package-lock jose@6.2.17; then
    export SESSIOND_TEST_JOSE=$dir/jose
  else
    say "Node's jose library cannot be fetched; its test is skipped"
  fi
fi

# One test runs on Valkey 8 and Redis 8, too.
if [[ " ${packages[*]} " == *"/redisstore "* ]] && [ -z "${SESSIOND_TEST_REDIS_FLAVOURS:-}" ]; then
  if fetch_flavours "$dir/flavours" >"$dir/flavours.log" 2>&1; then
    SESSIOND_TEST_REDIS_FLAVOURS=$(IFS=: && echo "${flavours[*]}")
    export SESSIOND_TEST_REDIS_FLAVOURS
  else
    say "NOT TESTED on Valkey 8 and Redis 8: they cannot be fetched. $(tail -n 1 "$dir/flavours.log")"
  fi
fi

# redis_clients prints the sum of the next client ids of the Redis servers on the
# given ports. Redis numbers its clients, so the sum shows whether any connected.
redis_clients() {
  local port sum=0
  for port in "$@"; do
    sum=$((sum + $("$redis_cli" -h 127.0.0.1 -p "$port" client id)))
  done
  echo $sum
}

gateway_versions() {
  echo "nginx $(nginx -v 2>&1 | sed 's|.*nginx/\([0-9.]*\).*|\1|')" \
    "· HAProxy $(haproxy -v | sed -n 's/^HAProxy version \([0-9.]*\).*/\1/p')" \
    "· Caddy $(caddy version | sed 's/^v\{0,1\}\([0-9.]*\).*/\1/')"
}

single_before=$(redis_clients "$single_port")
cluster_before=$(redis_clients "${cluster_ports[@]}")

# go_test prints the events of go test as JSON: go_test DIRECTORY PARALLEL PACKAGE...
go_test() {
  go -C "$1" test -json -p="$2" -race -count=1 -shuffle=on -vet=off -timeout=40m "${@:3}"
}

# The tests of these packages measure CPU time, so nothing else may run at the same
# time.
alone='/identity/hashing$'

events() {
  local status=0 shared measuring
  mapfile -t shared < <(printf '%s\n' "${packages[@]}" | grep -v "$alone")
  mapfile -t measuring < <(printf '%s\n' "${packages[@]}" | grep "$alone")
  [ ${#shared[@]} = 0 ] || go_test . 2 "${shared[@]}" || status=1
  [ ${#measuring[@]} = 0 ] || go_test . 1 "${measuring[@]}" || status=1
  if [ $everything = yes ] && [ -e cmd/sessionbench/go.mod ]; then
    go_test cmd/sessionbench 1 ./... || status=1
    go_test deploy/charttest 1 ./... || status=1
    go_test deploy/gateways/kubernetes 1 ./... || status=1
  fi
  [ $everything = no ] || go_test deploy/compose 1 ./... || status=1
  return "$status"
}

# report prints a line for each package and failed tests' output as they come. At
# the end it lists the skipped tests with their reasons, the failures again, and
# the counts.
report() {
  # shellcheck disable=SC2016 # gotestsum sets the variables
  "$dir/gotestsum" --format=pkgname-and-test-fails --format-icons=text --format-hide-empty-pkg \
    --jsonfile-timing-events="$dir/events" \
    --post-run-command='bash -c "echo $TESTS_TOTAL tests, $TESTS_FAILED failed, $TESTS_SKIPPED skipped >\"$counts\""' \
    --raw-command -- cat
}

all_tests() { events | report; }

say "go test -race"
export counts=$dir/counts
status=0
run all_tests || status=$?
[ -e "$counts" ] || exit 1
[[ $(cat "$counts") != "0 tests"* ]] || die "no test ran"

# The table of ASVS says what the tests of this run prove.
if [ $everything = yes ]; then
  asvs=()
  [ "${SESSIOND_TEST_ASVS:-}" != write ] || asvs=(-write)
  run go run ./deploy/asvs -events "$dir/events" "${asvs[@]}" || status=1
fi

# The last line of output names only the servers to which tests connected.
line="tested: $(cat "$counts")"
unused=
used() {
  if [ "$2" -gt 0 ]; then
    line+=" · $1"
  else
    unused+=" · $1"
  fi
}
used "PostgreSQL $postgres_version" "$(postgres_sessions)"
used "$redis_name $redis_version" $(($(redis_clients "$single_port") - single_before - 1))
used "$redis_name Cluster $redis_version (${#cluster_ports[@]} nodes)" \
  $(($(redis_clients "${cluster_ports[@]}") - cluster_before - ${#cluster_ports[@]}))
# Gateways do not count their connections. Their tests fail if a gateway is not
# installed.
if [[ " ${packages[*]} " == *"/deploy/gateways "* ]]; then
  line+=" · $(PATH=$PATH:/usr/sbin gateway_versions)"
fi

# So are the servers of the test on Valkey 8 and Redis 8, which fails on an error.
for flavour in "${flavours[@]}"; do
  line+=" · $("$flavour" --version | sed 's/^\([A-Za-z]*\) .* v=\([0-9.]*\).*/\1 \2/')"
done

# Prometheus is named likewise.
if [[ " ${packages[*]} " == *"/deploy/observability "* ]]; then
  line+=" · Prometheus $(prometheus --version 2>&1 | sed -n 's/^prometheus, version \([0-9.]*\).*/\1/p')"
fi

echo "$line · $((SECONDS / 60))m$((SECONDS % 60))s"
if [ $everything = yes ] && [ -n "$unused" ]; then
  die "no test used${unused# ·}"
fi
exit $status
