#!/usr/bin/env bash
# Throwaway servers for tests: PostgreSQL, Redis and a Redis Cluster of three
# nodes, on free loopback ports. All their data is in one temporary directory.
# The servers stop, and the directory is removed, when the script exits.
#
#   ./deploy/servers.sh COMMAND [ARGUMENT...]
#
# runs COMMAND with the servers' addresses in its environment, for example:
#
#   ./deploy/servers.sh go test ./sqlstore/...
#
# test.sh sources this file for its functions.

set -euo pipefail
# shellcheck source=deploy/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# ---- finding --------------------------------------------------------------

# find_servers looks for the servers, gateways and Prometheus, which tests start. It adds the Debian
# packages of programs that are not installed to the list "missing".
find_servers() {
  redis_server=${SESSIOND_TEST_REDIS_SERVER:-redis-server} # it may also be Valkey
  redis_cli=${redis_server%server}cli
  redis_server=$(command -v "$redis_server") && redis_cli=$(command -v "$redis_cli") || missing+=(redis-server)

  # Debian installs each PostgreSQL version in a directory outside PATH.
  pg_bin=
  local bin
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -V) \
    "$(dirname "$(command -v initdb || echo /nowhere/initdb)")"; do
    if [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && [ -x "$bin/psql" ]; then
      pg_bin=$bin
    fi
  done
  [ -n "$pg_bin" ] || missing+=(postgresql)

  # Debian installs some of these in /usr/sbin, which is in root's PATH only.
  local program
  for program in nginx haproxy caddy pgbouncer prometheus; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing+=("$program")
  done
  PATH=$PATH:/usr/sbin command -v ip >/dev/null || missing+=(iproute2)   # deploy/compose makes networks
  [ -d /usr/share/ca-certificates/mozilla ] || missing+=(ca-certificates) # image-root.sh packs them
}

# require_servers installs the servers that are not installed, and other packages that
# the caller has added to "missing".
require_servers() {
  find_servers
  if [ ${#missing[@]} -gt 0 ]; then
    install_missing
    find_servers
    [ ${#missing[@]} -eq 0 ] || die "the packages are installed, but their programs were not found: ${missing[*]}"
  fi
  redis_name=$("$redis_server" --version | awk '{ print $1 }')
  redis_version=$("$redis_server" --version | sed 's/.* v=\([0-9.]*\).*/\1/')
  at_least 7.0 "$redis_version" || die "Redis 7.0 or later is needed; $redis_server is $redis_version"
  postgres_version=$("$pg_bin/postgres" --version | awk '{ print $3 }')
  at_least 14 "$postgres_version" || die "PostgreSQL 14 or later is needed; $pg_bin has $postgres_version"
}

# ---- starting -------------------------------------------------------------

# become is the command prefix that runs a server as an unprivileged user. PostgreSQL
# refuses to run as root. Redis has no password here, so as root it would let any local
# user write files as root.
become=()

prepare_dir() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-test.XXXXXX")
  mkdir "$dir/data"
  if [ "$(id -u)" = 0 ]; then
    local user=nobody
    if id postgres >/dev/null 2>&1; then user=postgres; fi
    command -v setpriv >/dev/null || die "running as root needs setpriv (package util-linux)"
    become=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups --)
    chmod 711 "$dir"
    chown "$user" "$dir/data"
  fi
}

# free_port prints a free port whose cluster bus port (10,000 higher) is free, too. Both
# are below the ports for outgoing connections. Another process may still take the port
# first, so callers retry with a new one.
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

# up starts a server and waits up to two minutes until it is ready:
#
#   up NAME READY COMMAND...
#
# READY is a command that gets the server's process id as its argument. It succeeds only
# if that process answers, and not another server on the same port.
up() {
  local name=$1 ready=$2 pid deadline=$((SECONDS + 120))
  shift 2
  "${become[@]}" "$@" </dev/null >>"$dir/$name.log" 2>&1 &
  pid=$!
  pids+=("$pid")
  while [ $SECONDS -lt $deadline ]; do
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
  die "$1 did not start: its log is above"
}

start_postgres() {
  say "starting PostgreSQL $postgres_version"
  local data=$dir/data/postgres password locale=(--locale=C) _
  # Most production databases sort by language and not by byte. An ICU locale
  # makes tests fail if code relies on byte order.
  if at_least 15 "$postgres_version"; then
    locale+=(--locale-provider=icu --icu-locale=en-US)
  fi
  # Without a password, every local user could connect as superuser. SCRAM would
  # be slow, because tests connect thousands of times.
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  (umask 077 && echo "$password" >"$dir/data/password")
  [ "$(id -u)" != 0 ] || chown --reference="$dir/data" "$dir/data/password"
  "${become[@]}" "$pg_bin/initdb" --pgdata="$data" --username=sessiond_test --pwfile="$dir/data/password" \
    --auth=password --encoding=UTF8 "${locale[@]}" --no-sync >>"$dir/postgres.log" 2>&1 || give_up postgres

  for _ in {1..5}; do
    postgres_port=$(free_port)
    postgres_url="postgres://sessiond_test:$password@127.0.0.1:$postgres_port"
    # Switch durability off: it costs time, and the data is deleted after the run.
    if up postgres postgres_ready "$pg_bin/postgres" -D "$data" -p "$postgres_port" \
      -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 \
      -c fsync=off -c synchronous_commit=off -c full_page_writes=off; then
      return
    fi
  done
  give_up postgres
}

postgres_ready() { postgres_sessions >/dev/null 2>&1; }

# postgres_sessions prints how many connections PostgreSQL has accepted so far,
# without those of this function.
postgres_sessions() {
  PGCONNECT_TIMEOUT=60 "$pg_bin/psql" -XAtq "$postgres_url/template1" \
    -c "SELECT sum(sessions) FROM pg_stat_database WHERE datname <> 'template1'"
}

# start_redis starts a Redis server and sets redis_port to its port:
#
#   start_redis NAME [OPTION...]
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

# redis_info prints one field of Redis' INFO: redis_info PORT FIELD.
redis_info() {
  { "$redis_cli" -h 127.0.0.1 -p "$1" info 2>/dev/null || true; } | tr -d '\r' | sed -n "s/^$2://p"
}

start_single() {
  say "starting $redis_name $redis_version"
  start_redis redis
  single_port=$redis_port
}

start_cluster() {
  say "starting $redis_name Cluster $redis_version, 3 nodes"
  cluster_ports=()
  local node nodes=() deadline
  for node in 1 2 3; do
    start_redis "cluster-$node" --cluster-enabled yes --cluster-node-timeout 5000
    cluster_ports+=("$redis_port")
    nodes+=("127.0.0.1:$redis_port")
  done
  "$redis_cli" --cluster create "${nodes[@]}" --cluster-yes >>"$dir/cluster.log" 2>&1 || give_up cluster
  deadline=$((SECONDS + 120))
  while [ $SECONDS -lt $deadline ]; do
    if cluster_ready; then
      cluster_nodes=$(IFS=, && echo "${nodes[*]}")
      return
    fi
    sleep 0.1
  done
  give_up cluster
}

# cluster_ready reports whether every node considers the cluster complete. Other nodes
# would refuse the tests' commands.
cluster_ready() {
  local port
  for port in "${cluster_ports[@]}"; do
    "$redis_cli" -h 127.0.0.1 -p "$port" cluster info | grep -q '^cluster_state:ok' || return 1
  done
}

# start_servers starts all servers and exports their addresses. It removes every
# setting of sessiond and of PostgreSQL's clients from the environment, because
# the tests must run the same way on every machine.
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
