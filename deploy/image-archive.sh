#!/usr/bin/env bash
# Packs the files of the image into an OCI archive, which "podman load" and "docker load" read. The same
# files give the same bytes.
#
#   ./deploy/image-archive.sh ROOT ARCH VERSION FILE
#
# ROOT is a directory that image-root.sh has written. ARCH is Go's name of the processor.

set -euo pipefail
[ $# = 4 ] || { echo "usage: $0 ROOT ARCH VERSION FILE" >&2; exit 2; }
root=$1 arch=$2 version=$3 file=$4
when=${SOURCE_DATE_EPOCH:-$(git -C "$(dirname "$0")" log -1 --format=%ct)}
layout=$(mktemp -d)
trap 'rm -rf "$layout"' EXIT
blobs=$layout/blobs/sha256
mkdir -p "$blobs"

# pack writes a directory as a tar that does not depend on this machine: pack DIRECTORY
pack() { tar -C "$1" --sort=name --mtime="@$when" --owner=0 --group=0 --numeric-owner --format=ustar -c .; }

# blob moves a file to its place, and prints the file's descriptor: blob MEDIA-TYPE FILE
blob() {
  local sum
  sum=$(sha256sum <"$2" | cut -d' ' -f1)
  mv "$2" "$blobs/$sum"
  printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d}' "$1" "$sum" "$(stat -c %s "$blobs/$sum")"
}

pack "$root" >"$layout/layer.tar"
diff_id=$(sha256sum <"$layout/layer.tar" | cut -d' ' -f1)
gzip -9n "$layout/layer.tar"
layer=$(blob layer.v1.tar+gzip "$layout/layer.tar.gz")

# The same as in the Dockerfile, which image.sh checks.
cat >"$layout/config" <<CONFIG
{"created":"$(date -u -d "@$when" +%Y-%m-%dT%H:%M:%SZ)","architecture":"$arch","os":"linux","config":{"User":"65532:65532",
"ExposedPorts":{"8080/tcp":{},"8081/tcp":{},"8082/tcp":{},"8083/tcp":{},"9090/tcp":{}},"Entrypoint":["/sessiond"],"Cmd":["serve"],
"Labels":{"org.opencontainers.image.version":"$version"}},"rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]}}
CONFIG
config=$(blob config.v1+json "$layout/config")

printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
  "$config" "$layer" >"$layout/manifest"
manifest=$(blob manifest.v1+json "$layout/manifest")

name=ghcr.io/sessiond/sessiond:${version#v}    # as in the chart
printf '{"schemaVersion":2,"manifests":[%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
  "${manifest%\}}" "$arch" "$name" "$name" >"$layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
pack "$layout" >"$file"
