"""What networks cost with and without DNR: parameters, multiply-accumulates, memory and latency."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnr_jax.config import Network
from dnr_jax.models import create_model
from dnr_jax.models.complexity import abstract_variables, count_macs, count_parameters
from dnr_jax.runs.devices import compiler_options

ClipShape = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Profile:
    """The costs of one network; what was not measured is None.

    Attributes:
      name: of the network.
      norms: ``DNR`` or ``BN``.
      clip_shape: ``(T, H, W, 3)`` of the clip that is scored.
      parameters: number of trained parameters.
      macs: multiply-accumulates of scoring one clip.
      memory: bytes of intermediate results that the compiled program holds at its peak, beside parameters, input and
        scores.
      latency: median time in seconds of scoring one clip.
      relative_latency: median over the turns of the time divided by that of the same network without DNR in the turn.
    """

    name: str
    norms: str
    clip_shape: ClipShape
    parameters: int
    macs: int
    memory: int | None = None
    latency: float | None = None
    relative_latency: float | None = None


def variants(config: Network) -> dict[str, Network]:
    """Return the baseline of a network and, where it has DNR, the network itself: by ``BN`` and ``DNR``."""
    baseline = config.arms()["bn"]
    return {"BN": baseline} if set(config.norm.spec().kinds) == {"static"} else {"BN": baseline, "DNR": config}


def profile(name: str, config: Network, clip_shape: ClipShape, repeats: int = 5) -> list[Profile]:
    """Profile a network with and without DNR, in evaluation mode on one clip.

    Args:
      name: what to call it.
      config: the network; where the number of classes is left to the data, it is given one.
      clip_shape: ``(T, H, W, 3)``.
      repeats: how often a clip is scored for the latency; 0 leaves out what needs a compiled program.

    Returns:
      The profiles of its :func:`variants`.
    """
    config = dataclasses.replace(config, num_classes=max(config.num_classes, 1))
    models = {norms: create_model(variant) for norms, variant in variants(config).items()}
    counted = [
        Profile(
            name=name,
            norms=norms,
            clip_shape=clip_shape,
            parameters=count_parameters(abstract_variables(model, clip_shape)),
            macs=count_macs(model, clip_shape),
        )
        for norms, model in models.items()
    ]
    if not repeats:
        return counted
    programs = [_compile(model, clip_shape) for model in models.values()]
    times = measure_in_turns([run for _, run in programs], repeats)
    return [
        dataclasses.replace(
            counts,
            memory=memory,
            latency=statistics.median(seconds),
            relative_latency=statistics.median(a / b for a, b in zip(seconds, times[0], strict=True)),
        )
        for counts, (memory, _), seconds in zip(counted, programs, times, strict=True)
    ]


def _compile(model: nn.Module, clip_shape: ClipShape) -> tuple[int | None, Callable[[], Any]]:
    """Return the bytes of intermediate results of scoring one clip, and a function that does it."""
    variables = abstract_variables(model, clip_shape)
    clip = jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)
    options = compiler_options(jax.default_backend())
    score = jax.jit(functools.partial(model.apply, train=False), compiler_options=options)
    compiled = score.lower(variables, clip).compile()
    analysis = compiled.memory_analysis()
    # Zeros do: they stay zeros, and the time of dense arithmetic depends on numbers only where they are subnormal.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (variables, clip))
    return analysis and analysis.temp_size_in_bytes, functools.partial(compiled, *zeros)


def measure_in_turns(runs: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Return the times in seconds of each function, called in turns so that all see the same machine.

    Args:
      runs: functions without arguments that return arrays; each is called once more, before, to warm up.
      repeats: number of turns.
    """
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, measured in zip(runs, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(run())
            if turn:
                measured.append(time.perf_counter() - start)
    return times


COLUMNS = ("network", "norms", "clip", "parameters, M", "GMACs", "memory, MiB", "latency, ms", "latency, relative")


def cells(result: Profile) -> tuple[str, ...]:
    """Return the table's row of a profile; what was not measured is empty."""
    t, h, w, _ = result.clip_shape
    return (
        result.name,
        result.norms,
        f"{t} x {h} x {w}",
        f"{result.parameters / 1e6:.2f}",
        f"{result.macs / 1e9:.3f}",
        "" if result.memory is None else f"{result.memory / 2**20:.1f}",
        "" if result.latency is None else f"{result.latency * 1e3:.1f}",
        "" if result.relative_latency is None else f"{result.relative_latency:.2f}",
    )


def table(results: Sequence[Profile], markdown: bool = False) -> str:
    """Return the profiles as a text table, or as a Markdown one to publish, which has times as ratios only."""
    rows = [COLUMNS, *map(cells, results)]
    if markdown:
        rows.insert(1, ("---",) * len(COLUMNS))
        return "\n".join(f"| {' | '.join((*row[:-2], row[-1]))} |" for row in rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
