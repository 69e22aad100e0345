import pathlib

import pytest

from dnr_jax.runs.devices import make_mesh
from dnr_jax.training import loop
from tests.training import tiny


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> pathlib.Path:
    return tiny.write_videos(tmp_path_factory.mktemp("tiny_videos"))


@pytest.fixture
def tiny_loop(monkeypatch):
    """Let the loop train the tiny network, on one device."""
    import jax

    monkeypatch.setattr(loop, "create_model", tiny.tiny_network)
    monkeypatch.setattr(loop, "make_mesh", lambda: make_mesh(jax.devices()[:1]))
    monkeypatch.setattr(loop.jax, "device_count", lambda: 1)
