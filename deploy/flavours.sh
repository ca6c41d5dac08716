#!/usr/bin/env bash
# Runs tests on other servers than the installed Redis: Valkey 8 and Redis 8.
#
#   ./deploy/flavours.sh [PACKAGE...]
#
# It unpacks the servers and their libraries from the packages of Debian 13 into a temporary
# directory, and installs nothing. For each server it runs test.sh. Without PACKAGE it tests
# ./redisstore/..., ./cmd/sessiond/httpsuite and ./cmd/sessiond/faultsuite.
#
# To test a server that you have, name its program. Its command line tool, whose name ends in "cli"
# instead of "server", must be in the same directory:
#
#   SESSIOND_TEST_REDIS_SERVER=/opt/valkey/bin/valkey-server ./deploy/test.sh ./redisstore/...
#
# test.sh sources this file for fetch_flavours.

set -euo pipefail
# shellcheck source=deploy/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

flavours=() # paths of the servers that fetch_flavours found

# fetch_flavours unpacks Valkey 8 and Redis 8 into directories in $1. It fails if the packages
# cannot be had, for example because this is not Debian.
fetch_flavours() {
  local to=$1 suite=trixie package deb lib program
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  command -v apt-get >/dev/null && [ -e "$keys" ] || return 1
  mkdir -p "$to/lists/partial" "$to/cache/archives/partial" "$to/root" || return 1
  echo "deb [signed-by=$keys] http://deb.debian.org/debian $suite main" >"$to/sources.list"
  # The lists are in a directory of their own, so the machine's own packages are not affected.
  cat >"$to/apt.conf" <<END
Dir::Etc::SourceList "$to/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$to/lists";
Dir::Cache "$to/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
END
  local -x APT_CONFIG=$to/apt.conf
  apt-get -qq update || return 1
  # These are the servers and the libraries that their packages depend on. The dynamic loader of
  # libc6 runs them beside the machine's own, older libraries.
  local packages=(valkey-server valkey-tools redis-server redis-tools libc6 libjemalloc2 libssl3t64 libsystemd0 liblzf1
    libatomic1 libstdc++6 libgcc-s1 libzstd1 zlib1g libcap2)
  (cd "$to" && apt-get -qq download "${packages[@]/%//$suite}") || return 1
  for deb in "$to"/*.deb; do
    dpkg -x "$deb" "$to/root" || return 1
  done
  lib=$(dirname "$(echo "$to"/root/usr/lib/*/libc.so.6)")
  for package in valkey redis; do
    mkdir -p "$to/$package"
    for program in "$package-server" "$package-cli"; do
      printf '#!/bin/sh\nexec %s --library-path %s --argv0 %s %s "$@"\n' \
        "$(echo "$lib"/ld-linux*.so.*)" "$lib" "$program" "$to/root/usr/bin/$program" >"$to/$package/$program"
      chmod 755 "$to/$package/$program"
    done
    "$to/$package/$package-server" --version >/dev/null || return 1
    flavours+=("$to/$package/$package-server")
  done
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  [ $# -gt 0 ] || set -- ./redisstore/... ./cmd/sessiond/httpsuite ./cmd/sessiond/faultsuite
  here=$(dirname "${BASH_SOURCE[0]}")
  dir=$(mktemp -d "${TMPDIR:-/tmp}/sessiond-flavours.XXXXXX")
  chmod 755 "$dir" # servers run as another user than root
  say "fetching Valkey and Redis from Debian 13"
  fetch_flavours "$dir" || die "NOT TESTED: Valkey and Redis 8 cannot be fetched; see the beginning of this file"
  status=0
  for server in "${flavours[@]}"; do
    say "testing on $("$server" --version)"
    SESSIOND_TEST_REDIS_SERVER=$server run "$here/test.sh" "$@" || status=1
  done
  exit "$status"
fi
