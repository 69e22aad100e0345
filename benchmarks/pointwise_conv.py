"""1x1 convolutions as a contraction over the channels, against XLA's convolution: time and optimised program.

For the 1x1 convolutions of a ResNet-50, forward alone and with its gradient, timed in turn in one process. The columns
``layout`` count the transposes and copies that the optimised program adds around the product: none means that the
contraction reads the features where they are.

    python benchmarks/pointwise_conv.py
"""

import argparse
import re
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.models.layers import PointwiseConv

# Side of the input, channels in and out, stride, at frames of 112 pixels.
LAYERS = [
    (28, 64, 256, 1),
    (28, 256, 64, 1),
    (28, 256, 512, 2),
    (14, 512, 128, 1),
    (7, 256, 1024, 1),
    (4, 2048, 512, 1),
]


def programs(module: nn.Module, x: jax.Array) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Return forward, forward with gradient, and the layout changes in the optimised program of the latter."""
    variables = jax.jit(module.init)(jax.random.key(0), x)

    def loss(variables: dict, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(module.apply(variables, x)))

    forward = jax.jit(module.apply).lower(variables, x).compile()
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(variables, x).compile()
    changes = len(re.findall(r" (?:transpose|copy)\(", gradient.as_text()))
    return (
        lambda: jax.block_until_ready(forward(variables, x)),
        lambda: jax.block_until_ready(gradient(variables, x)),
        changes,
    )


def median_ratio(slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> float:
    """Return the median over rounds of the time of ``slow`` divided by that of ``fast``, called in turn."""

    def seconds(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    slow(), fast()
    return float(np.median([seconds(slow) / seconds(fast) for _ in range(rounds)]))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    print(f"time of the convolution / time of the contraction, {jax.devices()[0]}")
    print("| side | in | out | stride | forward | with gradient | layout, convolution | layout, contraction |")
    print("|" + "---|" * 8)
    for side, channels, features, strides in LAYERS:
        x = jax.random.normal(jax.random.key(1), (args.clips, args.frames, side, side, channels))
        convolution = nn.Conv(features, (1, 1), (strides, strides), padding="VALID", use_bias=False)
        slow_forward, slow_gradient, slow_changes = programs(convolution, x)
        fast_forward, fast_gradient, fast_changes = programs(PointwiseConv(features, strides), x)
        forward = median_ratio(slow_forward, fast_forward, args.rounds)
        gradient = median_ratio(slow_gradient, fast_gradient, args.rounds)
        print(
            f"| {side} | {channels} | {features} | {strides} | {forward:.2f} | {gradient:.2f} "
            f"| {slow_changes} | {fast_changes} |"
        )


if __name__ == "__main__":
    main()
