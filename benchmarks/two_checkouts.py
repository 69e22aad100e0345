"""Is this version as fast as another one: steps of the same networks in two checkouts, in turn, as ratios.

Each checkout has a process of its own, which compiles the steps of ``benchmarks/norm_overhead.py`` with its own
package; then the two take a step in turn, round after round, so that a machine whose speed drifts slows both alike.
While one takes a step, the other waits. A ratio is the median over the rounds of here / there, with its quartiles.

    git worktree add ../before 056c86b
    python benchmarks/two_checkouts.py ../before
    python benchmarks/two_checkouts.py ../before --variants dnr --depth 18 --rounds 30
"""

import argparse
import os
import pathlib
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parents[1]
WORKER = """
import dataclasses, json, sys, time
import jax, norm_overhead
variant, depth, batch, frames, size = json.loads(sys.argv[1])
video = jax.random.normal(jax.random.key(2), (batch, frames, size, size, 3))
network = dataclasses.replace(norm_overhead.VARIANTS[variant], depth=depth)
if hasattr(norm_overhead, "programs"):  # as it was before benchmarks/steps.py
    _, *steps = norm_overhead.programs(network, video)
else:
    both = norm_overhead.NetworkSteps(network, video)
    steps = [both.train, both.evaluate]
def seconds(step):
    start = time.perf_counter()
    step.run()
    return time.perf_counter() - start
for step in steps:
    step.run()
print([step.trace_seconds + step.compile_seconds for step in steps], flush=True)
for _ in sys.stdin:
    print([seconds(step) for step in steps], flush=True)
"""


class Worker:
    """A process that takes steps with the package of a checkout when it is asked to."""

    def __init__(self, checkout: pathlib.Path, network: str) -> None:
        """Start it, with the arguments of its program as JSON, and wait until the steps are compiled."""
        path = os.pathsep.join([str(checkout), str(checkout / "benchmarks")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, network],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.compile_seconds = self._answer()

    def step(self) -> list[float]:
        """Take a train step and an evaluation step; return the seconds of each."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _answer(self) -> list[float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of a checkout ended with status {self.process.wait()}")
        return [float(number) for number in line.strip(" []\n").split(",")]


def compare(there: pathlib.Path, network: str, rounds: int) -> list[str]:
    """Return the cells of a row: ratios here / there, each with its quartiles, and of the time to trace and compile."""
    workers = [Worker(HERE, network), Worker(there, network)]
    seconds = np.array([[worker.step() for worker in workers[:: 1 if i % 2 else -1]] for i in range(rounds)])
    seconds[::2] = seconds[::2, ::-1]  # the order within a round alternates
    for worker in workers:
        worker.close()
    quartiles = np.percentile(seconds[:, 0] / seconds[:, 1], [50, 25, 75], axis=0).T
    compiling = np.array([worker.compile_seconds for worker in workers]).sum(axis=1)
    return [f"{m:.3f} ({low:.3f} to {high:.3f})" for m, low, high in quartiles] + [f"{compiling[0] / compiling[1]:.2f}"]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=pathlib.Path, help="folder of the other version")
    parser.add_argument("--variants", nargs="+", default=["bn", "dnr"], help="names that both versions know")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print("| norm | train step, here / there | evaluation step | trace + compile |\n|---|---|---|---|")
    for name in args.variants:
        network = f'["{name}", {args.depth}, {args.batch}, {args.frames}, {args.size}]'
        cells = compare(args.checkout.resolve(), network, args.rounds)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
