#!/usr/bin/env bash
# Trains with several processes on this machine: the same program as on a cluster.
#
#   launch/local.sh 2 --config configs/smoke.py --workdir runs/two
#
# The arguments after the number go to `xcomp tune`. Started again, the run continues. An interrupt
# reaches every process, which saves before it ends.
set -euo pipefail

usage() { echo "usage: launch/local.sh NUM_PROCESSES --config FILE --workdir FOLDER [...]" >&2; exit 2; }
[[ $# -ge 2 && $1 =~ ^[1-9][0-9]*$ ]] || usage
count=$1
shift

# Free now; whoever takes it before process 0 does makes this run fail at once, not hang.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < count; i++)); do
  quiet=()
  ((i == 0)) || quiet=(--quiet) # one progress bar is enough
  xcomp tune --coordinator "127.0.0.1:$port" --num-processes "$count" --process-id "$i" "$@" "${quiet[@]}" &
  pids+=($!)
done

# The code of the first process that failed.
code=0
for pid in "${pids[@]}"; do
  # A signal ends `wait`, not the process.
  while :; do
    wait "$pid" && one=0 || one=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  ((code != 0)) || code=$one
done
exit "$code"
