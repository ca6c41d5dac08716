#!/usr/bin/env bash
# Builds the gateways of which Debian has no version or only an old one: Traefik 3 and a newer Caddy.
#
#   ./deploy/gateways/build.sh DIRECTORY
#
# puts the programs "traefik" and "caddy" in DIRECTORY. The first build takes several minutes on two
# cores. The tests use the programs if the environment names the directory:
#
#   SESSIOND_TEST_GATEWAYS=DIRECTORY ./deploy/servers.sh go test ./deploy/gateways
#
# The modules in programs say which versions are built. Traefik is built without the DNS providers of
# lego, its library for certificates, and without the middlewares basicAuth and digestAuth, because
# their modules are not on every module proxy. The middlewares in traefik.yml are Traefik's own.

set -euo pipefail
# shellcheck source=deploy/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
[ $# -eq 1 ] || die "usage: $0 DIRECTORY"
mkdir -p "$1"
target=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/programs"
require_go
dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-gateways.XXXXXX")

say "building Caddy"
run go -C caddy build -trimpath -o "$target/caddy" github.com/caddyserver/caddy/v2/cmd/caddy

# lego's list of DNS providers imports all of them. A copy of lego has an empty list.
copy_lego() {
  local version source
  version=$(sed -n 's|.*github.com/go-acme/lego/v5 \(v[^ ]*\).*|\1|p' traefik/go.mod | head -n 1)
  source=$(cd "$dir" && go mod download -json "github.com/go-acme/lego/v5@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -n "$source" ] || die "cannot download lego $version"
  cp -r "$source" "$dir/traefik/lego"
  chmod -R u+w "$dir/traefik/lego"
  rm -rf "$dir/traefik/lego/cmd" "$dir/traefik/lego/e2e" "$dir/traefik/lego/providers/dns"
  mkdir "$dir/traefik/lego/providers/dns"
  cp traefik/dns-providers.go.txt "$dir/traefik/lego/providers/dns/providers.go"
}

say "building Traefik"
cp -r traefik "$dir/traefik"
copy_lego
run go -C "$dir/traefik" build -trimpath -o "$target/traefik" github.com/traefik/traefik/v3/cmd/traefik
say "built: caddy $(go version -m "$target/caddy" | awk '$2 == "github.com/caddyserver/caddy/v2" { print $3 }')," \
  "traefik $(go version -m "$target/traefik" | awk '$2 == "github.com/traefik/traefik/v3" { print $3 }')"
