"""What DNR costs: step time, compile time, memory, parameters and FLOPs, as ratios to batch normalisation.

The networks are timed in turn, one step each, round after round, so that a machine whose speed drifts slows all of them
alike; a figure is the median over the rounds, a ratio the median of the ratios within a round.

    python benchmarks/norm_overhead.py                      # TSN-ResNet-50, 8 frames of 112x112, batch 2
    python benchmarks/norm_overhead.py --depth 18 --rounds 5
"""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnr_jax.config import ModelConfig, NormConfig
from dnr_jax.models import create_model

VARIANTS = {
    "bn": NormConfig(norm1="static", norm2="static"),
    "cl": NormConfig(norm2="static"),
    "ct": NormConfig(norm1="static"),
    "dnr": NormConfig(),
}


@dataclasses.dataclass
class Program:
    """A compiled step with its arguments."""

    run: Callable[[], Any]
    trace_seconds: float
    compile_seconds: float
    temporary_bytes: int
    flops: float


def compiled(function: Callable[..., Any], *args: Any) -> Program:
    """Trace and compile ``function`` for ``args``, each timed."""
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    finished = time.perf_counter()
    cost = program.cost_analysis() or {}
    return Program(
        run=lambda: jax.block_until_ready(program(*args)),
        trace_seconds=traced - start,
        compile_seconds=finished - traced,
        temporary_bytes=program.memory_analysis().temp_size_in_bytes,
        flops=cost.get("flops", float("nan")),
    )


def programs(config: ModelConfig, video: jax.Array) -> tuple[int, Program, Program]:
    """Return the number of parameters, a train step (forward, backward, SGD with momentum) and an evaluation step."""
    model = create_model(config)
    labels = jnp.zeros(video.shape[0], jnp.int32)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), video)
    params, stats = variables["params"], variables["batch_stats"]
    optimizer = optax.sgd(0.01, momentum=0.9)

    def loss_of(params: Any, stats: Any) -> Any:
        logits, updates = model.apply(
            {"params": params, "batch_stats": stats},
            video,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates["batch_stats"]

    def train_step(params: Any, stats: Any, momentum: Any) -> Any:
        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params, stats)
        updates, momentum = optimizer.update(grads, momentum, params)
        return optax.apply_updates(params, updates), stats, momentum, loss

    def eval_step(variables: Any) -> jax.Array:
        return model.apply(variables, video, train=False)

    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return count, compiled(train_step, params, stats, optimizer.init(params)), compiled(eval_step, variables)


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(args: argparse.Namespace) -> list[dict[str, float | str]]:
    """Compile every variant, time them in turn, and return one row each."""
    video = jax.random.normal(jax.random.key(2), (args.batch, args.frames, args.size, args.size, 3))
    built = {}
    for name in args.variants:
        config = ModelConfig(depth=args.depth, norm=VARIANTS[name], interlace=args.interlace, dtype=args.dtype)
        built[name] = programs(config, video)
    for _, train, evaluate in built.values():
        train.run(), evaluate.run()
    seconds = np.array(
        [[(timed(train.run), timed(evaluate.run)) for _, train, evaluate in built.values()] for _ in range(args.rounds)]
    )
    ratios = np.median(seconds / seconds[:, :1], axis=0)
    medians = np.median(seconds, axis=0)
    base = next(iter(built.values()))

    def compile_seconds(train: Program) -> float:
        return train.trace_seconds + train.compile_seconds

    return [
        {
            "norm": name,
            "train step (s)": medians[i, 0],
            "train ratio": ratios[i, 0],
            "eval step (s)": medians[i, 1],
            "eval ratio": ratios[i, 1],
            "trace (s)": train.trace_seconds,
            "compile (s)": train.compile_seconds,
            "trace + compile ratio": compile_seconds(train) / compile_seconds(base[1]),
            "temporary MiB": train.temporary_bytes / 2**20,
            "train GFLOP": train.flops / 1e9,
            "parameters": count,
        }
        for i, (name, (count, train, _)) in enumerate(built.items())
    ]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["bn", "dnr"], choices=VARIANTS, help="the first is the base")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--interlace", action="store_true", help="interlace channels in every variant")
    parser.add_argument("--json", help="also write the rows to this file")
    args = parser.parse_args()
    rows = measure(args)
    header = list(rows[0])
    print(
        f"TSN-ResNet-{args.depth}, {args.batch}x{args.frames}x{args.size}x{args.size}, {args.dtype}, {jax.devices()[0]}"
    )
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=2, default=float)


if __name__ == "__main__":
    main()
