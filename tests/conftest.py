"""Settings of the whole test run: eight simulated devices, strict promotion, a persistent compilation cache."""

import ctypes
import gc
import os
import pathlib
import tempfile

import jax
import psutil
import pytest
from absl import flags

from tests import typechecking
from tests.paths import shared_folder
from tests.precision import float64

typechecking.install()
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "dnr_jax_test_cache")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
flags.FLAGS.mark_as_parsed()  # grain reads absl flags, which pytest does not parse


MAX_RESIDENT_BYTES = 1.3e9
"""Of a process that runs tests, above which it gives up its compiled programs: those of all tests take 4 GB."""


@pytest.fixture(autouse=True)
def bounded_memory():
    """Free the programs of earlier tests where they take much memory; the cache on the disk keeps the slow ones."""
    yield
    if psutil.Process().memory_info().rss > MAX_RESIDENT_BYTES:
        jax.clear_caches()
        gc.collect()
        if trim := getattr(
            ctypes.CDLL(None), "malloc_trim", None
        ):  # glibc keeps what is freed; others have no such thing
            trim(0)


@pytest.fixture(scope="module", autouse=True)
def registries_as_they_were():
    """Refuse a module of tests that leaves parts of its own behind, which the tests over the registries would find."""
    from dnr_jax.dnr import parts  # here, for what is imported before the hook above goes unchecked

    yield
    foreign = {name for there in parts._registry.values() for name, part in there.items() if not _is_ours(part)}
    assert not foreign, f"these stay registered after the tests of the module: {foreign}"


def _is_ours(part: type) -> bool:
    return part.__module__.partition(".")[0] == "dnr_jax"


@pytest.fixture
def x64():
    """Compute in float64."""
    with float64():
        yield


@pytest.fixture
def quick_compile():
    """Compile several times faster, into slower programs."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Folder of golden values and real videos, which is not part of the repository."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no golden values or videos at {folder} (set DNR_SHARED)")
    return folder
