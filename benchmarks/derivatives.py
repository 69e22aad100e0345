"""The derivatives of ``dnr_jax/models/derivatives.py`` against those that JAX derives, in turn.

Operations alone, and train steps. The forward programs are the same. ``--kinds`` takes one kind of operations;
``--networks`` without a name times no steps.

    python benchmarks/derivatives.py                               # operations; the demo's network and TSN-ResNet-50
    taskset -c 0 python benchmarks/derivatives.py --networks r50 --norms bn --rounds 15 --clock cpu
"""

import argparse
import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from networks import NETWORKS, NORMS, configured
from steps import CLOCKS, NetworkSteps, Program, compiled, seconds_in_turn

from dnr_jax.models import derivatives, inception, layers, stems

Shape = tuple[int, ...]


OPERATIONS: dict[str, tuple[str, Shape, Shape]] = {
    "max pooling, 56 x 56 x 64": ("max_pool", (16, 56, 56, 64), ()),
    "max pooling, 16 x 16 x 16": ("max_pool", (64, 16, 16, 16), ()),
    "64 to 256 channels, 28 x 28": ("contract", (16, 28, 28, 64), (64, 256)),
    "128 to 512 channels, 14 x 14": ("contract", (16, 14, 14, 128), (128, 512)),
    "256 to 1024 channels, 7 x 7": ("contract", (16, 7, 7, 256), (256, 1024)),
    "256 to 64 channels, 28 x 28": ("contract", (16, 28, 28, 256), (256, 64)),
    "512 to 128 channels, 14 x 14": ("contract", (16, 14, 14, 512), (512, 128)),
    "1024 to 256 channels, 7 x 7": ("contract", (16, 7, 7, 1024), (1024, 256)),
}
"""What is timed alone, with the shapes of features and kernel: of ResNet-50 at two clips of 8 x 112 x 112."""


def derived_contract(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Do what :func:`dnr_jax.models.derivatives.contract` does, with JAX's derivative."""
    return jnp.einsum("...c,cf->...f", x, kernel)


def derived_max_pool(x: jax.Array, size: int, strides: int, padding: tuple[tuple[int, int], ...]) -> jax.Array:
    """Do what :func:`dnr_jax.models.derivatives.max_pool` does, with JAX's derivative."""
    return nn.max_pool(x, (1, size, size), (1, strides, strides), ((0, 0), *padding))


@contextlib.contextmanager
def derivatives_of_jax(kinds: list[str]) -> Iterator[None]:
    """Build networks with JAX's own derivatives of these operations inside of a ``with``."""
    with contextlib.ExitStack() as stack:
        if "contract" in kinds:
            stack.enter_context(mock.patch.object(layers, "contract", derived_contract))
        if "max_pool" in kinds:
            for module in (stems, inception):
                stack.enter_context(mock.patch.object(module, "max_pool", derived_max_pool))
        yield


def gradient(kind: str, derived: bool, dtype: str, features: Shape, kernel: Shape) -> Program:
    """Return values and gradients of an operation as a program."""
    pool, product = (derived_max_pool, derived_contract) if derived else (derivatives.max_pool, derivatives.contract)
    function = product if kind == "contract" else functools.partial(pool, size=3, strides=2, padding=((1, 1), (1, 1)))
    shapes = [shape for shape in (features, kernel) if shape]
    keys = jax.random.split(jax.random.key(0), len(shapes) + 1)
    # Of ReLU, so that there are ties.
    args = [jax.nn.relu(jax.random.normal(key, shape, dtype)) for key, shape in zip(keys[1:], shapes, strict=True)]
    y = jax.eval_shape(function, *args)

    def values_and_gradients(cotangent: jax.Array, *args: jax.Array) -> Any:
        y, pull = jax.vjp(function, *args)
        return y, pull(cotangent)

    return compiled(values_and_gradients, jax.random.normal(keys[0], y.shape, y.dtype), *args)


def operations(args: argparse.Namespace) -> Iterator[str]:
    """Yield the rows of the table of operations."""
    yield "| with gradients | derived by JAX (ms) | here (ms) | here / derived | temporary MiB, derived | here |"
    yield "|" + "---|" * 6
    for name, (kind, features, kernel) in OPERATIONS.items():
        if kind in args.kinds:
            derived, ours = (gradient(kind, way, args.dtype, features, kernel) for way in (True, False))
            yield f"| {name} | " + row(derived, ours, args, 1e3)


def row(derived: Program, ours: Program, args: argparse.Namespace, unit: float = 1.0) -> str:
    """Time two programs in turn and return their columns."""
    seconds = seconds_in_turn([derived.run, ours.run], args.rounds, args.clock)
    before, after = unit * np.median(seconds, axis=0)
    ratio = np.median(seconds[:, 1] / seconds[:, 0])
    memory = f"{derived.temporary_bytes / 2**20:.1f} | {ours.temporary_bytes / 2**20:.1f}"
    return f"{before:.3g} | {after:.3g} | {ratio:.3f} | {memory} |"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=["demo", "r50"], choices=NETWORKS)
    parser.add_argument("--norms", nargs="+", default=["bn", "dnr"], choices=NORMS)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--kinds", nargs="+", default=["contract", "max_pool"], choices=["contract", "max_pool"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="cpu for one thread on a busy machine")
    args = parser.parse_args()
    print(f"{jax.devices()[0]}, jax {jax.__version__}, {args.dtype}, derivatives of {' and '.join(args.kinds)}")
    for line in operations(args):
        print(line, flush=True)
    for i, name in enumerate(args.networks):
        if i == 0:
            print("\n| network | norm | derived (s) | here (s) | here / derived | temporary MiB, derived | here |")
            print("|" + "---|" * 7)
        video = jax.random.normal(jax.random.key(2), NETWORKS[name].clips)
        for norm in args.norms:
            config = configured(name, norm, args.dtype)
            with derivatives_of_jax(args.kinds):
                derived = NetworkSteps(config, video).train
            ours = NetworkSteps(config, video).train
            print(f"| {name} | {norm} | " + row(derived, ours, args), flush=True)


if __name__ == "__main__":
    main()
