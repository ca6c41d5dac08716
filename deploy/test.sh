#!/usr/bin/env bash
# The test command: from a bare Debian or Ubuntu machine with Go to one line
# that says what was really tested.
#
#   ./deploy/test.sh [--no-lint] [PACKAGE...]
#
# Without PACKAGE it checks and tests everything; with some, such as
# ./session/..., those only. It installs what is missing (Redis, PostgreSQL,
# nginx, HAProxy, Caddy, a C compiler for the race detector), starts servers of
# its own (servers.sh) and leaves none running. Everything listens on loopback.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/servers.sh
. deploy/servers.sh

golangci_lint=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

lint=yes
packages=()
for argument in "$@"; do
  case $argument in
  --no-lint) lint=no ;;
  -*) die "unknown flag $argument; usage: ./deploy/test.sh [--no-lint] [PACKAGE...]" ;;
  *) packages+=("$argument") ;;
  esac
done
everything=no
if [ ${#packages[@]} -eq 0 ]; then
  everything=yes
  packages=(./...)
fi

# ---- what it needs --------------------------------------------------------

require_go() {
  local go_dir path version found=
  for go_dir in '' /usr/local/go/bin /usr/lib/go/bin /usr/lib/go-*/bin "${HOME:-/nowhere}"/sdk/go*/bin; do
    path=${go_dir:+$go_dir:}$PATH
    version=$(PATH=$path go env GOVERSION 2>/dev/null) || continue
    if at_least 1.26 "${version#go}"; then
      PATH=$path
      say "using $version"
      return
    fi
    found=" (found $version)"
  done
  die "Go 1.26 or later is needed$found: https://go.dev/dl/"
}

# The race detector is linked by a C compiler, which a machine with Go alone lacks.
find_compiler() {
  export CGO_ENABLED=1
  local cc
  cc=$(go env CC)
  # shellcheck disable=SC2086 # CC may hold flags
  echo '#include <stdlib.h>' | $cc -E - >/dev/null 2>&1 || missing+=(gcc libc6-dev)
}

require_go
find_compiler
require_servers

# ---- what needs no server -------------------------------------------------

say "gofmt"
directories=$(go list -f '{{.Dir}}' "${packages[@]}")
mapfile -t directories <<<"$directories"
unformatted=$("$(go env GOROOT)/bin/gofmt" -l "${directories[@]}" | sort -u)
[ -z "$unformatted" ] || die "not as gofmt would have it:"$'\n'"$unformatted"

say "go vet"
run go vet "${packages[@]}"

say "go build"
run go build -o /dev/null "${packages[@]}"

if [ $lint = yes ]; then
  say "golangci-lint (built the first time, which takes minutes)"
  run go run "$golangci_lint" run --allow-parallel-runners "${packages[@]}"
fi

# ---- what needs servers ---------------------------------------------------

start_servers
go build -o "$dir/testreport" ./deploy/testreport

if [ $everything = yes ]; then
  if run timeout 5 bash -c ': <>/dev/tcp/vuln.go.dev/443' 2>/dev/null; then
    say "govulncheck"
    GOBIN=$dir run go install "$govulncheck"
    status=0
    run "$dir/govulncheck" "${packages[@]}" || status=$?
    # 3 is what it found; anything else is what kept it from looking.
    [ $status != 3 ] || die "govulncheck found vulnerabilities: see above"
    [ $status = 0 ] || say "govulncheck failed ($status), which is not held against the code"
  else
    say "govulncheck is left out: its database is not reachable"
  fi
fi

# Where there is Node, its users' library has to verify our tokens, too.
if command -v node >/dev/null && command -v npm >/dev/null; then
  mkdir "$dir/jose"
  if run npm install --prefix "$dir/jose" --silent --no-fund --no-audit --no-package-lock jose@6.2.17; then
    export SESSIOND_TEST_JOSE=$dir/jose
  else
    say "Node's jose cannot be fetched; its test is left out"
  fi
fi

# Every client of a Redis gets the next number, this one too; so it tells
# whether there was another in between.
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

# One package after the other: some load every core, which is what they test, and
# others wait for an answer no longer than a user would.
say "go test -race"
status=0
run "$dir/testreport" -summary "$dir/summary" -- -p=1 -race -count=1 -shuffle=on -vet=off -timeout=15m "${packages[@]}" ||
  status=$?
[ -e "$dir/summary" ] || exit 1

# A server that no test came to was not tested, however well it ran.
line="tested: $(cat "$dir/summary")"
unused=
used() {
  if [ "$2" -gt 0 ]; then
    line+=" · $1"
  else
    unused+=" · $1"
  fi
}
used "PostgreSQL $postgres_version" "$(postgres_sessions)"
used "Redis $redis_version" $(($(redis_clients "$single_port") - single_before - 1))
used "Redis Cluster $redis_version (${#cluster_ports[@]} nodes)" \
  $(($(redis_clients "${cluster_ports[@]}") - cluster_before - ${#cluster_ports[@]}))
# They leave no count of those who came; but where one is missing, its tests fail.
if go list "${packages[@]}" | grep -q '/deploy/gateways$'; then
  line+=" · $(PATH=$PATH:/usr/sbin gateway_versions)"
fi

echo "$line · $((SECONDS / 60))m$((SECONDS % 60))s"
if [ $everything = yes ] && [ -n "$unused" ]; then
  die "no test used${unused# ·}"
fi
exit $status
