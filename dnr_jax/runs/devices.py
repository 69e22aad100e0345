"""Devices: the mesh, where arrays live on it, and the cache of compiled programs.

Training is data parallel: the batch is sharded over all devices of all processes. The state is a copy on every device;
or, where the mesh has the axis ``fsdp`` beside ``data``, the large arrays of it are sharded along that axis (fully
sharded data parallel, ZeRO), and each group of devices along it holds the state once.
"""

import collections
import concurrent.futures
import contextlib
import functools
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dnr_jax.config import RunError

Batch = dict[str, Any]
"""What the input pipeline yields, by name, as arrays whose first axis is the sample."""
Tree = TypeVar("Tree")
"""A pytree of arrays, or one array."""

_PRESET = "xla_cpu_opt_preset"
_LEVEL = "xla_backend_optimization_level"
_TRITON = "xla_gpu_enable_triton_gemm"
SMALLEST_SHARDED = 2**14
"""Elements from which on an array of the state is sharded: of smaller ones, a copy costs less than gathering it."""


def make_mesh(devices: Sequence[jax.Device] | None = None, fsdp_devices: int = 1) -> Mesh:
    """Return a mesh over ``devices``, or over all devices of all processes.

    Args:
      devices: in their order; neighbours share a state.
      fsdp_devices: over how many devices a state is sharded. With 1 the mesh has the one axis ``data``, otherwise the
        axes ``data`` and ``fsdp``, of which the latter is as long as this.

    Raises:
      ValueError: where ``fsdp_devices`` does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % fsdp_devices:
        raise ValueError(f"{len(devices)} devices are no multiple of the {fsdp_devices} that share a state")
    groups = len(devices) // fsdp_devices
    sizes = {"data": groups, "fsdp": fsdp_devices} if fsdp_devices > 1 else {"data": groups}
    automatic = (jax.sharding.AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=automatic, devices=devices)


def compiler_options(platform: str) -> dict[str, str] | None:
    """Return the options with which XLA compiles the steps of networks; None: its defaults.

    On a CPU its preset for fast compilation makes the steps faster, too: residual sums are then computed once and kept,
    and not again in every operation that reads them.

    On a GPU, in releases of JAX before 0.12, matrix products are left to cuBLAS. XLA's own kernels for them, written in
    Triton, take in what is in front of a product; that ends the process or fails in releases between 0.7.2 and 0.12
    (https://github.com/openxla/xla/issues/47381, https://github.com/jax-ml/jax/issues/40237). On an H200 with 0.11.2
    they made steps slower and compiling take up to twice as long (``docs/gpu.md``).

    What ``XLA_FLAGS`` names is kept.

    Args:
      platform: of the devices, such as ``jax.default_backend()``.
    """
    if platform == "gpu" and jax.__version_info__ < (0, 12) and _TRITON not in os.environ.get("XLA_FLAGS", ""):
        return {_TRITON: "False"}
    if platform != "cpu" or _PRESET in os.environ.get("XLA_FLAGS", "") or not _has_preset():
        return None
    return {_PRESET: "CPU_OPT_PRESET_FAST_COMPILE"}


def initializer_options(platform: str) -> dict[str, str] | None:
    """Return the options with which XLA compiles what draws the first weights, which runs once; None: its defaults.

    On a CPU the many small loops that draw numbers take most of a start, all of it compiling; with fewer of LLVM's
    passes they draw the same numbers to rounding. A level that ``XLA_FLAGS`` names is kept.

    Args:
      platform: of the devices, such as ``jax.default_backend()``.
    """
    return None if platform != "cpu" or _LEVEL in os.environ.get("XLA_FLAGS", "") else {_LEVEL: "1"}


def brief_options(platform: str) -> dict[str, str] | None:
    """Return the options with which XLA compiles programs that run a few times; None: its defaults.

    On a CPU those of :func:`compiler_options` and of :func:`initializer_options`: compiling takes longer than the
    program does.

    Args:
      platform: of the devices, such as ``jax.default_backend()``.
    """
    return {**(compiler_options(platform) or {}), **(initializer_options(platform) or {})} or None


@functools.cache
def _has_preset() -> bool:
    """Return whether this XLA has presets for CPUs."""
    cpu = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    one = jax.ShapeDtypeStruct((), np.float32, sharding=cpu)
    try:
        jax.jit(lambda x: x, compiler_options={_PRESET: "CPU_OPT_PRESET_DEFAULT"}).lower(one).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def mesh_options(mesh: Mesh) -> dict[str, str] | None:
    """Return :func:`compiler_options` for the devices of a mesh."""
    return compiler_options(platform_of(mesh))


def platform_of(mesh: Mesh) -> str:
    """Return the platform of the devices of a mesh: ``cpu``, ``gpu`` or ``tpu``."""
    platform: str = mesh.devices.flat[0].platform
    return platform


def state_devices(mesh: Mesh) -> int:
    """Return over how many devices a mesh shards a state; 1: each device has a copy."""
    return mesh.shape.get("fsdp", 1)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def along_batch(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis is sharded over all devices."""
    axes = mesh.axis_names
    return NamedSharding(mesh, PartitionSpec(axes if len(axes) > 1 else axes[0]))


def along_largest(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    """Return the sharding of a parameter, or of what an optimizer keeps of one.

    The largest axis that the devices sharing a state divide is sharded over them; of equal ones the last. Arrays with
    fewer elements than :data:`SMALLEST_SHARDED`, and those without such an axis, are copies on every device.

    Args:
      mesh: the devices.
      shape: of the array.
    """
    parts = state_devices(mesh)
    axes = [axis for axis, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or math.prod(shape) < SMALLEST_SHARDED or not axes:
        return replicated(mesh)
    largest = max(axes, key=lambda axis: (shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*(None,) * largest, "fsdp"))


def gathered(tree: Tree, mesh: Mesh) -> Tree:
    """Return arrays of a state as copies on every device, within a jitted function."""
    return tree if state_devices(mesh) == 1 else jax.lax.with_sharding_constraint(tree, replicated(mesh))


def scattered(tree: Tree, mesh: Mesh) -> Tree:
    """Return arrays sharded as :func:`along_largest` says, within a jitted function."""
    if state_devices(mesh) == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, along_largest(mesh, leaf.shape)), tree)


def copied(tree: Tree, mesh: Mesh) -> Tree:
    """Return arrays of a state as copies on every device, which all processes have to ask for at once."""
    if state_devices(mesh) == 1:
        return tree
    return jax.jit(lambda arrays: arrays, out_shardings=replicated(mesh))(tree)


def place_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Copy this process's share of a batch to its devices, as part of the global batch.

    Integers wider than 32 bits are narrowed, which indices of videos survive.
    """
    sharding = along_batch(mesh)

    def place(array: np.ndarray) -> jax.Array:
        narrow = array.astype(np.int32) if array.dtype == np.int64 else array
        return jax.make_array_from_process_local_data(sharding, narrow)

    return {name: place(array) for name, array in batch.items()}


class ClosableIterator(Protocol):
    """An iterator over batches that holds workers or files until it is closed."""

    def __next__(self) -> Batch:
        """Return the next batch."""
        ...

    def close(self) -> None:
        """Free what the iterator holds."""
        ...


class Prefetcher(Iterator[tuple[Batch, Batch]]):
    """Reads batches and copies them to the devices in a thread of its own, so that the devices need not wait.

    Yields ``(host batch, device batch)`` in the order of the iterator. Closing it closes the iterator.
    """

    def __init__(self, batches: ClosableIterator, mesh: Mesh, size: int = 2):
        """Start to read; at most ``size`` batches are held ahead."""
        self._batches = batches
        self._mesh = mesh
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._ahead = collections.deque(self._thread.submit(self._load) for _ in range(size))

    def _load(self) -> tuple[Batch, Batch]:
        batch = next(self._batches)
        return batch, place_batch(batch, self._mesh)

    def __next__(self) -> tuple[Batch, Batch]:
        """Return the next pair; raises what reading it raised."""
        self._ahead.append(self._thread.submit(self._load))
        return self._ahead.popleft().result()

    def close(self) -> None:
        """Stop reading."""
        self._thread.shutdown(cancel_futures=True)
        self._batches.close()


class OutOfMemoryError(RunError):
    """What is computed needs more memory than a device has; the message says what would need less."""


@contextlib.contextmanager
def explained_memory(advice: str) -> Iterator[None]:
    """Raise OutOfMemoryError, with ``advice``, where XLA has no memory left for what is computed in the block."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        if "RESOURCE_EXHAUSTED" not in reason:
            raise
        raise OutOfMemoryError(f"the memory of a device is not enough ({reason}). {advice}") from error


def enable_compilation_cache() -> None:
    """Keep compiled programs on disk, so that a second start of a run does not compile again.

    They go to the folder that ``JAX_COMPILATION_CACHE_DIR`` names, otherwise to the user's cache folder.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "dnr_jax" / "xla"))
