import pathlib

import pytest

from tests.training import tiny


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> pathlib.Path:
    return tiny.write_videos(tmp_path_factory.mktemp("tiny_videos"))


@pytest.fixture(scope="module", autouse=True)
def known_network():
    """Let configurations name the tiny network."""
    with tiny.known():
        yield
