"""What DNR costs: step time, compile time, memory, parameters and FLOPs, as ratios to batch normalisation.

Each network is timed in turn with the first (``steps.py``). FLOPs are XLA's count, in which the body of a loop counts
once.

    python benchmarks/norm_overhead.py                      # TSN-ResNet-50, 8 frames of 112x112, batch 2
    python benchmarks/norm_overhead.py --depth 18 --rounds 5
    python benchmarks/norm_overhead.py --variants all --size 64 --rounds 5      # every axis of the method: an hour
    python benchmarks/norm_overhead.py --variants bn "scan bn" dnr "scan dnr" --depth 152 --compile-only
    python benchmarks/norm_overhead.py --variants dnr --frames 64 --compile-only
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from steps import NetworkSteps, seconds_in_turn

from dnr_jax.config import Network
from dnr_jax.dnr import BatchNorm, DNRSpec
from dnr_jax.models import TSN, Interlace

STATIC = {"norm1": "static", "norm2": "static"}
NORMS: dict[str, dict[str, Any]] = {
    "bn": STATIC,
    "cl": {"norm2": "static"},
    "ct": {"norm1": "static"},
    "dnr": {},
    "ct+cl": {"norm1": "ct", "norm2": "cl"},
    "dnr, norm3 ct": {"norm3": "ct"},
    "dnr, d_r 1": {"relay_distance": 1},
    "dnr, d_r 2": {"relay_distance": 2},
    "dnr, d_r 8": {"relay_distance": 8},
    "dnr, layer d_r 2": {"layer_distance": 2},
    "dnr, frame": {"granularity": "frame"},
    "dnr, r 1": {"reduction": 1},
    "dnr, r 8": {"reduction": 8},
    "dnr, d 2": {"depth": 2},
    "dnr, none": {"relay": "none"},
    "dnr, fc": {"relay": "fc"},
    "dnr, se": {"relay": "se"},
    "dnr, bidirectional": {"direction": "bidirectional"},
    "dnr, learned start": {"initial_state": "learned"},
    "dnr, cell a block": {"sharing": "block"},
    "dnr, clip statistics": {"base": BatchNorm(statistics="clip")},
    "gn": STATIC | {"base": "gn"},
    "dnr, gn": {"base": "gn"},
    "in": STATIC | {"base": "in"},
    "dnr, in": {"base": "in"},
    "ln": STATIC | {"base": "ln"},
    "dnr, ln": {"base": "ln"},
    "brn": STATIC | {"base": "brn"},
    "sn": STATIC | {"base": "sn"},
    "ilm": {"norm1": "ilm", "norm2": "ilm"},
    "an": {"norm1": "an", "norm2": "an"},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "interlace": {"interlace": Interlace()},
    "scan": {"scan_blocks": True},
    "remat": {"remat": "block"},
    "scan remat": {"scan_blocks": True, "remat": "block"},
}
"""Fields of the network; put before the name of a norm: ``scan dnr``."""


def variants() -> dict[str, Network]:
    """Return the networks by name: each norm, and the first four of them in each way to run the blocks."""
    named = {name: TSN(interlace=None, norm=DNRSpec(**fields)) for name, fields in NORMS.items()}
    for way, fields in NETWORKS.items():
        named |= {f"{way} {name}": dataclasses.replace(named[name], **fields) for name in ("bn", "cl", "ct", "dnr")}
    return named


VARIANTS = variants()


def measure(args: argparse.Namespace) -> Iterator[dict[str, float | str]]:
    """Compile every variant, time it in turn with the first, and yield a row for each."""
    video = jax.random.normal(jax.random.key(2), (args.batch, args.frames, args.size, args.size, 3))

    def built(name: str) -> NetworkSteps:
        return NetworkSteps(dataclasses.replace(VARIANTS[name], depth=args.depth, dtype=args.dtype), video)

    base = built(args.variants[0])
    for name in args.variants:
        variant = base if name == args.variants[0] else built(name)
        train = variant.train
        row: dict[str, float | str] = {"norm": name}
        if not args.compile_only:
            row |= timings(base, variant, args.rounds)
        yield row | {
            "trace (s)": train.trace_seconds,
            "compile (s)": train.compile_seconds,
            "trace + compile ratio": train.ready_seconds / base.train.ready_seconds,
            "program (kB)": train.text_bytes / 1000,
            "temporary MiB": train.temporary_bytes / 2**20,
            "train GFLOP": train.flops / 1e9,
            "parameters": variant.parameters,
        }


def timings(base: NetworkSteps, variant: NetworkSteps, rounds: int) -> dict[str, float | str]:
    """Return median seconds of a variant's steps, and the medians of the ratios to those of the base in each round."""
    runs = [step.run for network in (base, variant) for step in (network.train, network.evaluate)]
    seconds = seconds_in_turn(runs, rounds)
    medians, ratios = np.median(seconds[:, 2:], axis=0), np.median(seconds[:, 2:] / seconds[:, :2], axis=0)
    return {
        "train step (s)": medians[0],
        "train ratio": ratios[0],
        "eval step (s)": medians[1],
        "eval ratio": ratios[1],
    }


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--variants", nargs="+", default=["bn", "dnr"], choices=[*VARIANTS, "all"], help="the first is the base"
    )
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile-only", action="store_true", help="do not time the steps")
    parser.add_argument("--json", help="also write the rows to this file")
    args = parser.parse_args()
    if "all" in args.variants:
        args.variants = list(VARIANTS)
    print(
        f"TSN-ResNet-{args.depth}, {args.batch}x{args.frames}x{args.size}x{args.size}, {args.dtype}, {jax.devices()[0]}"
    )
    rows = []
    for row in measure(args):
        if not rows:
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        print(
            "| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |", flush=True
        )
        rows.append(row)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=2, default=float)


if __name__ == "__main__":
    main()
