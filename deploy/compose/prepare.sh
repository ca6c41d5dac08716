#!/bin/sh
# Makes the passwords of compose.yaml at the first start. Each volume belongs to the user of its service,
# so that no other one reads it.

set -eu
umask 077

if [ -e /run/sessiond/redis-url ]; then # the last file, so that an interrupted run begins again
  echo "the passwords exist"
  exit
fi

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

postgres=$(random) redis=$(random)

echo "$postgres" >/run/postgres/password
chown -R 999:999 /run/postgres

# The Sentinels know each other's password, because it is their own.
printf 'requirepass %s\nmasterauth %s\n' "$redis" "$redis" >/run/redis/server.conf
printf 'requirepass %s\nsentinel auth-pass sessiond %s\n' "$redis" "$redis" >/run/redis/sentinel.conf
chown -R 999:999 /run/redis

random >/run/grafana/password
chown -R 472:0 /run/grafana

echo "postgres://sessiond:$postgres@postgres/sessiond?sslmode=disable" >/run/sessiond/database-url
echo "redis+sentinel://:$redis@sentinel-1,sentinel-2,sentinel-3/0?master=sessiond&sentinel_password=$redis" >/run/sessiond/redis-url
chown -R 65532:65532 /run/sessiond
echo "made new passwords"
