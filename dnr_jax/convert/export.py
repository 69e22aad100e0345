"""A trained network as files that need nothing of this package: its weights, and programs that score clips."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

from dnr_jax.config import ConfigError, ExperimentConfig, to_json
from dnr_jax.convert.export_readme import JAX_FILE, LITERT_FILE, ONNX_FILE, README_FILE, WEIGHTS_FILE, readme
from dnr_jax.convert.files import complete_file, write_weight_file
from dnr_jax.convert.litert_program import check_installed, litert_program
from dnr_jax.convert.onnx_program import Score, onnx_program
from dnr_jax.convert.source import own_metadata
from dnr_jax.convert.state_dict import to_state_dict
from dnr_jax.dnr.statistics import Variables
from dnr_jax.models import create_model
from dnr_jax.models.blocks import place_of_blocks, unstack_blocks
from dnr_jax.models.naming import OWN
from dnr_jax.runs.checkpoint import CHECKPOINTS_FOLDER
from dnr_jax.runs.folder import CLASSES_FILE, CONFIG_FILE, Run
from dnr_jax.runs.inference import normalize

PLATFORMS = ("cpu", "cuda", "tpu")
FORMS = ("jax", "onnx", "litert")
"""Programs that there are: of ``jax.export``, of ONNX, and of LiteRT (TFLite)."""
_ROUNDED = {"jax": ("bfloat16", "int8"), "onnx": ("bfloat16",), "litert": ()}
"""How else than as float32 each holds kernels."""
WEIGHTS = ("float32", "bfloat16", "int8")
"""How the programs hold the kernels, which are nearly all of a network's weights."""


class Int8Kernel(NamedTuple):
    """A kernel in 8 bits: ``values * scale`` stands for it.

    Attributes:
      values: int8 ``[..., C]``, from -127 to 127.
      scale: float32 ``[C]``, one for each output channel; ``[B, C]`` for the stacked kernels of ``B`` blocks.
    """

    values: jax.Array
    scale: jax.Array


def rounded(variables: Variables, dtype: str = "bfloat16") -> Variables:
    """Return variables with the kernels in a dtype; biases, scales and statistics, which are few, stay as they are.

    With ``int8`` each kernel is an :class:`Int8Kernel`, the largest number of each output channel being 127 or -127.
    """

    def round_kernel(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array | Int8Kernel:
        if path[-1].key != "kernel":
            return leaf
        stacked = place_of_blocks([entry.key for entry in path]) is not None
        return _int8(leaf, stacked) if dtype == "int8" else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(round_kernel, jax.tree.map(jnp.asarray, variables))


def _int8(kernel: jax.Array, stacked: bool) -> Int8Kernel:
    """Return a kernel in 8 bits; the first axis of a ``stacked`` one is that of the blocks, which differ in size."""
    wide = kernel.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=tuple(range(int(stacked), wide.ndim - 1)))
    scale = jnp.where(largest > 0, largest / 127, 1.0)
    return Int8Kernel(jnp.round(wide / _beside(scale, wide.ndim)).astype(jnp.int8), scale)


def _beside(scale: jax.Array, ndim: int) -> jax.Array:
    """Return scales ``[*B, C]`` of kernels ``[*B, ..., C]`` with as many axes as these."""
    return jnp.expand_dims(scale, range(scale.ndim - 1, ndim - 1))


def widened(variables: Variables, like: Variables) -> Variables:
    """Return variables, which :func:`rounded` may have made, in the dtypes that others have."""

    def widen(exact: jax.Array, stored: jax.Array | Int8Kernel) -> jax.Array:
        if not isinstance(stored, Int8Kernel):
            return stored.astype(exact.dtype)
        values = stored.values.astype(jnp.float32)
        return (values * _beside(stored.scale, values.ndim)).astype(exact.dtype)

    return jax.tree.map(widen, like, variables)


def _scorer(model: nn.Module, restore: Callable[[], Variables], config: ExperimentConfig) -> Score:
    dtype = jnp.dtype(config.model.dtype)

    def score(video: jax.Array) -> jax.Array:
        scores: Any = model.apply(restore(), normalize(video, config.data, dtype), train=False)
        return jax.nn.softmax(scores)

    return score


def export_program(
    model: nn.Module, variables: Variables, config: ExperimentConfig, weights: str = "float32"
) -> export.Exported:
    """Return a network as a program: clips of pixels to probabilities, with the weights inside.

    Args:
      model: maps normalised clips ``[N, T, H, W, 3]`` to scores ``[N, K]``.
      variables: ``params`` and ``batch_stats``, as arrays of JAX or NumPy.
      config: what clips look like and how they are normalised.
      weights: one of :data:`WEIGHTS`; bfloat16 takes half of the space, int8 a quarter, and arithmetic stays what it
        is.

    Returns:
      A program for :data:`PLATFORMS` that maps uint8 ``[N, T, H, W, 3]`` to float32 ``[N, K]``, for every ``N`` of 1 or
      more; ``T``, ``H`` and ``W`` are those of the configuration.
    """
    exact = jax.tree.map(jnp.asarray, variables)
    stored = exact if weights == "float32" else rounded(exact, weights)
    score = _scorer(model, lambda: widened(stored, exact), config)
    (batch,) = export.symbolic_shape("batch")
    clips = jax.ShapeDtypeStruct((batch, *config.data.clip_shape), jnp.uint8)
    return export.export(jax.jit(score), platforms=PLATFORMS)(clips)


def export_onnx(variables: Variables, config: ExperimentConfig, weights: str = "float32") -> bytes:
    """Return the network of a configuration as an ONNX program, which computes in float32.

    Its input is ``clips``, uint8 ``[batch, T, H, W, 3]``, its output ``probabilities``, float32 ``[batch, K]``.

    Args:
      variables: ``params`` and ``batch_stats``, as arrays of JAX or NumPy.
      config: the network, what clips look like and how they are normalised.
      weights: float32 or bfloat16.

    Raises:
      ConfigError: as :func:`dnr_jax.convert.onnx_program.onnx_program` says.
    """
    return onnx_program(_plain(variables, config, weights), config.data.clip_shape)


def export_litert(variables: Variables, config: ExperimentConfig) -> bytes:
    """Return the network of a configuration as a LiteRT program, which computes in float32.

    Its input is uint8 ``[1, T, H, W, 3]``, which can be resized to more clips, its output float32 ``[N, K]``.

    Args:
      variables: ``params`` and ``batch_stats``, as arrays of JAX or NumPy.
      config: the network, what clips look like and how they are normalised.

    Raises:
      ConfigError: as :func:`dnr_jax.convert.onnx_program.onnx_program` and
        :func:`dnr_jax.convert.litert_program.litert_program` say.
    """
    check_installed()
    score, shape = _plain(variables, config, "float32"), config.data.clip_shape
    return litert_program(onnx_program(score, shape), score, shape)


def _plain(variables: Variables, config: ExperimentConfig, weights: str) -> Score:
    """Return what scores clips in float32, block by block, with kernels that may be rounded."""
    network = dataclasses.replace(config.model.unscanned(), dtype="float32", remat="none")
    exact = jax.tree.map(jnp.asarray, unstack_blocks(variables))
    stored = exact if weights == "float32" else widened(rounded(exact, weights), exact)
    return _scorer(create_model(network), lambda: stored, dataclasses.replace(config, model=network))


def export_run(
    run: Run, folder: str | os.PathLike[str], forms: Sequence[str] = ("jax",), weights: str = "float32"
) -> list[pathlib.Path]:
    """Write a trained network; nothing is written where one of the forms cannot be made.

    Args:
      run: from :func:`dnr_jax.runs.folder.load_run`.
      folder: made where it is not there; loses the programs of a former export. Gets ``weights.safetensors``
        (this project's names, never rounded),
        ``network.jax_export`` (:func:`export_program`, serialised), ``network.onnx`` (:func:`export_onnx`),
        ``network.tflite`` (:func:`export_litert`), ``classes.txt``, ``config.json``, and ``README.md`` with a program
        for each form.
      forms: which of :data:`FORMS`, at least one.
      weights: one of :data:`WEIGHTS`, for the programs.

    Returns:
      The files.

    Raises:
      ConfigError: for a form or weights that there are not, for the folder of a run, and where a form cannot be made of
        this network.
    """
    if unknown := [form for form in forms if form not in FORMS] or ([] if forms else ["none"]):
        raise ConfigError(f"there is no form {unknown[0]!r} to export; expected one or more of {', '.join(FORMS)}")
    if weights not in WEIGHTS:
        raise ConfigError(f"weights cannot be {weights!r}; expected one of {', '.join(WEIGHTS)}")
    for form in forms:
        if weights not in (can := ("float32", *_ROUNDED[form])):
            raise ConfigError(f"--weights {weights} is not of the form {form}, which takes {' and '.join(can)}")
    folder = pathlib.Path(folder)
    if (folder / CHECKPOINTS_FOLDER).exists():
        raise ConfigError(
            f"'{folder}' is the folder of a run, whose {CONFIG_FILE} and {CLASSES_FILE} would be replaced; choose "
            "another one for the export"
        )
    if "litert" in forms:
        check_installed()
    variables = jax.device_get(run.variables)
    contents: dict[str, bytes] = {}
    if "jax" in forms:
        contents[JAX_FILE] = bytes(export_program(run.model, variables, run.config, weights).serialize())
    if "onnx" in forms:
        contents[ONNX_FILE] = export_onnx(variables, run.config, weights)
    if "litert" in forms:
        contents[LITERT_FILE] = export_litert(variables, run.config)
    contents[CLASSES_FILE] = ("\n".join(run.classes) + "\n").encode()
    contents[CONFIG_FILE] = (to_json(run.config) + "\n").encode()
    contents[README_FILE] = readme(run.config, run.classes, list(contents), weights).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for program in (JAX_FILE, ONNX_FILE, LITERT_FILE):  # of a former export, with other weights than those to come
        (folder / program).unlink(missing_ok=True)
    state = to_state_dict(variables, OWN)
    write_weight_file(folder / WEIGHTS_FILE, state, own_metadata(run.config, run.classes, "own"))
    for name, content in contents.items():
        with complete_file(folder / name) as partial:
            partial.write_bytes(content)
    return [folder / name for name in (WEIGHTS_FILE, *contents)]
