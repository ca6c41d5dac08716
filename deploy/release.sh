#!/usr/bin/env bash
# Builds the programs of a release, with a software bill of materials for each.
#
#   ./deploy/release.sh VERSION DIRECTORY [OS/ARCH...]
#
# It writes sessiond-VERSION-OS-ARCH, the same with .cdx.json (CycloneDX), and SHA256SUMS. The same
# source and Go give the same bytes. Without OS/ARCH it builds for Linux, macOS and Windows.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/common.sh
. deploy/common.sh

cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

[ $# -ge 2 ] || die "usage: $0 VERSION DIRECTORY [OS/ARCH...]"
version=$1 out=$(mkdir -p "$2" && cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 linux/arm darwin/amd64 darwin/arm64 windows/amd64

require_go
dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-release.XXXXXX")
GOBIN=$dir GOFLAGS='' run go install "$cyclonedx"

export CGO_ENABLED=0
for platform in "$@"; do
  export GOOS=${platform%/*} GOARCH=${platform#*/}
  name=sessiond-$version-$GOOS-$GOARCH
  [ "$GOOS" != windows ] || name=$name.exe
  say "$name"
  run go build -trimpath -buildvcs=true -ldflags=-s -o "$out/$name" ./cmd/sessiond
  run "$dir/cyclonedx-gomod" bin -json -licenses -noserial -version "$version" -output "$out/$name.cdx.json" "$out/$name"
done
cd "$out"
sha256sum sessiond-"$version"-* >SHA256SUMS
say "$(grep -c . SHA256SUMS) files in $out"
