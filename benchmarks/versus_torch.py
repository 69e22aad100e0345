"""Our steps against the same networks in plain PyTorch, in one process and in turn (``steps.py``). Needs torch.

Both compute the same numbers from the same weights: that is compared first, and the largest difference printed. A ratio
is PyTorch's time divided by ours, above 1 where ours is faster. FLOPs are those of convolutions and products, three
times as many in a train step as in evaluation; the peak is the faster one of the two libraries' matrix product.

    python benchmarks/versus_torch.py                                   # demo, R18 and R50, float32 and bfloat16
    taskset -c 0 python benchmarks/versus_torch.py --networks r50 --dtypes float32 --rounds 15 --clock cpu
    python benchmarks/versus_torch.py --layouts contiguous channels_last compiled
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import torch
from networks import NETWORKS, NORMS, configured, gigaflops
from steps import CLOCKS, NetworkSteps, matmul_peak, seconds_in_turn
from torch_networks import LAYOUTS, TorchSteps

from dnr_jax.convert import AUTHORS, to_state_dict

Row = dict[str, Any]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference relative to the largest value."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def compare(name: str, norm: str, dtype: str, args: argparse.Namespace, peak: float) -> Iterator[Row]:
    """Time both steps of a network against PyTorch's and yield a row for each."""
    config, shape = configured(name, norm, dtype), NETWORKS[name].clips
    video = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    ours = NetworkSteps(config, jax.numpy.asarray(video))
    state = to_state_dict(ours.variables, AUTHORS)
    theirs = {layout: TorchSteps(config, video, layout, dtype, args.device) for layout in args.layouts}
    errors = {"train": 0.0, "eval": 0.0}
    loss, scores = float(ours.train.run()[-1]), np.asarray(ours.evaluate.run(), np.float32)
    for steps in theirs.values():
        steps.load(state)
        errors["eval"] = max(errors["eval"], difference(steps.evaluate(), scores))
        errors["train"] = max(errors["train"], abs(steps.train() / loss - 1))
    calls: dict[str, list[Callable[[], Any]]] = {
        "train": [ours.train.run, *(steps.train for steps in theirs.values())],
        "eval": [ours.evaluate.run, *(steps.evaluate for steps in theirs.values())],
    }
    for step, work in gigaflops(config, shape).items():
        seconds = seconds_in_turn(calls[step], args.rounds, args.clock)
        median = float(np.median(seconds[:, 0]))
        row: Row = {"network": name, "dtype": dtype, "norm": norm, "step": step, "ours (s)": median}
        row |= {"GFLOP/s": work / median, "of peak": work * 1e9 / median / peak, "difference": f"{errors[step]:.0e}"}
        ratios = np.median(seconds[:, 1:] / seconds[:, :1], axis=0)
        yield row | {f"{layout} / ours": float(ratio) for layout, ratio in zip(theirs, ratios, strict=True)}


def torch_peak(dtype: str, device: str, size: int = 2048, repeats: int = 5) -> float:
    """Return the most FLOP a second that PyTorch's product of square matrices reached."""
    x = torch.ones(size, size, dtype=getattr(torch, dtype), device=device)
    seconds = seconds_in_turn([lambda: (x @ x)[0, 0].item()], repeats)
    return 2 * size**3 / float(seconds.min())


def printed(row: Row) -> str:
    """Return a row of the table."""
    return (
        "| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()) + " |"
    )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["demo", "r18", "r50"], choices=NETWORKS)
    parser.add_argument("--norms", nargs="+", default=["bn", "dnr"], choices=NORMS)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--layouts", nargs="+", default=["contiguous", "channels_last"], choices=LAYOUTS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="cpu for one thread on a busy machine")
    parser.add_argument("--json", help="also write the rows to this file")
    args = parser.parse_args()
    args.device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f"{jax.devices()[0]}, {torch.get_num_threads()} threads, jax {jax.__version__}, torch {torch.__version__}")
    rows = []
    for dtype in args.dtypes:
        peak = max(matmul_peak(dtype), torch_peak(dtype, args.device))
        print(f"peak of a product in {dtype}: {peak / 1e9:.0f} GFLOP/s")
        for name in args.networks:
            for norm in args.norms:
                for row in compare(name, norm, dtype, args, peak):
                    if not rows:
                        print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
                    print(printed(row), flush=True)
                    rows.append(row)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
