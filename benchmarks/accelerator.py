"""What an accelerator makes of the networks here: one command, one JSON file, at most eight minutes.

    python benchmarks/accelerator.py --out docs/results/accelerator_h100.json   # then: dnr reproduce --report
    python benchmarks/accelerator.py --smoke --out smoke.json          # minutes on a CPU: does it run?

It needs jax, flax, optax and numpy with what ``import dnr_jax`` needs, and no video, decoder or grain. In this order,
each part within its share of the time; what no time was left for is listed as skipped:

1. Correctness: values and gradients of every kind of layer and of a small network, against float64 on the host.
2. Train and evaluation steps of TSN and SlowFast, BN and DNR, bfloat16 and float32, by batch: clips a second, share of
   the matmul peak, memory, compile time.
3. PyTorch's steps beside ours, where torch is installed and has the same device.
4. A profile of a train step of BN and of DNR: the operations that take most of the time.
5. The largest batch that fits, with and without recomputing the blocks: predicted from two compiled programs, then run.

``dnr_jax.reproduce.accelerators`` makes Markdown of the file.
"""

import argparse
import collections
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from networks import NORMS, gigaflops
from steps import NetworkSteps, drawn, in_flight, matmul_peak, seconds_in_turn

import dnr_jax
from dnr_jax import CrossLayerDNR, CrossTemporalDNR, RelayCell, StaticNorm, without_carry
from dnr_jax.config import Network
from dnr_jax.models import TSN, SlowFast, create_model
from dnr_jax.models.layers import Conv3D, PointwiseConv, conv
from dnr_jax.models.stems import halve
from dnr_jax.runs.devices import compiler_options

Row = dict[str, Any]
SHARES = {"correctness": 0.13, "steps": 0.45, "torch": 0.27, "profile": 0.02, "largest batch": 0.13}
"""Of the time, by part. What a part leaves goes to those behind it."""
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch's steps need memory beside ours
TRIES = 4
"""Batches that are run to find the largest one, each an eighth smaller than the one before."""
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest relative error (L2) of values and gradients that passes; float32 with products in float32."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
      networks: by name, with the shape ``(T, H, W, 3)`` of their clips.
      batches: of clips.
      matmul: side of the matrices of which the peak is measured.
      largest: of the batches that are tried.
      rounds: in which steps are timed.
      in_flight: steps that are started one after the other before one is waited for.
      layouts: of PyTorch's networks, the most important one first.
    """

    networks: dict[str, tuple[Network, tuple[int, int, int, int]]]
    batches: tuple[int, ...]
    matmul: int
    largest: int
    rounds: int
    in_flight: int
    layouts: tuple[str, ...]


def slowfast(**fields: Any) -> SlowFast:
    """Return SlowFast 8x8; a group of DNR is half a clip."""
    return SlowFast.mmaction2(dropout=0.0, **fields)


FULL = Size(
    networks={
        "tsn_r50": (TSN(depth=50, interlace=None, dropout=0.0), (8, 224, 224, 3)),
        "slowfast_r50": (slowfast(depth=50), (32, 224, 224, 3)),
    },
    batches=(32, 8, 16, 64),
    matmul=8192,
    largest=1024,
    rounds=7,
    in_flight=5,
    layouts=("channels_last", "compiled", "contiguous"),
)
SMOKE = Size(
    networks={"tsn_r18": (TSN(depth=18, width=8, stem="small", interlace=None, dropout=0.0), (8, 16, 16, 3))},
    batches=(2, 4),
    matmul=256,
    largest=8,
    rounds=2,
    in_flight=2,
    layouts=("channels_last",),
)


class Clock:
    """The time that is left, part by part."""

    def __init__(self, seconds: float, parts: Iterable[str] = SHARES):
        """Start with so many seconds for all parts."""
        self._end = time.monotonic() + seconds
        self._parts = {part: SHARES[part] for part in parts}
        self._until = self._end
        self._longest = 0.0
        self.skipped: list[str] = []

    def start(self, part: str) -> None:
        """Begin a part: its share of what is left, as the parts behind it have theirs."""
        now, shares = time.monotonic(), self._parts
        self._until = now + max(self._end - now, 0.0) * shares[part] / sum(shares.values())
        self._longest = 0.0
        del shares[part]

    def run(self, what: str, function: Callable[..., Row], *args: Any, expected: float = 0.0) -> Row | None:
        """Return the row of a measurement, or None where it would end too late.

        Args:
          what: is measured, in words.
          function: measures it.
          *args: of the function.
          expected: seconds that it takes at least; those of the part so far are expected of it anyway.
        """
        start, expected = time.monotonic(), max(expected, self._longest)
        if expected and start + expected > self._until:
            self.skipped.append(what)
            return None
        print(what, end=" ", flush=True)
        row = function(*args)
        took = time.monotonic() - start
        self._longest = max(self._longest, took)
        print(f"({took:.1f} s)", flush=True)
        return row


def with_norm(config: Network, norm: str, **fields: Any) -> Network:
    """Return a network with the norms of an arm, on the groups of frames that it has."""
    spec = dataclasses.replace(config.norm, **{name: getattr(NORMS[norm], name) for name in ("norm1", "norm2")})
    return dataclasses.replace(config, norm=spec, **fields)


# 1. Correctness


class CrossLayerPair(nn.Module):
    """Two norms that share a cell."""

    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise ``[N, T, H, W, C]`` twice."""
        cell, carry = RelayCell(x.shape[-1], param_dtype=self.param_dtype), None
        for _ in range(2):
            carry, x = CrossLayerDNR(cell=cell, param_dtype=self.param_dtype)(carry, x, use_running_average=False)
        return x


class Pool(nn.Module):
    """Max pooling of stems."""

    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Halve rows and columns."""
        return halve(x)


def layers(dtype: Any, param_dtype: Any) -> dict[str, nn.Module]:
    """Return a layer of each kind, on 8 channels."""
    both = {"dtype": dtype, "param_dtype": param_dtype}
    train = {"use_running_average": False, "param_dtype": param_dtype}
    return {
        "static norm": without_carry(StaticNorm)(**train),
        "static norm, gn": without_carry(StaticNorm)(base="gn", **train),
        "cross-temporal DNR": without_carry(CrossTemporalDNR)(relay_distance=2, **train),
        "cross-layer DNR": CrossLayerPair(**both),
        "3x3 convolution": conv(8, 3, name="conv", **both),
        "3x3 convolution, stride 2": conv(8, 3, 2, name="conv", **both),
        "1x1 convolution to fewer": PointwiseConv(4, **both),
        "1x1 convolution to more": PointwiseConv(16, **both),
        "3x3x3 convolution": Conv3D(8, (3, 3, 3), **both),
        "max pooling": Pool(**both),
    }


def relative_error(found: Any, expected: Any) -> float:
    """Return the worst relative error (L2) of the arrays of a tree; noise around zero counts against the largest."""
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    scale = max(np.sqrt(np.mean(b**2)) for _, b in pairs)
    return max(
        float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3 * scale * np.sqrt(b.size), 1e-300)) for a, b in pairs
    )


def in_float64(function: Callable[[], Any]) -> Any:
    """Call a function that computes in float64."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        return function()
    finally:
        jax.config.update("jax_enable_x64", before)


def compared(build: Callable[[Any, Any], nn.Module], shape: tuple[int, ...], dtype: str, **call: Any) -> Row:
    """Compare a module on the device with itself in float64 on the host.

    Args:
      build: makes it, given the dtypes of features and of parameters.
      shape: of the features or clips, which are rounded to ``dtype`` for both.
      dtype: of features on the device.
      **call: other arguments of the module.
    """
    x = np.asarray(jnp.asarray(np.random.default_rng(1).normal(size=shape), dtype), np.float64)
    module = build(jnp.dtype(dtype), jnp.float32)
    variables = drawn(jax.eval_shape(lambda x: module.init(jax.random.key(0), x, **call), jnp.asarray(x, dtype)))

    def computed(module: nn.Module, x: jax.Array, variables: Any, device: jax.Device) -> Any:
        def values_and_gradients(variables: Any, x: jax.Array, cotangent: jax.Array) -> Any:
            rest = {name: tree for name, tree in variables.items() if name != "params"}

            def apply(params: Any, x: jax.Array) -> jax.Array:
                return module.apply({"params": params, **rest}, x, mutable=["batch_stats"], **call)[0]

            y, pull = jax.vjp(apply, variables.get("params", {}), x)
            return y, pull(cotangent.astype(y.dtype))

        with jax.default_device(device), jax.default_matmul_precision("highest"):
            y = jax.eval_shape(lambda v, x: module.apply(v, x, mutable=["batch_stats"], **call)[0], variables, x)
            cotangent = np.asarray(jnp.asarray(np.random.default_rng(2).normal(size=y.shape), dtype), np.float64)
            return jax.tree.map(np.asarray, jax.jit(values_and_gradients)(variables, x, cotangent))

    found = computed(module, jnp.asarray(x, dtype), variables, jax.devices()[0])
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
    host = jax.devices("cpu")[0]
    expected = in_float64(lambda: computed(build(jnp.float64, jnp.float64), x, wide, host))
    error = relative_error(found, expected)
    return {"dtype": dtype, "error": error, "passed": error < TOLERANCES[dtype]}


def small_network(dtype: Any, param_dtype: Any) -> nn.Module:
    """Return a network of the width of the layers, whose parameters have the dtype of its features or float32."""
    del param_dtype
    return create_model(TSN(depth=18, width=8, stem="small", num_classes=5, dropout=0.0, dtype=jnp.dtype(dtype).name))


def correctness(clock: Clock) -> Iterator[Row]:
    """Yield a row for each layer in each dtype, and for a network in float32.

    The gradient of a network in bfloat16 jumps where the input of a ReLU changes its sign, so that it is no measure.
    """
    for dtype in TOLERANCES:
        for name in layers(jnp.float32, jnp.float32):

            def layer(features: Any, params: Any, name: str = name) -> nn.Module:
                return layers(features, params)[name]

            row = clock.run(f"{name}, {dtype}", compared, layer, (2, 4, 6, 6, 8), dtype)
            if row:
                yield {"what": name} | row
    row = clock.run("small network", lambda: compared(small_network, (2, 8, 16, 16, 3), "float32", train=True))
    if row:
        yield {"what": "TSN-ResNet-18 with DNR"} | row


# 2. to 5.


@dataclasses.dataclass
class Bench:
    """What the parts share.

    Attributes:
      size: how large everything is.
      clock: the time that is left.
      kept: of each network in each dtype the first steps that ran, by network, norm, dtype and batch: PyTorch has its
        steps timed beside them.
      peaks: FLOP a second of a matrix product, by dtype.
    """

    size: Size
    clock: Clock
    kept: dict[tuple[str, str, str, int], NetworkSteps] = dataclasses.field(default_factory=dict)
    peaks: dict[str, float] = dataclasses.field(default_factory=dict)

    def clips(self, name: str, batch: int) -> jax.Array:
        """Return a batch of clips of a network."""
        return jax.random.normal(jax.random.key(2), (batch, *self.size.networks[name][1]))

    def config(self, name: str, norm: str, dtype: str, **fields: Any) -> Network:
        """Return a network with the norms of an arm."""
        return with_norm(self.size.networks[name][0], norm, dtype=dtype, **fields)

    def steps(self) -> Iterator[Row]:
        """Yield a row for the train and evaluation steps of BN and DNR, timed in turn."""
        self.peaks = {dtype: matmul_peak(dtype, self.size.matmul) for dtype in TOLERANCES}
        for batch in self.size.batches:
            for dtype in ("bfloat16", "float32"):
                for name in self.size.networks:
                    what = f"{name}, {dtype}, batch {batch}"
                    row = self.clock.run(what, self._pair, name, dtype, batch)
                    if row:
                        yield {"network": name, "dtype": dtype, "batch": batch} | row

    def _seconds(self, steps: Sequence[tuple[Callable[[], Any], Callable[[Any], Any]]]) -> np.ndarray:
        """Return the seconds of steps in turn, ``[rounds, steps]``, given how each is started and waited for."""
        runs = [in_flight(start, wait, self.size.in_flight) for start, wait in steps]
        return seconds_in_turn(runs, self.size.rounds) / self.size.in_flight

    def _pair(self, name: str, dtype: str, batch: int) -> Row:
        video = self.clips(name, batch)
        pair = {norm: NetworkSteps(self.config(name, norm, dtype), video) for norm in NORMS}
        try:
            programs = [step for steps in pair.values() for step in (steps.train, steps.evaluate)]
            seconds = self._seconds([(program.start, jax.block_until_ready) for program in programs])
        except jax.errors.JaxRuntimeError as error:
            return {"failed": str(error).splitlines()[0][:200]}
        if not any((key[0], key[2]) == (name, dtype) for key in self.kept):
            self.kept |= {(name, norm, dtype, batch): steps for norm, steps in pair.items()}
        row: Row = {}
        for i, (norm, steps) in enumerate(pair.items()):
            work = gigaflops(self.config(name, norm, dtype), video.shape)
            for j, (step, program) in enumerate((("train", steps.train), ("eval", steps.evaluate))):
                median = float(np.median(seconds[:, 2 * i + j]))
                row[f"{norm} {step}"] = {
                    "seconds": median,
                    "clips a second": batch / median,
                    "of peak": work[step] * 1e9 / median / self.peaks[dtype],
                    "trace + compile (s)": program.ready_seconds,
                    "memory (GiB)": program.total_bytes / 2**30,
                }
        ratios = np.median(seconds[:, 2:] / seconds[:, :2], axis=0)
        return row | {"DNR / BN": {"train": float(ratios[0]), "eval": float(ratios[1])}}

    def torch(self) -> Iterator[Row]:
        """Yield a row for PyTorch's steps of each network that is kept and that PyTorch has here, beside ours."""
        import torch

        if jax.default_backend() != ("gpu" if torch.cuda.is_available() else "cpu"):
            self.clock.skipped.append("PyTorch, which does not have this device")
            return
        torch.backends.cudnn.benchmark = True  # its convolutions are tried out, as XLA's are
        torch.set_float32_matmul_precision("high")  # TF32, which JAX takes for float32 too
        for layout in self.size.layouts:
            for (name, norm, dtype, batch), ours in self.kept.items():
                if not isinstance(self.size.networks[name][0], TSN):
                    continue
                what = f"PyTorch, {name}, {norm}, {dtype}, {layout}"
                row = self.clock.run(what, self._beside, ours, name, norm, dtype, batch, layout)
                torch.cuda.empty_cache()
                if row:
                    yield {"network": name, "norm": norm, "dtype": dtype, "batch": batch, "layout": layout} | row

    def _beside(self, ours: NetworkSteps, name: str, norm: str, dtype: str, batch: int, layout: str) -> Row:
        import torch
        from torch_networks import TorchSteps

        device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        config = self.config(name, norm, dtype)
        try:
            theirs = TorchSteps(config, np.asarray(self.clips(name, batch)), layout, dtype, device)
            wait = jax.block_until_ready
            seconds = self._seconds(
                [
                    (ours.train.start, wait),
                    (theirs.start_train, torch.Tensor.cpu),
                    (ours.evaluate.start, wait),
                    (theirs.start_evaluate, torch.Tensor.cpu),
                ]
            )
        except (RuntimeError, torch.OutOfMemoryError) as error:  # out of memory, or no compiler for torch.compile
            return {"failed": str(error).splitlines()[0][:200]}
        medians = np.median(seconds[:, 1::2], axis=0)
        ratios = np.median(seconds[:, 1::2] / seconds[:, ::2], axis=0)
        return {
            step: {"clips a second": batch / float(medians[i]), "PyTorch / ours": float(ratios[i])}
            for i, step in enumerate(("train", "eval"))
        }

    def largest_batch(self, memory: int) -> Iterator[Row]:
        """Yield the largest batch of the first network in bfloat16 with DNR, with and without recomputing its blocks.

        Args:
          memory: bytes of the device.
        """
        name = next(iter(self.size.networks))
        programs = [steps.train for (_, norm, _, _), steps in self.kept.items() if norm == "dnr"]
        compiling = sum(program.ready_seconds for program in programs[:1])
        self.kept.clear()  # it takes memory
        for remat in ("none", "block"):
            what = f"largest batch, remat={remat}"
            # It compiles two programs, and one for each batch that it tries.
            row = self.clock.run(what, self._largest, name, remat, memory, expected=4 * compiling)
            if row:
                yield {"network": name, "norm": "dnr", "dtype": "bfloat16", "remat": remat} | row

    def _largest(self, name: str, remat: str, memory: int) -> Row:
        config = self.config(name, "dnr", "bfloat16", remat=remat)
        low, high = sorted(self.size.batches)[:2]

        def needed(batch: int) -> int:
            shape = jax.ShapeDtypeStruct((batch, *self.size.networks[name][1]), jnp.float32)
            return NetworkSteps(config, shape).train.total_bytes

        first, second = needed(low), needed(high)
        a_clip = max((second - first) / (high - low), 1)
        predicted = int((memory - first) / a_clip) + low
        row: Row = {"MiB a clip": a_clip / 2**20, "predicted": predicted, "tried up to": self.size.largest, "ran": 0}
        batch = max(min(predicted, self.size.largest), 1)
        for _ in range(TRIES):
            try:
                NetworkSteps(config, self.clips(name, batch)).train.run()
            except jax.errors.JaxRuntimeError:
                batch = max(batch * 7 // 8, 1)
            else:
                return row | {"ran": batch}
        return row

    def profile(self) -> Iterator[Row]:
        """Yield the operations of the first train steps that take most of the time, those of each norm."""
        first = next(((name, dtype) for name, _, dtype, _ in self.kept), None)
        for (name, norm, dtype, _), steps in self.kept.items():
            if (name, dtype) == first:
                what = f"profile, {name}, {norm}, {dtype}"
                row = self.clock.run(what, lambda run: {"rows": profiled(run)}, steps.train.run)
                yield from ({"norm": norm} | entry for entry in row["rows"]) if row else []


def profiled(run: Callable[[], Any], top: int = 20) -> list[Row]:
    """Return which operations of a step take most of the time, by the beginning of their names."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        seconds: dict[str, float] = {}
        calls: collections.Counter[str] = collections.Counter()
        for name, duration in operations(planes):
            kind = re.sub(r"[._\d]+$", "", name)
            seconds[kind] = seconds.get(kind, 0.0) + duration
            calls[kind] += 1
    total = sum(seconds.values())
    largest = sorted(seconds, key=lambda kind: -seconds[kind])[:top]
    return [
        {"operation": kind, "calls": calls[kind], "seconds": seconds[kind], "share": seconds[kind] / total}
        for kind in largest
    ]


def operations(planes: Iterable[Any]) -> Iterator[tuple[str, float]]:
    """Yield names and seconds of the operations in a trace: those of devices, or of XLA's threads on a CPU."""
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    lines = [line for plane in devices or planes for line in plane.lines]
    beginnings = ("XLA Ops", "Stream") if devices else ("tf_XLA", "XLA")
    # A GPU's operations may be in lines of both kinds.
    found = [[line for line in lines if line.name.startswith(beginning)] for beginning in beginnings]
    for line in next(filter(None, found), []):
        for event in line.events:
            if not re.search("::|^end: ", event.name):  # not an operation
                yield event.name, event.duration_ns / 1e9


def machine() -> Row:
    """Return what the figures were taken on."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "memory (GiB)": device_memory(0) / 2**30,
        "host": platform.machine(),
        "versions": versions(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "compiler options": compiler_options(device.platform) or {},
    }


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    packages = {
        name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "torch") if installed(name)
    }
    return packages | {"dnr_jax": dnr_jax.__version__, "python": platform.python_version()}


def installed(name: str) -> bool:
    """Return whether a package can be imported."""
    return importlib.util.find_spec(name) is not None


def device_memory(otherwise: int) -> int:
    """Return the bytes that JAX may take of the first device; where it does not say, as on a CPU, ``otherwise``."""
    return (jax.devices()[0].memory_stats() or {}).get("bytes_limit", otherwise)


def main() -> None:
    """Measure, and write the file anew after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="accelerator.json", help="the file")
    parser.add_argument("--minutes", type=float, default=7.5, help="for all parts; one row may end later")
    parser.add_argument("--smoke", action="store_true", help="a small network and small batches")
    parser.add_argument("--networks", nargs="+", choices=FULL.networks, default=[*FULL.networks], help="default: both")
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=[*SHARES], help="what to measure; default: all")
    args = parser.parse_args()
    clock = Clock(60 * args.minutes, args.parts)
    wanted = {name: FULL.networks[name] for name in args.networks}
    bench = Bench(SMOKE if args.smoke else dataclasses.replace(FULL, networks=wanted), clock)
    started = time.time()
    results: Row = {
        "command": "smoke" if args.smoke else "full",
        "machine": machine(),
        "steps in flight": bench.size.in_flight,
    }
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "correctness": lambda: correctness(clock),
        "steps": bench.steps,
        "torch": bench.torch if installed("torch") else lambda: [],
        "profile": bench.profile,
        "largest batch": lambda: bench.largest_batch(device_memory(2**30)),
    }

    def write() -> None:
        done = {"peaks": bench.peaks, "skipped": clock.skipped, "seconds": time.time() - started}
        pathlib.Path(args.out).write_text(json.dumps(results | done, indent=1))

    for part, rows in parts.items():
        if part not in args.parts:
            continue
        clock.start(part)
        results[part] = []
        for row in rows():
            results[part].append(row)
            write()
        write()  # what was skipped
    comparisons = results.get("correctness", [])
    failed = [row["what"] for row in comparisons if not row["passed"]]
    print(f"{args.out}: {len(failed)} of {len(comparisons)} comparisons failed", *failed, sep="\n  ")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
