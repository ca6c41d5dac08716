#!/bin/sh
# Starts a Redis server or a Sentinel under its own host name.
#
#   redis.sh server|sentinel NAME [LINE]
#
# Both write into their configuration who is master, so they get a copy of it in the working directory.
# LINE is added to it.

set -eu
umask 077
kind=$1 name=$2 line=${3:-}

own=$kind.conf
if [ ! -e "$own" ]; then
  cat "/run/start/$kind.conf" "/run/redis/$kind.conf" >"$own.new"
  if [ "$kind" = server ]; then
    printf 'replica-announce-ip %s\n%s\n' "$name" "$line" >>"$own.new"
  else
    printf 'sentinel announce-ip %s\n' "$name" >>"$own.new"
  fi
  mv "$own.new" "$own"
fi
if [ "$kind" = server ]; then
  exec redis-server "$own"
fi
exec redis-server "$own" --sentinel
