#!/bin/sh
# Writes the files of the container image: the program for production, the certificates of public
# authorities, and the name of the user. The Dockerfile, image.sh and release.sh run it.
#
#   ./deploy/image-root.sh DIRECTORY [VERSION]
#
# DIRECTORY must not exist. Without VERSION, the program says the version that Go finds in Git. GOOS and
# GOARCH select another platform.

set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: $0 DIRECTORY [VERSION]" >&2; exit 2; }
image=$1 version=${2:-}
# These are Mozilla's. /etc/ssl/certs may also have authorities that only this machine trusts.
certificates=/usr/share/ca-certificates/mozilla

umask 022 # the user of the image is not the owner of the files, so that it cannot change them
mkdir "$image"
mkdir -p "$image/etc/ssl/certs"
# Most of the code of go-redis is wrappers of commands that nobody calls. Without inlining they take 2 MB less.
CGO_ENABLED=0 go build -trimpath -tags production -gcflags=github.com/redis/go-redis/v9=-l -o "$image/sessiond" \
  -ldflags "-s -X github.com/sessiond/sessiond/cmd/sessiond/app.releaseVersion=$version" ./cmd/sessiond
[ -d "$certificates" ] || { echo "$0: $certificates is missing: install Debian's package ca-certificates" >&2; exit 1; }
cat "$certificates"/*.crt >"$image/etc/ssl/certs/ca-certificates.crt"
echo 'sessiond:x:65532:65532:sessiond:/:/sessiond' >"$image/etc/passwd"
echo 'sessiond:x:65532:' >"$image/etc/group"
