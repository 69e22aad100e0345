import jax

from dnr_jax.config import with_variant
from dnr_jax.dnr import DNRSpec
from dnr_jax.models import TSN
from dnr_jax.runs.devices import make_mesh
from dnr_jax.training.screen import describe
from tests.training.tiny import tiny_config


def test_a_run_tells_what_matters_of_itself():
    config = tiny_config("/videos")
    config.model = TSN(depth=18, num_classes=0, norm=DNRSpec(relay_distance=2))
    config.init_from = "/weights.pth"
    mesh = make_mesh(jax.devices()[:2])
    assert describe(config, (12, 7), ("dark", "grey", "light", "a", "b"), 1299, 6, mesh).splitlines() == [
        "data           Folder /videos: 12 training and 7 validation videos",
        "classes        5: dark, grey, light, a, ...",
        "clips          4 frames of 16 x 16 pixels, sampler Segments; 4 a step",
        "network        TSN, depth 18, norms DNR (cl, ct, static) on bn, interlaced; 1,299 parameters, float32",
        "devices        2 x cpu",
        "length         6 steps, 2.0 epochs",
        "weights        /weights.pth",
    ]
    with_variant(config, "bn")
    assert "depth 18, norms bn; " in describe(config, (12, 7), ("dark",), 1299, 6, mesh)
