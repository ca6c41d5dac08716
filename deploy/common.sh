#!/usr/bin/env bash
# Functions that cluster.sh, lint.sh, servers.sh and test.sh share. This file is sourced, not run.

set -euo pipefail

# say prints a progress line with the minutes and seconds since the start.
say() { printf '== %d:%02d %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# ---- stopping -------------------------------------------------------------

dir=     # temporary directory of this run
pids=()  # servers to stop at the end
running= # process group of the current command
policy=  # file that keeps new packages from starting their services

# run runs a command in its own process group, so that an interrupt ends the
# command and everything that it started.
run() {
  set -m
  "$@" </dev/null &
  running=$!
  set +m
  local status=0
  wait "$running" || status=$?
  running=
  return "$status"
}

clean_up() {
  local status=$? pid
  trap '' INT TERM HUP # a second Ctrl-C must not interrupt the cleanup
  if [ -n "$running" ]; then
    kill -TERM -- "-$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
  fi
  for pid in "${pids[@]}"; do
    stop "$pid"
  done
  [ -z "$dir" ] || rm -rf "$dir"
  [ -z "$policy" ] || allow_services
  exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# stop stops one server. SIGINT is PostgreSQL's "fast shutdown" and also stops Redis. A
# server that still runs after five seconds is killed, because its data is not needed.
stop() {
  local pid=$1 _
  kill -INT "$pid" 2>/dev/null || return 0
  for _ in {1..100}; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}

# ---- finding and installing -----------------------------------------------

# at_least reports whether version $2 is $1 or later.
at_least() {
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# require_go puts Go 1.26 or later first in PATH, even if it is installed outside PATH.
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

missing=() # Debian names of the packages to install

# install_missing installs the missing packages from Debian's or Ubuntu's archive
# and keeps them from starting services.
install_missing() {
  command -v apt-get >/dev/null ||
    die "programs are missing; install the Debian packages ${missing[*]} or their equivalents"
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    die "packages are missing, and installing them needs root or sudo: ${missing[*]}"
  say "installing ${missing[*]}"
  forbid_services
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300) output
  output=$(as_root "${apt[@]}" update 2>&1 &&
    as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" 2>&1) ||
    die "cannot install ${missing[*]}:"$'\n'"$output"
  allow_services
  missing=()
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian's packages run this program before they start a service. Its exit status 101
# forbids the start. If the file already exists, as in some container images, this
# script sets it aside and restores it.
policy_file=/usr/sbin/policy-rc.d

forbid_services() {
  if [ -e "$policy_file" ] && [ ! -e "$policy_file.kept" ]; then
    as_root cp -p "$policy_file" "$policy_file.kept"
  fi
  policy=$policy_file
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}

allow_services() {
  if [ -e "$policy.kept" ]; then
    as_root mv "$policy.kept" "$policy"
  else
    as_root rm -f "$policy"
  fi
  policy=
}
