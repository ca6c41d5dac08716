#!/usr/bin/env bash
# Installs the Helm chart on a real Kubernetes API server with real controllers, upgrades it from the
# release before, rolls it back and uninstalls it. Prints every pod that the controllers made.
#
#   ./deploy/cluster.sh [REF]
#
# REF is the Git tag of the release before. Without it, the release before is the same chart with
# another version and other values. The first run builds etcd and Kubernetes from the Go module proxy,
# which takes a quarter of an hour on two cores. The programs stay in SESSIOND_CLUSTER_BUILD, by default
# a directory of the user's cache. Later runs take two to three minutes.
#
# There are no nodes, so no container runs: chart/README.md says what this does not show.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/common.sh
. deploy/common.sh

build=${SESSIOND_CLUSTER_BUILD:-${XDG_CACHE_HOME:-$HOME/.cache}/sessiond-cluster}

# custom_resources prints the files that the chart's values need, with commas between them.
custom_resources() {
  local gateway prometheus crd=config/crd/standard/gateway.networking.k8s.io
  gateway=$(go mod download -json sigs.k8s.io/gateway-api@v1.6.3 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  prometheus=$(go mod download -json github.com/prometheus-operator/prometheus-operator@v0.85.0 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  echo "$gateway/${crd}_httproutes.yaml,$gateway/${crd}_grpcroutes.yaml,$(printf '%s,%s' \
    "$prometheus"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml)"
}

require_go
[ $# -le 1 ] || die "usage: ./deploy/cluster.sh [REF]"
dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-cluster.XXXXXX")
previous=()
if [ $# = 1 ]; then
  git archive "$1" deploy/chart | tar -x -C "$dir" || die "$1 has no deploy/chart"
  previous=(-previous "$dir/deploy/chart")
fi

mkdir -p "$build"
# Kubernetes changes only with go.mod. Go would find that out by itself, but needs a minute for it.
if ! cmp -s deploy/cluster/go.sum "$build/go.sum"; then
  say "building etcd, the API server and the controllers in $build (a quarter of an hour)"
  run go -C deploy/cluster build -trimpath -o "$build/" ./etcd ./apiserver ./controllers
  cp deploy/cluster/go.sum "$build/go.sum"
fi
say "building sessiond and the program that installs the chart"
run go build -o "$build/sessiond" ./cmd/sessiond
run go -C deploy/cluster build -o "$build/" ./install

say "installing"
mkdir "$dir/run"
files=$(custom_resources)
run "$build/install" -bin "$build" -dir "$dir/run" -chart deploy/chart -values deploy/charttest/testdata/values \
  -crds "$files" "${previous[@]}"
say "everything holds"
