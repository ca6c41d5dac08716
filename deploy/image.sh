#!/usr/bin/env bash
# Builds the files of the container image, prints them and their sizes, and runs the image with a
# read-only root, no capabilities, 64 MB of memory and a quarter of a processor: migrate, doctor, serve,
# a sign-in, checks, the end of a session, and admin, against throwaway servers on loopback.
#
#   ./deploy/image.sh [--dockerfile | --chroot]
#
# It uses Podman if that can start a container here, otherwise (or with --chroot) a chroot of the same
# files with control groups, which needs root. With --dockerfile, Podman builds the image from deploy/Dockerfile. If the
# base image cannot be pulled, it is made of this machine's Go and debootstrap.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/servers.sh
. deploy/servers.sh

memory=64 # MB
max_size=40000000 max_compressed=16000000
user=65532

way=${1:-}
[[ $# -le 1 && $way =~ ^(|--dockerfile|--chroot)$ ]] || die "usage: $0 [--dockerfile | --chroot]"

# ---- building --------------------------------------------------------------

image=docker.io/sessiond/sessiond:test

# build writes the files of the image to $dir/root, and packs them.
build() {
  say "building the files of the image"
  run ./deploy/image-root.sh "$dir/root"
  run ./deploy/image-archive.sh "$dir/root" "$(go env GOARCH)" test "$dir/image.tar"
}

# show prints the files and sizes, and fails if the image is too big.
show() {
  local size compressed
  find "$dir/root" -mindepth 1 -printf '%M %10s  /%P\n' | sort -k3
  size=$(find "$dir/root" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
  compressed=$(stat -c %s "$dir/image.tar")
  say "size $size of $max_size bytes, compressed $compressed of $max_compressed bytes"
  [ "$size" -le $max_size ] || die "the image is too big"
  [ "$compressed" -le $max_compressed ] || die "the compressed image is too big"
}

base=$(sed -n 's/^FROM .*\(docker.io[^ ]*\) AS build/\1/p' deploy/Dockerfile)

# make_base makes the image that the Dockerfile builds on, where no registry can be reached.
make_base() {
  local debian=$dir/debian container mirror
  mirror=$(grep -hoE '^(URIs:|deb) *[^ ]+' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed 's/.* //' | head -n 1)
  say "making $base of Debian and $(go env GOVERSION)"
  run debootstrap --variant=minbase --include=git,ca-certificates bookworm "$debian" "$mirror" >"$dir/debootstrap.log" ||
    give_up debootstrap
  cp -r "$(go env GOROOT)" "$debian/usr/local/go"
  cp /etc/ssl/certs/ca-certificates.crt "$debian/etc/ssl/certs/" # this machine may reach the module proxy through another authority
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$debian" / >/dev/null
  buildah config --env PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin --env GOTOOLCHAIN=local "$container"
  buildah commit --quiet --rm "$container" "$base" >/dev/null
  rm -rf "$debian"
}

# build_dockerfile builds the image by its Dockerfile, and compares its configuration with the archive's.
build_dockerfile() {
  local archive built format='{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.ExposedPorts}}'
  podman image exists "$base" || timeout 60 podman pull --quiet "$base" 2>/dev/null || make_base
  say "building deploy/Dockerfile"
  # The limits of this machine are given on, because it may not let a container raise them.
  run buildah bud --layers --runtime "$runtime" --network host --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --pull=never \
    --build-arg GOPROXY="$(go env GOPROXY)" --file deploy/Dockerfile --tag "$image-dockerfile" .
  archive=$(podman image inspect --format "$format" "$image")
  built=$(podman image inspect --format "$format" "$image-dockerfile")
  [ "$archive" = "$built" ] || die "the image of the Dockerfile has the configuration $built; want $archive"
  image=$image-dockerfile
  podman image inspect --format 'image of the Dockerfile: {{.Size}} bytes, user {{.Config.User}}, {{.Config.Entrypoint}} {{.Config.Cmd}}' "$image"
}

# ---- running with limits ---------------------------------------------------

runtime= # of Podman; empty if there is no Podman that works

# find_engine loads the image into Podman, and looks for a runtime that starts a limited container.
find_engine() {
  [ "$way" != --chroot ] && command -v podman >/dev/null || return 0
  podman load --quiet --input "$dir/image.tar" >/dev/null 2>&1 || return 0
  for runtime in crun runc; do
    if contain podman-probe version >"$dir/probe.log" 2>&1; then return 0; fi
    say "Podman with $runtime starts no container: $(tail -n 1 "$dir/probe.log")"
  done
  runtime=
}

# contain runs the image with a verb in Podman: contain NAME ARGUMENT...
contain() {
  local name=sessiond-$1-$$
  shift
  podman run --rm --name "$name" --runtime "$runtime" --network host --read-only --read-only-tmpfs=false \
    --cap-drop all --security-opt no-new-privileges --memory "${memory}m" --memory-swap "${memory}m" --cpus 0.25 --pids-limit 100 \
    --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --env-file "$dir/env" --volume "$dir/keys:/keys" "$image" "$@"
}

# enclose runs it in a chroot: enclose NAME ARGUMENT...
enclose() {
  local name=sessiond-$1-$$ control
  shift
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    control=/sys/fs/cgroup/$name
    mkdir "$control"
    echo "${memory}000000" >"$control/memory.max"
    echo '25000 100000' >"$control/cpu.max"
  else
    mkdir "/sys/fs/cgroup/memory/$name" "/sys/fs/cgroup/cpu/$name"
    control=/sys/fs/cgroup/memory/$name
    echo "${memory}000000" >"$control/memory.limit_in_bytes"
    echo 25000 >"/sys/fs/cgroup/cpu/$name/cpu.cfs_quota_us"
  fi
  # The first shell enters the groups. The second one mounts the root in a namespace of its own, and
  # gives up root and with it all capabilities.
  # shellcheck disable=SC2016 # the shells expand these
  bash -c '
    echo $$ >"$1/cgroup.procs"
    [ ! -d "/sys/fs/cgroup/cpu/$2" ] || echo $$ >"/sys/fs/cgroup/cpu/$2/cgroup.procs"
    exec setpriv --no-new-privs unshare --mount --propagation private bash -c '\''
      set -e
      mount --bind "$1/root" "$1/root"
      mount -t proc proc "$1/root/proc"
      mount --bind /dev/null "$1/root/dev/null"
      mount --bind "$1/keys" "$1/root/keys"
      mount -o remount,bind,ro "$1/root"
      exec env -i $(cat "$1/env") unshare --setuid "$2" --setgid "$2" --root "$1/root" --wd / /sessiond "${@:3}"
    '\'' chroot "${@:3}"
  ' enclose "$control" "$name" "$dir" "$user" "$@"
}

# limited runs a verb of the image: limited NAME ARGUMENT...
limited() {
  if [ -n "$runtime" ]; then contain "$@"; else enclose "$@"; fi
}

# remove_groups removes the control groups of chroots that have ended.
remove_groups() { find /sys/fs/cgroup -maxdepth 2 -name "sessiond-*-$$" -prune -exec rmdir {} + 2>/dev/null || true; }

# configure writes the settings of the image, and makes a directory for its keys.
configure() {
  mkdir "$dir/keys" && chmod 700 "$dir/keys" && chown "$user:$user" "$dir/keys"
  port=$(free_port)
  base_url=http://127.0.0.1:$port
  cat >"$dir/env" <<ENV
GOMEMLIMIT=24MiB
SESSIOND_DATABASE_URL=$postgres_url/postgres?sslmode=disable
SESSIOND_REDIS_URL=redis://127.0.0.1:$single_port/0
SESSIOND_SIGNING_KEYS_FILE=/keys/keys.json
SESSIOND_ISSUER=http://localhost
SESSIOND_PUBLIC_URL=$base_url
SESSIOND_METRICS_ADDR=
ENV
}

# ---- trying it out ---------------------------------------------------------

# call makes a request and prints the response's status and body: call METHOD PATH [OPTION...]
call() { curl --silent --show-error --max-time 60 --write-out '\n%{http_code}\n' --request "$1" "$base_url$2" "${@:3}"; }

# expect fails unless a request has this status: expect STATUS METHOD PATH [OPTION...]
expect() {
  local answer
  answer=$(call "${@:2}")
  [ "${answer##*$'\n'}" = "$1" ] || die "$2 $3 answers $answer; want $1"$'\n'"$(tail -n 5 "$dir/serve.log")"
  printf '%s\n' "$answer"
}

field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# serving prints the process id of serve.
serving() { pgrep -f "^/sessiond serve --addr 127.0.0.1:$port"; }

# group_of prints the control group of a process's memory.
group_of() {
  awk -F: '$2 == "memory" { print "/sys/fs/cgroup/memory" $3 } $1 == "0" { print "/sys/fs/cgroup" $3 }' "/proc/$1/cgroup" | head -n 1
}

# show_rights prints what the kernel says about the process that serves, and fails if it has rights.
show_rights() {
  local pid status
  pid=$(serving)
  status=$(grep -E '^(Uid|CapEff|CapPrm|NoNewPrivs):' "/proc/$pid/status" | tr '\t\n' '  ')
  say "rights of serve: $status· root $(awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo" | cut -d, -f1)"
  [[ $status == *"Uid: $user "* && $status == *"CapEff: 0000000000000000"* && $status == *"NoNewPrivs: 1"* ]] || die "serve has more rights than it should"
  [[ $(awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo") == ro* ]] || die "the root can be written"
}

show_memory() {
  local pid peak killed
  for pid in $(cat "$group/cgroup.procs"); do
    say "peak of $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-30): $(sed -n 's/^VmHWM:[ \t]*//p' "/proc/$pid/status") resident, $(sed -n 's/^RssAnon:[ \t]*//p' "/proc/$pid/status") of it not from files now"
  done
  # The second names are those of the first version of control groups.
  peak=$(cat "$group/memory.peak" 2>/dev/null || cat "$group/memory.max_usage_in_bytes" 2>/dev/null || echo unknown)
  killed=$({ cat "$group/memory.events" 2>/dev/null || cat "$group/memory.oom_control" 2>/dev/null || true; } | awk '$1 == "oom_kill" { print $2 }')
  say "peak of the group with its page cache: $peak bytes of ${memory} MB, killed for memory: ${killed:-unknown}"
  [ "${killed:-0}" = 0 ] || die "the kernel has killed a process for its memory"
}

try() {
  local header json='Content-Type: application/json' answer i launcher servers
  say "$(limited version version | head -n 1)"
  say "keys new, migrate"
  limited keys keys new --out /keys/keys.json
  limited migrate migrate
  say "doctor"
  limited doctor doctor
  say "serve"
  servers=${#pids[@]}
  limited serve serve --addr "127.0.0.1:$port" >"$dir/serve.log" 2>&1 &
  launcher=$!
  for i in {1..600}; do
    if [ ${#pids[@]} -gt "$servers" ] && answers "$port" && [ "$(call GET /readyz | tail -n 1)" = 200 ]; then break; fi
    if [ "$i" = 600 ] || ! kill -0 "$launcher" 2>/dev/null; then give_up serve; fi
    if [ ${#pids[@]} = "$servers" ] && serving >/dev/null; then pids+=("$(serving)"); fi
    sleep 0.1
  done
  group=$(group_of "${pids[-1]}")
  show_rights

  say "register, sign in, check, end, check"
  expect 200 POST /registerUser --header "$json" --data '{"username":"ada","email":"ada@example.com","password":"a long passphrase"}' >/dev/null
  answer=$(expect 201 POST /v1/sessions --header "$json" --data '{"login":"ada","password":"a long passphrase"}')
  header="Authorization: Bearer $(field access_token <<<"$answer")"
  expect 200 GET /v1/verify --header "$header" >/dev/null
  expect 204 DELETE /v1/sessions/current --header "$header" >/dev/null
  expect 401 GET /v1/verify --header "$header" >/dev/null

  say "100 sign-ins, 10 at a time, of which the queue refuses most with 503, and 5000 checks, 50 at a time"
  answer=$(expect 201 POST /v1/sessions --header "$json" --data '{"login":"ada","password":"a long passphrase"}')
  header="Authorization: Bearer $(field access_token <<<"$answer")"
  statuses --parallel-max 10 --request POST --header "$json" --data '{"login":"ada","password":"a long passphrase"}' "$base_url/v1/sessions?[1-100]"
  statuses --parallel-max 50 --header "$header" "$base_url/v1/verify?[1-5000]"
  expect 200 GET /v1/verify --header "$header" >/dev/null
  show_memory

  say "admin: end all sessions of ada"
  limited admin admin sessions revoke --user ada --yes 2>/dev/null
  expect 401 GET /v1/verify --header "$header" >/dev/null

  say "end"
  kill -TERM "${pids[-1]}"
  unset 'pids[-1]'
  wait "$launcher" || die "serve has ended with status $?"
  remove_groups
}

# statuses makes many requests at once, and prints how many had each status.
statuses() {
  curl --no-progress-meter --parallel --parallel-immediate --max-time 120 --output /dev/null --write-out '%{http_code}\n' "$@" |
    sort | uniq -c | awk '{ printf "   %d × %s", $1, $2 } END { print "" }'
}

# ---------------------------------------------------------------------------

require_go
command -v curl >/dev/null || missing+=(curl)
require_servers
prepare_dir
build
show
start_postgres
start_single
configure
find_engine
if [ -n "$runtime" ]; then
  say "using $(podman --version) with $runtime"
  [ "$way" != --dockerfile ] || build_dockerfile
else
  [ "$way" != --dockerfile ] || die "--dockerfile needs a Podman that works"
  [ "$(id -u)" = 0 ] || die "there is no Podman that works, and a chroot needs root"
  say "using a chroot and control groups"
  mkdir -p "$dir/root/proc" "$dir/root/keys" "$dir/root/dev"
  touch "$dir/root/dev/null"
fi
try
say "the image runs with ${memory} MB"
