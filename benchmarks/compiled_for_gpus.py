"""Memory of train steps as XLA lays it out for a GPU that is not there, against what it was on that GPU.

It reads a file that ``accelerator.py`` wrote on the GPU, and compiles the same steps with the options of that file. It
needs JAX's plugin for CUDA, of the release of JAX that the file was written with.

    python benchmarks/compiled_for_gpus.py --gpu h200 docs/results/accelerator_h200_without_triton.json
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
from accelerator import FULL, SMOKE, with_norm
from jax.sharding import SingleDeviceSharding
from networks import NORMS
from steps import NetworkSteps

from dnr_jax.training.target_gpus import CHIPS, target_gpus

KNOWN = FULL.networks | SMOKE.networks


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", choices=CHIPS, required=True)
    parser.add_argument("--networks", nargs="+", choices=KNOWN, default=[*KNOWN], help="default: all in the file")
    parser.add_argument("file", type=pathlib.Path)
    args = parser.parse_args()
    results = json.loads(args.file.read_text())
    machine = results["machine"]
    if jax.__version__ != machine["versions"]["jax"]:
        raise SystemExit(f"{args.file} was written with jax {machine['versions']['jax']}; this is {jax.__version__}")
    flags = (flag.removeprefix("--").split("=") for flag in machine.get("XLA_FLAGS", "").split())
    options = {name: value.capitalize() for name, value in flags} | machine.get("compiler options", {})
    sharding = SingleDeviceSharding(target_gpus(args.gpu, 1)[0])

    def abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    print("| network | dtype | clips | norm | GiB here | GiB there | here / there |\n" + 7 * "| --- " + "|")
    for row in results["steps"]:
        network, dtype, batch = row["network"], row["dtype"], row["batch"]
        if network not in args.networks or "failed" in row:
            continue
        for norm in NORMS:
            base, shape = KNOWN[network]
            steps = NetworkSteps(with_norm(base, norm, dtype=dtype), jax.ShapeDtypeStruct((batch, *shape), jnp.float32))
            function, *arguments = steps.step("train")
            lowered = jax.jit(function, compiler_options=options).lower(*jax.tree.map(abstract, arguments))
            memory = lowered.compile().memory_analysis()
            sizes = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
            here, there = sizes / 2**30, row[f"{norm} train"]["memory (GiB)"]
            print(
                f"| {network} | {dtype} | {batch} | {norm} | {here:.2f} | {there:.2f} | {here / there:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
