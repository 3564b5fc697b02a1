#!/usr/bin/env bash
# Waits until a Kafka broker answers its own protocol on a loopback port; an open port alone proves little.
#   ready.sh PORT [SECONDS=60 [PID]]    exit 0 when ready; 1 when the time ran out or PID is gone
set -euo pipefail
port=${1:?PORT} end=$((SECONDS + ${2:-60})) pid=${3:-}
ask() { # Metadata v4 for no topics: prints the answer's first 16 bytes in hex
  { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 0
  printf '\0\0\0\x10\0\x03\0\x04\0\0\0\x01\0\x01r\0\0\0\0\0' >&3
  timeout 2 head -c 16 <&3 | od -An -v -tx1 | tr -d ' \n' || true
  exec 3>&-
}
while :; do
  got=$(ask)
  [[ ${got:24:8} =~ ^0000000[1-9]$ ]] && exit 0 # it lists at least one broker that is not fenced
  [ $SECONDS -ge $end ] && exit 1
  [ -z "$pid" ] || kill -0 "$pid" 2>/dev/null || exit 1
  sleep 0.1
done
