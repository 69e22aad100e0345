"""Parameters and multiply-accumulates, counted by hand and against the peers' networks."""

import json

import flax.linen as nn
import jax.numpy as jnp
import pytest

from dnr_jax.dnr import DNRSpec
from dnr_jax.models import TSN, create_model
from dnr_jax.models.complexity import abstract_variables, count_macs, count_parameters
from dnr_jax.models.zoo import zoo
from tests.golden_networks import NETWORKS


class Small(nn.Module):
    """A grouped convolution, a rematerialised dense layer, and one that a scan applies six times."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(8, (3, 5), (2, 1), "VALID", feature_group_count=2, use_bias=False, name="conv")(x[..., :2])
        x = jnp.mean(nn.BatchNorm(use_running_average=True, name="norm")(x), axis=(0, 2, 3))
        x = nn.remat(nn.Dense)(5, name="dense")(x)

        class Step(nn.Module):
            @nn.compact
            def __call__(self, carry, _):
                return nn.Dense(5, name="dense")(carry), None

        scan = nn.scan(Step, variable_broadcast="params", split_rngs={"params": False}, length=6)
        return scan(name="scan")(x, None)[0]


def test_counts_are_those_by_hand():
    shape = (4, 9, 8, 3)  # T, H, W, C; the convolution leaves 4 x 4 pixels
    convolution = 4 * (4 * 4) * 8 * (3 * 5 * 2 // 2)
    dense, scanned = 4 * 8 * 5, 6 * 4 * 5 * 5
    assert count_macs(Small(), shape) == convolution + dense + scanned
    variables = abstract_variables(Small(), shape)
    assert count_parameters(variables) == 3 * 5 * 1 * 8 + 2 * 8 + (8 * 5 + 5) + (5 * 5 + 5)


# Of a ResNet-50 on frames of 224 x 224: channels times pixels behind the first convolution of each block.
LATER_STAGES = 128 * (56**2 + 3 * 28**2) + 256 * (28**2 + 5 * 14**2) + 512 * (14**2 + 2 * 7**2)
OTHERWISE = {
    # The peer scores each frame and averages the scores; here the features are averaged.
    "tsn_bninception": lambda side: 7 * 1024 * 400,
    # The filters over time, three taps a channel behind the first convolution of each block, which here are products.
    "tanet_r50": lambda side: 3 * 8 * (64 * 3 * 56**2 + LATER_STAGES) * side**2 // 224**2,
    # The convolutions of single channels over three segments, which here are products and no convolution.
    "tdn_r50": lambda side: 3 * 8 * LATER_STAGES * side**2 // 224**2,
}
"""Multiply-accumulates of peers for what is computed in another way here, by the side of the frames."""


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo())
def test_counts_are_the_peers(shared, name):
    """The issue asks for 0.5 per cent; the numbers are equal."""
    references = json.loads((shared / "golden" / "complexity.json").read_text())
    sizes = ("_64", "_112") if name.startswith("tdn") else ("",)
    names = {f"{name}{size}" for size in sizes}
    references = {row: counts for row, counts in references.items() if row.partition("@")[0] in names}
    if not references:
        pytest.skip(f"no counts of {name}")
    model = create_model(NETWORKS[name].config)
    for reference in references.values():
        *_, clips, third, _, size = reference["input"]
        frames = clips if third == 3 else third  # images have their frames before the channels, videos behind them
        frames = frames // 3 if name.startswith("tdn") else frames  # its frames stand on the axis of the colours
        shape = (frames, size, size, 3)
        assert count_parameters(abstract_variables(model, shape)) == reference["params"]
        otherwise = OTHERWISE.get(name, lambda side: 0)(size)
        assert count_macs(model, shape) == round(reference["gmacs"] * 1e9) - otherwise


def test_dnr_costs_what_the_authors_code_costs(shared):
    reference = json.loads((shared / "golden" / "complexity.json").read_text())["dnr_r50_g4"]
    model = create_model(TSN(norm=DNRSpec(num_groups=4)))
    shape = (8, 224, 224, 3)
    assert count_parameters(abstract_variables(model, shape)) == reference["params_with_fc400"]
    classifier = 2048 * 400
    assert count_macs(model, shape) == round(reference["gmacs"] * 1e9) + classifier


@pytest.mark.slow  # the counts of both networks are those of the test above
def test_dnr_adds_at_most_a_thousandth_to_a_resnet50():
    baseline = TSN().arms()["bn"]
    shape = (8, 224, 224, 3)
    ratio = count_macs(create_model(TSN()), shape) / count_macs(create_model(baseline), shape)
    assert 1 < ratio < 1.001


def test_the_zoos_networks_relay_between_two_groups():
    for name, network in zoo().items():
        config = network.config
        assert config.norm.relay_distance * 2 == config.relayed_frames(network.num_frames), name
