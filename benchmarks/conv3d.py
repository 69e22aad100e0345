"""Convolutions over time and space as 2D convolutions, against XLA's 3D convolution: time, forward and with gradient.

For convolutions of SlowFast and R(2+1)D, timed in turn in one process.

    python benchmarks/conv3d.py
"""

import argparse

import flax.linen as nn
import jax
from pointwise_conv import median_ratio, programs

from dnr_jax.models.layers import Conv3D

# What it is, frames, side of the input, channels in and out, kernel, strides; at frames of 112 pixels.
LAYERS = [
    ("fast stem", 32, 112, 3, 8, (5, 7, 7), (1, 2, 2)),
    ("spatial stem", 8, 112, 3, 83, (1, 7, 7), (1, 2, 2)),
    ("lateral", 32, 28, 32, 64, (7, 1, 1), (4, 1, 1)),
    ("temporal", 8, 28, 144, 64, (3, 1, 1), (1, 1, 1)),
    ("spatial", 8, 28, 64, 144, (1, 3, 3), (1, 1, 1)),
    ("slow basic block", 8, 7, 256, 256, (3, 3, 3), (1, 1, 1)),
    ("fast basic block", 32, 28, 8, 8, (3, 3, 3), (1, 1, 1)),
]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"time of XLA's 3D convolution / time of Conv3D, {jax.devices()[0]}")
    print("| layer | frames | side | in | out | kernel | strides | forward | with gradient |")
    print("|" + "---|" * 9)
    for layer, frames, side, channels, features, kernel, strides in LAYERS:
        x = jax.random.normal(jax.random.key(1), (args.clips, frames, side, side, channels))
        padding = [(size // 2, size // 2) for size in kernel]
        convolution = nn.Conv(features, kernel, strides, padding, use_bias=False)
        slow_forward, slow_gradient, _ = programs(convolution, x)
        fast_forward, fast_gradient, _ = programs(Conv3D(features, kernel, strides), x)
        forward = median_ratio(slow_forward, fast_forward, args.rounds)
        gradient = median_ratio(slow_gradient, fast_gradient, args.rounds)
        sizes = (" x ".join(map(str, size)) for size in (kernel, strides))
        cells = [layer, frames, side, channels, features, *sizes, f"{forward:.1f}", f"{gradient:.1f}"]
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
