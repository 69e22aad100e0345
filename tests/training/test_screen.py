import jax
import jax.numpy as jnp

from dnr_jax.config import with_variant
from dnr_jax.dnr import DNRSpec
from dnr_jax.models import TSN
from dnr_jax.runs.devices import make_mesh
from dnr_jax.training.screen import describe
from tests.training.tiny import tiny_config

PARAMS = {"backbone": {"kernel": jnp.zeros((4, 300))}, "head": {"kernel": jnp.zeros((9, 11))}}


def test_a_run_tells_what_matters_of_itself():
    config = tiny_config("/videos")
    config.model = TSN(depth=18, num_classes=0, norm=DNRSpec(relay_distance=2))
    config.init_from = "/weights.pth"
    mesh = make_mesh(jax.devices()[:2])
    assert describe(config, (12, 7), ("dark", "grey", "light", "a", "b"), PARAMS, 6, mesh).splitlines() == [
        "data           Folder /videos: 12 training and 7 validation videos",
        "classes        5: dark, grey, light, a, ...",
        "clips          4 frames of 16 x 16 pixels, sampler Segments; 4 a step",
        "network        TSN, depth 18, norms DNR (cl, ct, static) on bn, interlaced; 1,299 parameters, float32",
        "devices        2 x cpu",
        "length         6 steps, 2.0 epochs",
        "weights        /weights.pth",
    ]
    with_variant(config, "bn")
    assert "depth 18, norms bn; " in describe(config, (12, 7), ("dark",), PARAMS, 6, mesh)


def test_a_run_tells_at_which_rates_its_parameters_are_trained():
    config = tiny_config("/videos")
    config.optimizer.rate_factors = ("backbone=0", "head=2.5")
    lines = describe(config, (12, 7), ("dark",), PARAMS, 6, make_mesh(jax.devices()[:1])).splitlines()
    assert lines[-1] == "rates          1,200 parameters as they are, 99 parameters x 2.5"
