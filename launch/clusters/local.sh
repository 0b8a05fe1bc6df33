#!/usr/bin/env bash
# Trains with several processes on one machine, with the same program as on a cluster.
#
#   launch/clusters/local.sh 2 --config configs/smoke.py --workdir runs/two
#
# Arguments after the number are passed to `xcomp tune`. The same command resumes the run. An
# interrupt is passed to every process, which saves before it exits.
set -euo pipefail

usage() { echo "usage: launch/clusters/local.sh NUM_PROCESSES --config FILE --workdir DIR [...]" >&2; exit 2; }
[[ $# -ge 2 && $1 =~ ^[1-9][0-9]*$ ]] || usage
count=$1
shift

# If another program takes the port before process 0 does, the run fails at once instead of hanging.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < count; i++)); do
  quiet=()
  ((i == 0)) || quiet=(--quiet) # one progress bar is enough
  xcomp tune --coordinator "127.0.0.1:$port" --num-processes "$count" --process-id "$i" "$@" "${quiet[@]}" &
  pids+=($!)
done

# Exits with the code of the first process that failed.
code=0
for pid in "${pids[@]}"; do
  # A signal interrupts `wait` while the process continues.
  while :; do
    wait "$pid" && status=0 || status=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  ((code != 0)) || code=$status
done
exit "$code"
