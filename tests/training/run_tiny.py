"""Trains the tiny network in a process of its own: ``python -m tests.training.run_tiny VIDEOS WORKDIR``."""

import sys

from dnr_jax.training import loop
from tests.training.tiny import tiny_config, tiny_network

if __name__ == "__main__":
    videos, workdir = sys.argv[1:]
    loop.create_model = tiny_network
    loop.train(tiny_config(videos, steps=60, log_every=7, eval_every=20, checkpoint_every=5), workdir)
