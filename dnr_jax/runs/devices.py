"""Devices: the mesh, where arrays live on it, and the cache of compiled programs.

Training is data parallel: one mesh axis, ``data``, over all devices of all processes. The batch is sharded
along it; the state is a copy on every device.
"""

import collections
import concurrent.futures
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Batch = dict[str, Any]
"""What the input pipeline yields, by name, as arrays whose first axis is the sample."""


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh with the one axis ``data`` over ``devices``, or over all devices of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of the state: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def along_batch(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis is sharded over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


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


def enable_compilation_cache() -> None:
    """Keep compiled programs on disk, so that a second start of a run does not compile again.

    They go to the folder that ``JAX_COMPILATION_CACHE_DIR`` names, otherwise to the user's cache folder.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "dnr_jax" / "xla"))
