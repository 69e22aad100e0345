"""Memory of a train step as ``dnr plan`` tells it, against what this process takes for it, on one CPU device.

Batches are random and on the device before, so that no input pipeline counts. Linux, where a process can forget its
peak; glibc is told to give back what is freed.

    export MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=65536 JAX_PLATFORMS=cpu
    python benchmarks/planned_memory.py --config demo --config.train.batch_size=32 --config.model.num_classes=8
"""

import pathlib
import sys
import time

import jax
import numpy as np
import psutil

from dnr_jax.config import read_command_line
from dnr_jax.models import create_model
from dnr_jax.runs.devices import make_mesh, place_batch
from dnr_jax.training import plan
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import create_state
from dnr_jax.training.step import make_train_step


def main() -> None:
    """Print both, and their ratio."""
    config, _, _ = read_command_line(sys.argv, "demo")
    mesh, size, shape = make_mesh(jax.devices()[:1]), config.train.batch_size, config.data.clip_shape
    planned = plan.compile_step(config, mesh).memory
    rng, model = np.random.default_rng(0), create_model(config.model)
    schedule = make_schedule(config.optimizer, size, 1000)
    tx = make_optimizer(config.optimizer, schedule)
    take_step = make_train_step(model, tx, schedule, config, mesh)
    state = create_state(model, tx, shape, mesh, seed=0, averaged=config.train.averaging is not None)
    batch = {
        "video": rng.integers(0, 256, (size, *shape), np.uint8),
        "label": rng.integers(0, config.model.num_classes, size, np.int32),
        "weight": np.ones(size, np.float32),
    }
    batches = [place_batch(batch, mesh) for _ in range(plan.BATCHES_HELD)]
    state, metrics = take_step(state, batches[0])
    jax.block_until_ready(metrics)
    time.sleep(1)  # what the step held is given back a little later
    rest = psutil.Process().memory_info().rss
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    for batch in batches:
        state, metrics = take_step(state, batch)
        jax.block_until_ready(metrics)
    peak = 1024 * int(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    leaves = jax.tree.leaves((state.replace(key=None), batches))
    measured = peak - rest + sum(leaf.nbytes for leaf in leaves)
    print(f"planned {planned.total / 2**20:.1f} MiB, of which the program {planned.temporaries / 2**20:.1f}")
    print(f"measured {measured / 2**20:.1f} MiB; planned / measured {planned.total / measured:.2f}")


if __name__ == "__main__":
    main()
