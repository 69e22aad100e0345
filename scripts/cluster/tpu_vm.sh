#!/usr/bin/env bash
# Trains with 'dnr train' on all hosts of a TPU VM pod slice:
#
#   export TPU_NAME=dnr ZONE=us-west4-a
#   scripts/cluster/tpu_vm.sh create v5litepod-16 v2-alpha-tpuv5-lite
#   scripts/cluster/tpu_vm.sh mount 10.0.0.2:/share      # the NFS share for the folders of runs
#   scripts/cluster/tpu_vm.sh install
#   scripts/cluster/tpu_vm.sh train --config=k400_tsn_dnr --workdir=/mnt/shared/runs/k400_dnr --config.data.source.root=gs://...
#   scripts/cluster/tpu_vm.sh log | stop | delete
set -euo pipefail
: "${TPU_NAME:?names the TPU VM}" "${ZONE:?names its zone}"

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all --command="$1"
}

command=${1:?create, mount, install, train, log, stop or delete}
shift
case $command in
  create)
    gcloud compute tpus tpu-vm create "$TPU_NAME" --zone="$ZONE" \
      --accelerator-type="${1:?the kind and number of TPUs, such as v5litepod-16}" \
      --version="${2:?the runtime, such as v2-alpha-tpuv5-lite}"
    ;;
  mount)
    on_all_hosts "sudo apt-get install -y nfs-common && sudo mkdir -p /mnt/shared &&
      { mountpoint -q /mnt/shared || sudo mount -o nfsvers=4.1 ${1:?the share, such as 10.0.0.2:/share} /mnt/shared; }"
    ;;
  install)
    on_all_hosts "python3 -m venv ~/dnr && ~/dnr/bin/pip install --upgrade 'dnr-jax[tpu,gcs]'"
    ;;
  train) # goes on when the connection ends; started again it goes on from the latest checkpoint
    words=$(printf '%q ' "$@")
    on_all_hosts "nohup ~/dnr/bin/dnr train --distributed $words > ~/dnr.log 2>&1 < /dev/null & echo \$! > ~/dnr.pid"
    ;;
  log)
    on_all_hosts "tail -n 20 ~/dnr.log"
    ;;
  stop) # every process writes its part of a checkpoint and ends
    on_all_hosts "kill -TERM \$(cat ~/dnr.pid); while kill -0 \$(cat ~/dnr.pid) 2> /dev/null; do sleep 1; done"
    ;;
  delete)
    gcloud compute tpus tpu-vm delete "$TPU_NAME" --zone="$ZONE"
    ;;
  *)
    echo "'$command' is none of create, mount, install, train, log, stop, delete" >&2
    exit 2
    ;;
esac
