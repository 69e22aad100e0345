"""How long steps take to be traced, lowered and compiled, with DNR and with batch normalisation in its place.

Every step is compiled in a process of its own, without a cache of programs. Times are CPU seconds of all threads, so
that other work on the machine counts little; with several rounds they are medians, and ratios the medians of the ratios
within a round. Clips are small, because compile time hardly depends on their size.

Beside the times stands what XLA has to compile: the fused operations of the optimised program, and how many of them
differ. XLA for CPU compiles those that are equal once, in programs for other devices each is a kernel as well.

    python benchmarks/compile_time.py                                  # demo, R18 and R50, train and eval steps
    python benchmarks/compile_time.py --networks r50 --steps forward gradient train     # where the time comes from
    python benchmarks/compile_time.py --networks "r50" "scan r152" --norms bn dnr       # with scan_blocks
"""

import argparse
import dataclasses
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from networks import NORMS, configured
from steps import NetworkSteps

from dnr_jax.config import Network
from dnr_jax.runs.devices import compiler_options

CLIPS = {"tiny": (2, 8, 16, 16, 3), "demo": (8, 8, 32, 32, 3)}
"""Shapes of the clips; other networks have two clips of 8 frames of 64x64."""
STEPS = ("eval", "forward", "gradient", "train")
PHASES = ("trace", "lower", "compile")


def network(name: str, norm: str) -> tuple[Network, tuple[int, ...]]:
    """Return a network of ``networks.py``, or TSN of any depth (``r152``), and its clips; ``scan r50`` scans blocks."""
    *ways, name = name.split()
    if name in ("tiny", "demo"):
        config = configured(name, norm, "float32")
    else:
        config = dataclasses.replace(configured("r50", norm, "float32"), depth=int(name.removeprefix("r")))
    return dataclasses.replace(config, scan_blocks="scan" in ways), CLIPS.get(name, (2, 8, 64, 64, 3))


def measured(name: str, norm: str, step: str) -> dict[str, float]:
    """Trace, lower and compile a step here; return the CPU seconds of each, and counts of the optimised program."""
    jax.config.update("jax_enable_compilation_cache", False)
    config, clips = network(name, norm)
    function, *arguments = NetworkSteps(config, jax.numpy.zeros(clips)).step(step)
    clock = [time.process_time()]
    traced = jax.jit(function, compiler_options=compiler_options(jax.default_backend())).trace(*arguments)
    clock.append(time.process_time())
    lowered = traced.lower()
    clock.append(time.process_time())
    program = lowered.compile()
    clock.append(time.process_time())
    seconds = {phase: end - start for phase, start, end in zip(PHASES, clock, clock[1:], strict=False)}
    return seconds | {"total": clock[-1] - clock[0]} | fusions(program.as_text())


def fusions(text: str) -> dict[str, int]:
    """Count the fused operations of an optimised program in XLA's text, and those that differ."""
    bodies = dict(re.findall(r"^%?(\S+) \(.*\{\n((?:  .*\n)*)", text, re.MULTILINE))
    called = [match for match in re.findall(r" fusion\(.*calls=%?([\w.-]+)", text) if match in bodies]
    return {"fusions": len(called), "distinct": len({_without_names(bodies[name]) for name in called})}


def _without_names(body: str) -> str:
    """Return the instructions of a computation with their operands numbered in the order of their appearance."""
    numbers: dict[str, str] = {}
    bare = re.sub(r", (metadata|backend_config)=\{.*", "", body)
    return re.sub(r"%[\w.-]+", lambda name: numbers.setdefault(name[0], f"%{len(numbers)}"), bare)


def in_a_process(*case: str) -> dict[str, float]:
    """Return what :func:`measured` does, in a new process."""
    run = subprocess.run([sys.executable, __file__, "--one", *case], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure every network and step with each norm in turn; yield a row each, compared with the first norm."""
    for name in args.networks:
        for step in args.steps:
            rounds = [{norm: in_a_process(name, norm, step) for norm in args.norms} for _ in range(args.rounds)]
            for norm in args.norms:
                found = {key: statistics.median(each[norm][key] for each in rounds) for key in rounds[0][norm]}
                ratio = statistics.median(each[norm]["total"] / each[args.norms[0]]["total"] for each in rounds)
                yield {"network": name, "step": step, "norm": norm} | found | {"ratio": ratio}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["demo", "r18", "r50"], help="tiny, demo, r18, 'scan r152'")
    parser.add_argument("--norms", nargs="+", default=list(NORMS), choices=NORMS, help="the first is the base")
    parser.add_argument("--steps", nargs="+", default=["train", "eval"], choices=STEPS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", help="also write the rows to this file")
    parser.add_argument("--one", nargs=3, metavar=("NETWORK", "NORM", "STEP"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(*args.one)))
        return
    print(f"{jax.devices()[0]}; CPU seconds")
    found = []
    for row in rows(args):
        if not found:
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)
        found.append(row)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(found, file, indent=2)


if __name__ == "__main__":
    main()
