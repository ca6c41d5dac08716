#!/usr/bin/env bash
# Builds a release from a tag of Git.
#
#   ./deploy/release.sh TAG DIRECTORY [OS/ARCH...]
#
# It writes into DIRECTORY:
#
#   sessiond-TAG-OS-ARCH             the program; without OS/ARCH for Linux, macOS and Windows
#   sessiond-TAG-image-linux-*.tar   the container image, as an OCI archive
#   *.cdx.json                       a software bill of materials for each (CycloneDX)
#   sessiond-TAG-notes.md            the section of the changelog
#   SHA256SUMS
#
# It builds what the tag has and not what the working tree has. The same tag and Go give the same bytes:
# the script builds the first program again, in another directory and without Go's cache, and compares.
# It needs no network except the module proxy.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/common.sh
. deploy/common.sh

cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

[ $# -ge 2 ] || die "usage: $0 TAG DIRECTORY [OS/ARCH...]"
tag=$1 out=$(mkdir -p "$2" && cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 linux/arm darwin/amd64 darwin/arm64 windows/amd64
[[ $tag =~ ^v[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "the tag $tag is not like v1.2.3"
git rev-parse --quiet --verify "refs/tags/$tag" >/dev/null || die "there is no tag $tag"

require_go
export CGO_ENABLED=0
export GOFLAGS=-buildvcs=true
dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-release.XXXXXX")
GOBIN=$dir GOFLAGS='' run go install "$cyclonedx"

# fetch writes the files of the tag into a directory, with a .git where Go reads the version.
fetch() { git -c advice.detachedHead=false clone --quiet --branch "$tag" . "$1"; }

# build builds the program of a directory: build DIRECTORY OS/ARCH FILE
build() {
  GOOS=${2%/*} GOARCH=${2#*/} run go build -C "$1" -trimpath -ldflags=-s -o "$3" ./cmd/sessiond
}

# name_of prints the name of the program for OS/ARCH.
name_of() {
  local name=sessiond-$tag-${1%/*}-${1#*/}
  [ "${1%/*}" != windows ] || name=$name.exe
  echo "$name"
}

materials() { run "$dir/cyclonedx-gomod" bin -json -licenses -noserial -version "$tag" -output "$out/$1.cdx.json" "$2"; }

sum() { sha256sum "$1" | cut -d' ' -f1; }

fetch "$dir/source"
grep -qx "appVersion: \"${tag#v}\"" "$dir/source/deploy/chart/Chart.yaml" || die "deploy/chart/Chart.yaml of $tag has another appVersion"
notes=$out/sessiond-$tag-notes.md
awk -v version="[${tag#v}]" '/^## / { on = $2 == version; next } on' "$dir/source/deploy/docs/CHANGELOG.md" | sed '/./,$!d' >"$notes"
[ -s "$notes" ] || die "deploy/docs/CHANGELOG.md of $tag has no section [${tag#v}]"

for platform in "$@"; do
  name=$(name_of "$platform")
  say "$name"
  build "$dir/source" "$platform" "$out/$name"
  materials "$name" "$out/$name"
  if [ "$platform" = "$(go env GOHOSTOS)/$(go env GOHOSTARCH)" ]; then
    said=$("$out/$name" version)
    [[ $said == "sessiond $tag"$'\n'* ]] || die "$name says that it is $said"
    say "it says: $(tr '\n' ' ' <<<"$said")"
  fi
done

for arch in amd64 arm64; do
  name=sessiond-$tag-image-linux-$arch.tar
  say "$name"
  GOOS=linux GOARCH=$arch run "$dir/source/deploy/image-root.sh" "$dir/image-$arch"
  run "$dir/source/deploy/image-archive.sh" "$dir/image-$arch" "$arch" "$tag" "$out/$name"
  materials "$name" "$dir/image-$arch/sessiond"
done

say "building $(name_of "$1") again, in another directory and without Go's cache"
fetch "$dir/elsewhere/source"
GOCACHE=$dir/cache build "$dir/elsewhere/source" "$1" "$dir/again"
first=$(sum "$out/$(name_of "$1")") second=$(sum "$dir/again")
say "first  $first"
say "second $second"
[ "$first" = "$second" ] || die "two builds of $tag differ"

cd "$out"
sha256sum sessiond-"$tag"-* >SHA256SUMS
say "$(grep -c . SHA256SUMS) files in $out"
