import cv2
import jax
import numpy as np
import pytest

from dnr_jax.report.relays import RelayMaps
from tests.training.tiny import TinyNetwork, known, tiny_config


@pytest.mark.slow
def test_relays_are_drawn_with_the_variables_of_the_moment():
    with known():
        model = TinyNetwork(3)
        clips = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
        maps = RelayMaps(model, tiny_config(""))
        drawn = []
        for seed in (0, 1):
            variables = model.init(jax.random.key(seed), clips.astype(np.float32), train=False)
            drawn.append(maps.draw(variables, clips))
    assert drawn[0] != drawn[1]
    assert cv2.imdecode(np.frombuffer(drawn[0], np.uint8), cv2.IMREAD_COLOR).shape[2] == 3


def test_a_network_without_relays_has_no_picture():
    class Bare(TinyNetwork):
        def __call__(self, x, *, train):
            return x.mean(axis=(1, 2, 3))

    with known():
        maps = RelayMaps(Bare(3), tiny_config(""))
    assert maps.draw({"params": {}}, np.zeros((1, 4, 16, 16, 3), np.uint8)) == b""
