"""Whole networks against the authors' DNR code and MMAction2's TSN, in float64."""

import functools

import jax
import jax.numpy as jnp
import pytest

from dnr_jax.convert import AUTHORS, MMACTION2
from dnr_jax.dnr import DNRSpec
from dnr_jax.models import TSN, ResNet, TSNHead
from tests import golden
from tests.dnr.test_golden import channels_first, clips, frames

pytestmark = pytest.mark.usefixtures("x64")

DTYPES = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def layers_of(backbone) -> dict[str, jax.Array]:
    """The stem and the four stages, as the peers' features ``[N * T, C, H, W]``."""
    stages = {f"layer{i}": frames(backbone[f"layer{i}"]["__call__"][0]) for i in range(1, 5)}
    return stages | {"stem": frames(backbone["stem"][0])}


def captured(module, _) -> bool:
    """Whether the golden files hold the output of this module."""
    return module.name in ("layer1", "layer2", "layer3", "layer4", "norm1", "norm2")


@pytest.mark.parametrize("num_groups", [2, 4])
def test_resnet50_with_dnr_is_the_authors(shared, num_groups):
    case = golden.load(shared, f"dnr_r50_g{num_groups}")
    x = clips(case.input())
    model = ResNet(50, DNRSpec(num_groups=num_groups), **DTYPES)

    def apply(variables, x, train):
        return model.apply(
            variables, x, train=train, mutable=["batch_stats", "intermediates"], capture_intermediates=captured
        )

    def outputs(_, intermediates):
        found = layers_of(intermediates)
        for stage, block in ((1, 0), (4, 2)):
            norms = intermediates[f"layer{stage}"][f"block{block}"]
            found[f"cl_{stage}_{block}"] = channels_first(norms["norm1"]["__call__"][0][1])
            found[f"ct_{stage}_{block}"] = frames(norms["norm2"]["__call__"][0][1])
        return found

    template = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    golden.check_network(case, apply, template, AUTHORS, x, outputs, frames)


@pytest.mark.parametrize("depth", [18, 50])
def test_tsn_is_mmaction2s(shared, depth):
    case = golden.load(shared, f"tsn_r{depth}")
    x = jnp.moveaxis(jnp.asarray(case.input(), jnp.float64), 2, -1)
    backbone = ResNet(depth, DNRSpec.static(), **DTYPES)
    model = TSN(backbone, TSNHead(case.meta["num_classes"], dropout=0.0, param_dtype=jnp.float64))

    def apply(variables, x, train):
        return model.apply(
            variables, x, train=train, mutable=["batch_stats", "intermediates"], capture_intermediates=captured
        )

    def outputs(logits, intermediates):
        return {"logits": logits} | layers_of(intermediates["backbone"])

    template = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    golden.check_network(case, apply, template, MMACTION2, x, outputs, lambda g: jnp.moveaxis(g, -1, 2))
