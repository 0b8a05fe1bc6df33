#!/usr/bin/env bash
# Trains on the GPUs of a Slurm cluster, one process per GPU.
#
#   sbatch --nodes=4 launch/clusters/slurm.sh --config configs/xcomp_2b.py --workdir /mnt/xcomp/runs/xcomp-2b ...
#
# Arguments are passed to `xcomp tune`. Submit from the root of the repository, in the environment in
# which it is installed, with a workdir on a disk that all nodes share (launch/clusters/README.md has
# the whole command). Two minutes before the time limit every process saves, and the job requeues
# itself and resumes.
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
  echo "usage: sbatch --nodes=N launch/clusters/slurm.sh --config FILE --workdir DIR [...]" >&2
  exit 2
fi

# Exit code of `xcomp tune` when it saved and the same command resumes.
readonly CONTINUE=75

srun --kill-on-bad-exit=1 xcomp tune --distributed "$@" && code=0 || code=$?
if ((code == CONTINUE)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
