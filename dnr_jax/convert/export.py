"""A trained network as files that need nothing of this package: its weights, and a program that scores clips."""

import os
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

from dnr_jax.config import ExperimentConfig, to_json
from dnr_jax.convert.files import complete_file, write_weight_file
from dnr_jax.convert.source import own_metadata
from dnr_jax.convert.state_dict import to_state_dict
from dnr_jax.dnr.statistics import Variables
from dnr_jax.models.blocks import unstack_blocks
from dnr_jax.models.naming import OWN
from dnr_jax.runs.folder import CLASSES_FILE, CONFIG_FILE, Run
from dnr_jax.runs.inference import normalize

PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHTS_FILE = "weights.safetensors"
PROGRAM_FILE = "network.jax_export"


def export_program(model: nn.Module, variables: Variables, config: ExperimentConfig) -> export.Exported:
    """Return a network as a program: clips of pixels to probabilities, with the weights inside.

    Args:
      model: maps normalised clips ``[N, T, H, W, 3]`` to scores ``[N, K]``.
      variables: ``params`` and ``batch_stats``, as arrays of JAX or NumPy.
      config: what clips look like and how they are normalised.

    Returns:
      A program for :data:`PLATFORMS` that maps uint8 ``[N, T, H, W, 3]`` to float32 ``[N, K]``, for every ``N`` of 1 or
      more; ``T``, ``H`` and ``W`` are those of the configuration.
    """
    dtype = jnp.dtype(config.model.dtype)
    variables = jax.tree.map(jnp.asarray, variables)

    def score(video: jax.Array) -> jax.Array:
        scores: Any = model.apply(variables, normalize(video, config.data, dtype), train=False)
        return jax.nn.softmax(scores)

    (batch,) = export.symbolic_shape("batch")
    clips = jax.ShapeDtypeStruct((batch, *config.data.clip_shape), jnp.uint8)
    return export.export(jax.jit(score), platforms=PLATFORMS)(clips)


def export_run(run: Run, folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Write a trained network.

    Args:
      run: from :func:`dnr_jax.runs.folder.load_run`.
      folder: made where it is not there. Gets ``weights.safetensors`` (this project's names), ``network.jax_export``
        (:func:`export_program`, serialised), ``classes.txt`` and ``config.json``.

    Returns:
      The files.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    variables = jax.device_get(run.variables)
    weights, program, classes, config = (
        folder / name for name in (WEIGHTS_FILE, PROGRAM_FILE, CLASSES_FILE, CONFIG_FILE)
    )
    state = to_state_dict(unstack_blocks(variables), OWN)
    write_weight_file(weights, state, own_metadata(run.config, run.classes, "own"))
    for path, content in (
        (program, bytes(export_program(run.model, variables, run.config).serialize())),
        (classes, ("\n".join(run.classes) + "\n").encode()),
        (config, (to_json(run.config) + "\n").encode()),
    ):
        with complete_file(path) as partial:
            partial.write_bytes(content)
    return [weights, program, classes, config]
