#!/usr/bin/env bash
#SBATCH --job-name=dnr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1        # one process a host: one reader of videos, and all of the host's GPUs
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300          # to the processes, five minutes before the time is up: they write a checkpoint
#SBATCH --requeue                  # after preemption and when a host fails
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#
# Trains with 'dnr train' on the hosts of a Slurm job, and goes on in another job where the time did not suffice:
#
#   sbatch scripts/cluster/slurm.sh --config=k400_tsn_dnr --workdir=/shared/runs/k400_dnr --config.data.source.root=...
#
# The folder of the run has to be on a disk that all hosts share. Edit the lines above for your cluster.
set -uo pipefail

# Under Slurm, JAX gives a process the one GPU of its number on the host, unless it is told otherwise.
export JAX_LOCAL_DEVICE_IDS
JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((${SLURM_GPUS_ON_NODE:-1} - 1)))

srun dnr train --distributed "$@"
status=$?

restarts=${SLURM_RESTART_COUNT:-0}
case $status in
  0) echo "trained" ;;
  143) # SIGTERM: a checkpoint was written
    echo "stopped; the same job again goes on"
    scontrol requeue "$SLURM_JOB_ID"
    ;;
  2) echo "something has to be corrected; see above" ;;
  *)
    if ((restarts < 5)); then # a process died, and the others ended with it
      echo "failed with status $status; restart $((restarts + 1)) of 5, from the latest checkpoint"
      scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$status"
