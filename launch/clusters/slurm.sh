#!/usr/bin/env bash
# Trains on GPUs of a Slurm cluster, one process for each GPU.
#
#   sbatch --nodes=4 launch/slurm.sh --config configs/xcomp_2b.py --workdir /mnt/xcomp/runs/xcomp-2b ...
#
# The arguments go to `xcomp tune`. Submit from the repository's root with the environment active in
# which it is installed, and put the workdir where all nodes see it (launch/README.md has the whole
# command). Two minutes before the time limit every process is told to save; the job then queues again
# by itself and continues.
#SBATCH --job-name=xcomp
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=xcomp-%j.log
set -euo pipefail

if [[ $# -eq 0 || -z ${SLURM_JOB_ID:-} ]]; then
  echo "usage: sbatch --nodes=N launch/slurm.sh --config FILE --workdir FOLDER [...]" >&2
  exit 2
fi

# The number means: saved, and the same command continues (`xcomp tune --help`).
readonly CONTINUE=75

srun --kill-on-bad-exit=1 xcomp tune --distributed "$@" && code=0 || code=$?
if ((code == CONTINUE)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
