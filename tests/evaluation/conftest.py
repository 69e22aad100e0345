import pathlib

import jax
import pytest

from dnr_jax.runs.devices import make_mesh
from dnr_jax.training import loop
from tests.training import tiny


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> pathlib.Path:
    return tiny.write_videos(tmp_path_factory.mktemp("tiny_videos"), train=24)


@pytest.fixture(scope="module", autouse=True)
def tiny_models():
    """Let configurations name the tiny network."""
    with tiny.known():
        yield


@pytest.fixture(scope="session")
def workdir(videos, tmp_path_factory) -> pathlib.Path:
    """A run whose best checkpoint is not its latest."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = tiny.tiny_config(videos, batch_size=8, steps=60, log_every=20, eval_every=20)
    config.optimizer.base_batch_size = 8
    with tiny.known():
        loop.train(config, folder, mesh=make_mesh(jax.devices()[:4]))
    return folder
