#!/usr/bin/env bash
# Throwaway servers for the tests: one PostgreSQL, one Redis and a Redis Cluster
# of three nodes, on free loopback ports, with all they write in one temporary
# directory. They end, and it goes, when the script that started them does.
#
#   ./deploy/servers.sh COMMAND [ARGUMENT...]
#
# runs COMMAND with them, named in its environment:
#
#   ./deploy/servers.sh go test ./sqlstore/...
#
# test.sh sources this file for its functions.

set -euo pipefail

say() { printf '== %d:%02d %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# ---- stopping -------------------------------------------------------------

dir=     # what the servers write
pids=()  # of the servers
running= # process group of the command under way
policy=  # the file that keeps a package from starting its services

# run runs a command in a process group of its own, so that an interrupt can
# end it together with all that it started.
run() {
  set -m
  "$@" </dev/null &
  running=$!
  set +m
  local status=0
  wait "$running" || status=$?
  running=
  return "$status"
}

clean_up() {
  local status=$? pid
  trap '' INT TERM HUP # a second Ctrl-C must not leave half of them behind
  if [ -n "$running" ]; then
    kill -TERM -- "-$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
  fi
  for pid in "${pids[@]}"; do
    stop "$pid"
  done
  [ -z "$dir" ] || rm -rf "$dir"
  [ -z "$policy" ] || allow_services
  exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# stop ends one server. INT is what PostgreSQL calls a fast shutdown; Redis
# takes it likewise. Nothing is to be saved, so what does not go is killed.
stop() {
  local pid=$1 _
  kill -INT "$pid" 2>/dev/null || return 0
  for _ in {1..100}; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}

# ---- finding and installing -----------------------------------------------

missing=() # packages, by Debian's names

# find_servers looks for the server programs, also those that tests start.
find_servers() {
  redis_server=$(command -v redis-server) && redis_cli=$(command -v redis-cli) || missing+=(redis-server)

  # Debian keeps them out of PATH, one directory a version.
  pg_bin=
  local bin
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -V) \
    "$(dirname "$(command -v initdb || echo /nowhere/initdb)")"; do
    if [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && [ -x "$bin/psql" ]; then
      pg_bin=$bin
    fi
  done
  [ -n "$pg_bin" ] || missing+=(postgresql)

  # Debian keeps some where only root's PATH leads.
  local gateway
  for gateway in nginx haproxy caddy; do
    PATH=$PATH:/usr/sbin command -v "$gateway" >/dev/null || missing+=("$gateway")
  done
}

# install_missing takes them from Debian's or Ubuntu's archive and keeps them
# from starting services of their own.
install_missing() {
  command -v apt-get >/dev/null ||
    die "missing programs; install what Debian calls ${missing[*]}"
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    die "missing packages, and neither root nor sudo to install them with: ${missing[*]}"
  say "installing ${missing[*]}"
  forbid_services
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300) said
  said=$(as_root "${apt[@]}" update 2>&1 &&
    as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" 2>&1) ||
    die "cannot install ${missing[*]}:"$'\n'"$said"
  allow_services
  missing=()
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# A package asks this program whether it may start its service (invoke-rc.d);
# 101 is no. One that is there already, as in a container's image, is kept aside.
policy_file=/usr/sbin/policy-rc.d

forbid_services() {
  if [ -e "$policy_file" ] && [ ! -e "$policy_file.kept" ]; then
    as_root cp -p "$policy_file" "$policy_file.kept"
  fi
  policy=$policy_file
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}

allow_services() {
  if [ -e "$policy.kept" ]; then
    as_root mv "$policy.kept" "$policy"
  else
    as_root rm -f "$policy"
  fi
  policy=
}

# require_servers installs what is missing, also what the caller has found to be.
require_servers() {
  find_servers
  if [ ${#missing[@]} -gt 0 ]; then
    install_missing
    find_servers
    [ ${#missing[@]} -eq 0 ] || die "installed, and still not found: ${missing[*]}"
  fi
  redis_version=$("$redis_server" --version | sed 's/.* v=\([0-9.]*\).*/\1/')
  at_least 7.0 "$redis_version" || die "Redis 7.0 or later is needed; $redis_server is $redis_version"
  postgres_version=$("$pg_bin/postgres" --version | awk '{ print $3 }')
  at_least 14 "$postgres_version" || die "PostgreSQL 14 or later is needed; $pg_bin has $postgres_version"
}

# at_least tells whether version $2 is $1 or later.
at_least() {
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# ---- starting -------------------------------------------------------------

# PostgreSQL refuses to run as root, and a Redis without a password had better
# not: any user of the machine could make it write files.
become=()

prepare_dir() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-test.XXXXXX")
  mkdir "$dir/data"
  if [ "$(id -u)" = 0 ]; then
    local user=nobody
    if id postgres >/dev/null 2>&1; then user=postgres; fi
    command -v setpriv >/dev/null || die "run as root, this needs setpriv (package util-linux)"
    become=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups --)
    chmod 711 "$dir"
    chown "$user" "$dir/data"
  fi
}

# free_port picks a port that nobody answers on, nor on the port 10,000 above it,
# where a cluster node talks to the others. Both stay below the range from which
# outgoing connections take theirs. Another process can still be quicker: whoever
# asks starts its server there, and comes again when that fails.
free_port() {
  local port
  while :; do
    port=$((12000 + RANDOM % 10000))
    if ! answers "$port" && ! answers $((port + 10000)); then
      echo "$port"
      return
    fi
  done
}

answers() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# up starts a server and waits until it is ready: up NAME READY COMMAND...; READY
# is a command that succeeds only on this very server.
up() {
  local name=$1 ready=$2 pid _
  shift 2
  "${become[@]}" "$@" </dev/null >>"$dir/$name.log" 2>&1 &
  pid=$!
  pids+=("$pid")
  for _ in {1..300}; do
    if "$ready" "$pid"; then return 0; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  stop "$pid"
  unset 'pids[-1]'
  return 1
}

give_up() {
  cat "$dir/$1.log" >&2
  die "$1 did not start: see above"
}

start_postgres() {
  say "starting PostgreSQL $postgres_version"
  local data=$dir/data/postgres password locale=(--locale=C) _
  # Most databases in production sort by language and not by byte; what relies
  # on the one order or the other must show it here.
  if at_least 15 "$postgres_version"; then
    locale+=(--locale-provider=icu --icu-locale=en-US)
  fi
  # A password, because on loopback every user of the machine could come in as
  # superuser; not SCRAM, because tests connect thousands of times.
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  (umask 077 && echo "$password" >"$dir/data/password")
  [ "$(id -u)" != 0 ] || chown --reference="$dir/data" "$dir/data/password"
  "${become[@]}" "$pg_bin/initdb" --pgdata="$data" --username=sessiond_test --pwfile="$dir/data/password" \
    --auth=password --encoding=UTF8 "${locale[@]}" --no-sync >>"$dir/postgres.log" 2>&1 || give_up postgres

  for _ in {1..5}; do
    postgres_port=$(free_port)
    postgres_url="postgres://sessiond_test:$password@127.0.0.1:$postgres_port"
    # Durability costs time, and nothing here outlives the run.
    if up postgres postgres_ready "$pg_bin/postgres" -D "$data" -p "$postgres_port" \
      -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 \
      -c fsync=off -c synchronous_commit=off -c full_page_writes=off; then
      return
    fi
  done
  give_up postgres
}

postgres_ready() { postgres_sessions >/dev/null 2>&1; }

# postgres_sessions counts the connections that were made so far, its own aside.
postgres_sessions() {
  PGCONNECT_TIMEOUT=5 "$pg_bin/psql" -XAtq "$postgres_url/template1" \
    -c "SELECT sum(sessions) FROM pg_stat_database WHERE datname <> 'template1'"
}

# start_redis starts a Redis, NAME [OPTION...], and leaves its port in $redis_port.
start_redis() {
  local name=$1 _
  shift
  "${become[@]}" mkdir -p "$dir/data/$name"
  for _ in {1..5}; do
    redis_port=$(free_port)
    if up "$name" redis_ready "$redis_server" --bind 127.0.0.1 --port "$redis_port" \
      --dir "$dir/data/$name" --save '' --appendonly no "$@"; then
      return
    fi
  done
  give_up "$name"
}

redis_ready() { [ "$(redis_info "$redis_port" process_id)" = "$1" ]; }

# redis_info reads one field of INFO: redis_info PORT FIELD.
redis_info() {
  { "$redis_cli" -h 127.0.0.1 -p "$1" info 2>/dev/null || true; } | tr -d '\r' | sed -n "s/^$2://p"
}

start_single() {
  say "starting Redis $redis_version"
  start_redis redis
  single_port=$redis_port
}

start_cluster() {
  say "starting Redis Cluster $redis_version, 3 nodes"
  cluster_ports=()
  local node nodes=() _
  for node in 1 2 3; do
    start_redis "cluster-$node" --cluster-enabled yes --cluster-node-timeout 5000
    cluster_ports+=("$redis_port")
    nodes+=("127.0.0.1:$redis_port")
  done
  "$redis_cli" --cluster create "${nodes[@]}" --cluster-yes >>"$dir/cluster.log" 2>&1 || give_up cluster
  for _ in {1..300}; do
    if cluster_ready; then
      cluster_nodes=$(IFS=, && echo "${nodes[*]}")
      return
    fi
    sleep 0.1
  done
  give_up cluster
}

# cluster_ready tells whether every node says that the cluster is whole: one
# that has not heard yet would refuse what the tests send it.
cluster_ready() {
  local port
  for port in "${cluster_ports[@]}"; do
    "$redis_cli" -h 127.0.0.1 -p "$port" cluster info | grep -q '^cluster_state:ok' || return 1
  done
}

# start_servers starts them all and names them in the environment, where no
# setting of the service or of PostgreSQL's clients is left that would make this
# run another than everybody's.
start_servers() {
  local name
  for name in "${!PG@}" "${!SESSIOND_@}"; do
    [[ $name == SESSIOND_TEST_* ]] || unset "$name"
  done
  prepare_dir
  start_postgres
  start_single
  start_cluster
  export SESSIOND_TEST_POSTGRES_URL="$postgres_url/postgres?sslmode=disable"
  export SESSIOND_TEST_REDIS_URL=redis://127.0.0.1:$single_port/0
  export SESSIOND_TEST_REDIS_CLUSTER=$cluster_nodes
  export SESSIOND_TEST_REDIS_SERVER=$redis_server
  export SESSIOND_TEST_REQUIRE_REAL=1
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  [ $# -gt 0 ] || die "usage: $0 COMMAND [ARGUMENT...]"
  require_servers
  start_servers
  say "running $*"
  run "$@"
fi
