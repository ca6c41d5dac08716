#!/usr/bin/env bash
# Checks the code without running it: gofmt, go vet (also as for production), golangci-lint, the scripts by
# ShellCheck if that is installed and, where its database can be reached, govulncheck.
#
#   ./deploy/lint.sh
#
# The first run builds golangci-lint, which takes minutes. All checks run, and the
# exit status is 0 only if all of them pass.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/common.sh
. deploy/common.sh

golangci_lint=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

failed=()

# check runs a command, and remembers its NAME if it fails: check NAME COMMAND...
check() {
  local name=$1
  shift
  say "$name"
  run "$@" || failed+=("$name")
}

formatted() {
  local files
  files=$("$(go env GOROOT)/bin/gofmt" -l .) || return
  [ -z "$files" ] || printf 'gofmt would change:\n%s\n' "$files"
  [ -z "$files" ]
}

# scan succeeds unless govulncheck found a vulnerability, its exit status 3. Any other
# failure means that it could not check the code.
scan() {
  local status=0
  "$dir/govulncheck" ./... || status=$?
  if [ $status != 0 ] && [ $status != 3 ]; then
    say "govulncheck could not check the code (exit status $status); this is not counted as a failure"
  fi
  [ $status != 3 ]
}

require_go
dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-lint.XXXXXX")

scanning=no
if timeout 5 bash -c ': <>/dev/tcp/vuln.go.dev/443' 2>/dev/null; then
  scanning=yes
  GOBIN=$dir run go install "$govulncheck"
else
  say "govulncheck is skipped: its database cannot be reached"
fi

check gofmt formatted
if command -v shellcheck >/dev/null; then
  check shellcheck shellcheck --external-sources --severity=warning deploy/*.sh deploy/compose/*.sh .ci/run
else
  say "shellcheck is skipped: it is not installed"
fi
for module in . cmd/sessionbench deploy/charttest deploy/compose deploy/gateways/kubernetes; do
  [ -e "$module/go.mod" ] || continue
  cd "$module"
  name=$(go list -m)
  check "go vet $name" go vet ./...
  [ "$module" != . ] || check "go vet -tags production" go vet -tags production ./...
  check "golangci-lint $name" go run "$golangci_lint" run --allow-parallel-runners
  [ $scanning = no ] || check "govulncheck $name" scan
  cd "$OLDPWD"
done

[ ${#failed[@]} -eq 0 ] || die "failed: $(IFS=, && echo "${failed[*]}")"
say "no faults found"
