"""Trains the tiny network in a process of its own, which may be one of several.

``python -m tests.training.run_tiny VIDEOS WORKDIR DROPOUT [STEPS] [fsdp=N] [COORDINATOR PROCESSES PROCESS | detect]``
"""

import sys

import jax

from dnr_jax.runs import devices
from dnr_jax.training import loop
from tests.training.tiny import known, tiny_config

if __name__ == "__main__":
    videos, workdir, dropout, *cluster = sys.argv[1:]
    steps = int(cluster.pop(0)) if cluster and cluster[0].isdecimal() else 60
    parts = int(cluster.pop(0).removeprefix("fsdp=")) if cluster and cluster[0].startswith("fsdp=") else 1
    devices.SMALLEST_SHARDED = 2  # the arrays of this network are small
    if cluster == ["detect"]:
        jax.distributed.initialize()
    elif cluster:
        jax.distributed.initialize(cluster[0], int(cluster[1]), int(cluster[2]))
    config = tiny_config(videos, steps=steps, log_every=7, eval_every=20, checkpoint_every=5, fsdp_devices=parts)
    config.model.dropout = float(dropout)
    with known():
        loop.train(config, workdir)
