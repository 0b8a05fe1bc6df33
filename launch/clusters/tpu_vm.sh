#!/usr/bin/env bash
# Runs a command on every worker of a pod of Cloud TPU VMs.
#
#   launch/clusters/tpu_vm.sh create NAME ZONE v5p-128 v2-alpha-tpuv5   # request a pod (more gcloud flags may follow)
#   launch/clusters/tpu_vm.sh wait   NAME ZONE                          # wait until it is active
#   launch/clusters/tpu_vm.sh setup  NAME ZONE                          # install this commit on all workers
#   launch/clusters/tpu_vm.sh encode NAME ZONE --mixture mixture.yaml --table scan.csv --store /mnt/xcomp/features ...
#   launch/clusters/tpu_vm.sh run    NAME ZONE --config configs/xcomp_2b.py --workdir /mnt/xcomp/runs/xcomp-2b ...
#   launch/clusters/tpu_vm.sh logs   NAME ZONE                          # follow the output of every worker
#   launch/clusters/tpu_vm.sh stop   NAME ZONE                          # save, then exit
#
# `encode` and `run` are `xcomp encode` and `xcomp tune`; the same command resumes, also on a new pod.
# Data, store and workdir must be in folders that all workers share (a mounted bucket or a file
# server); launch/clusters/README.md has the whole command. Delete the pod yourself:
#   gcloud compute tpus queued-resources delete NAME --zone ZONE --force
set -euo pipefail

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[[ $# -ge 3 ]] || usage
action=$1 name=$2 zone=$3
shift 3

readonly FOLDER=xcomp-jax PID=xcomp.pid LOG=xcomp.log
readonly STARTED="[ -s $PID ] || { echo 'no run on this pod yet; start one with encode or run' >&2; exit 1; }"
everywhere() { gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "$1"; }
state() { gcloud compute tpus queued-resources describe "$name" --zone "$zone" --format='value(state.state)'; }

case $action in
  create)
    [[ $# -ge 2 ]] || usage
    accelerator=$1 runtime=$2
    shift 2
    gcloud compute tpus queued-resources create "$name" --node-id "$name" --zone "$zone" \
      --accelerator-type "$accelerator" --runtime-version "$runtime" "$@"
    ;;
  wait)
    until now=$(state) || exit; [[ $now == ACTIVE ]]; do
      case $now in
        FAILED | SUSPENDING | SUSPENDED)
          echo "$name is $now: delete the queued resource and create it again" >&2
          exit 1
          ;;
      esac
      sleep 30
    done
    ;;
  setup)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    git -C "$(dirname "$0")/../.." archive --format=tar.gz --output "$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$name:$FOLDER.tar.gz" --zone "$zone" --worker=all
    everywhere "mkdir -p $FOLDER && tar -xzf $FOLDER.tar.gz -C $FOLDER && cd $FOLDER \
      && python3 -m venv .venv && .venv/bin/pip install --quiet -e '.[tpu]'"
    ;;
  encode | run)
    [[ $# -ge 1 ]] || usage
    [[ $action == encode ]] && command=encode || command=tune
    # nohup outlives this connection; a second run would compete for the chips.
    everywhere "if kill -0 \$(cat $PID 2>/dev/null) 2>/dev/null; then echo 'a run is active; use logs or stop' >&2; exit 1; fi
      cd $FOLDER && . .venv/bin/activate
      nohup xcomp $command --distributed $(printf '%q ' "$@") > ~/$LOG 2>&1 & echo \$! > ~/$PID
      tail --pid \$! -n +1 -f ~/$LOG; wait \$!"
    ;;
  logs) everywhere "$STARTED; tail --pid \$(cat $PID) -n 50 -f $LOG" ;;
  stop) everywhere "$STARTED; kill -TERM \$(cat $PID) && tail --pid \$(cat $PID) -n 5 -f $LOG" ;;
  *) usage ;;
esac
