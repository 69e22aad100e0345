"""``dnr reproduce`` with a protocol that takes seconds, for tests that kill it: ``run_tiny.py STEPS ARGUMENT ...``."""

import sys

from dnr_jax import cli
from dnr_jax.reproduce import experiments

if __name__ == "__main__":
    steps = int(sys.argv[1])
    experiments._protocol = lambda data: experiments.Protocol(size=8, steps=steps, warmup=2)
    experiments.QUICK = experiments.QUICK | {"videos": 16.0}
    experiments.VAL_VIDEOS = 16
    sys.exit(cli.main(["reproduce", *sys.argv[2:]]))
