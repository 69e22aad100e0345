"""What an option of XLA's compiler does to steps on a CPU: programs with it and without, in one process and in turn.

Without ``--options`` it is the preset that ``dnr_jax.runs.devices.compiler_options`` chooses, against XLA's defaults.

    python benchmarks/compiler_options.py
    python benchmarks/compiler_options.py --networks demo --rounds 30 --options xla_cpu_prefer_vector_width=512
"""

import argparse
import time
from collections.abc import Iterator

import jax
import numpy as np
from networks import NETWORKS, NORMS, configured
from steps import CLOCKS, NetworkSteps, seconds_in_turn

PRESET = "xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE"


def measured(name: str, norm: str, which: str, options: dict[str, str], args: argparse.Namespace) -> Iterator[float]:
    """Yield the ratios of the step's time, of the CPU time of compiling it, and of its temporary memory."""
    video = np.random.default_rng(0).normal(size=NETWORKS[name].clips).astype(np.float32)
    function, *arguments = NetworkSteps(configured(name, norm, "float32"), jax.numpy.asarray(video)).step(which)
    programs, compiling = [], []
    for chosen in ({}, options):
        lowered = jax.jit(function).lower(*arguments)
        start = time.process_time()
        programs.append(lowered.compile(compiler_options=chosen))
        compiling.append(time.process_time() - start)
    runs = [lambda program=program: jax.block_until_ready(program(*arguments)) for program in programs]
    seconds = seconds_in_turn(runs, args.rounds, args.clock)
    memory = [program.memory_analysis().temp_size_in_bytes for program in programs]
    yield float(np.median(seconds[:, 1] / seconds[:, 0]))
    yield compiling[1] / compiling[0]
    yield memory[1] / memory[0]


def main() -> None:
    """Print a Markdown table of ratios, with the options divided by without."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["demo", "r18", "r50"], choices=NETWORKS)
    parser.add_argument("--norms", nargs="+", default=["bn", "dnr"], choices=NORMS)
    parser.add_argument("--steps", nargs="+", default=["train", "eval"], choices=("train", "eval"))
    parser.add_argument("--options", nargs="+", default=[PRESET], metavar="NAME=VALUE")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    options = dict(option.split("=", 1) for option in args.options)
    print("| network | norm | step | time | compiling | temporary memory |\n|---|---|---|---|---|---|", flush=True)
    for name in args.networks:
        for norm in args.norms:
            for which in args.steps:
                ratios = " | ".join(f"{ratio:.2f}" for ratio in measured(name, norm, which, options, args))
                print(f"| {name} | {norm} | {which} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
