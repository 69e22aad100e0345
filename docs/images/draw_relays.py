"""Draws ``relays.png`` for ``docs/drop_in.md``: what the relays of an untrained, narrow ResNet-50 predict.

python docs/images/draw_relays.py
"""

import functools
import pathlib

import jax

from dnr_jax import DNRSpec, inspect, plot_relays
from dnr_jax.models.resnet import ResNet

if __name__ == "__main__":
    model = ResNet(depth=50, spec=DNRSpec(relay_distance=2), width=8, stem="small")
    clips = jax.random.normal(jax.random.key(0), (2, 8, 8, 8, 3))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), clips)
    plot_relays(inspect(model, variables, clips), pathlib.Path(__file__).with_name("relays.png"))
