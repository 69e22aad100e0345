"""Settings of the whole test run: eight simulated devices, strict promotion, a persistent compilation cache."""

import os
import pathlib
import tempfile

import jax
import pytest
from absl import flags

from tests.paths import shared_folder

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "dnr_jax_test_cache")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
flags.FLAGS.mark_as_parsed()  # grain reads absl flags, which pytest does not parse


@pytest.fixture
def x64():
    """Compute in float64."""
    with jax.enable_x64(True):
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
