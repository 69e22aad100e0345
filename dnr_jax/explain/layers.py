"""Features of any layer of a network, and gradients of its scores at them.

One interceptor of Flax stands at the outputs of all modules, so no network has a hook of its own: it notes which layers
there are, hands out the features of one (``sow``) and adds a perturbation of zeros to them, whose gradient is theirs.
Both go through collections of variables, which lifted transforms thread: features leave ``nn.remat``, and under
``nn.scan`` each block has a perturbation of its own.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, Int

from dnr_jax.dnr.statistics import Variables

PERTURBATIONS = "perturbations"
_NAME = "explained"

Path = tuple[str, ...]


class Layer(NamedTuple):
    """A module whose output has features ``[N, T, H, W, C]``.

    Attributes:
      path: of the module.
      block: its place in a scan over blocks; None outside of one.
      shapes: of its features: one, or one a pathway and a call.
    """

    path: Path
    block: int | None
    shapes: tuple[tuple[int, ...], ...]


class Gradients(NamedTuple):
    """What :func:`gradients` returns.

    Attributes:
      scores: before the softmax, ``[N, K]``.
      classes: whose scores were differentiated, ``[N]``.
      features: of the layer, each ``[N, T', H', W', C]``; one, or one a pathway and a call.
      gradients: of the classes' scores at them, likewise.
    """

    scores: jax.Array
    classes: jax.Array
    features: list[list[jax.Array]]
    gradients: list[list[jax.Array]]


def find_layers(model: nn.Module, variables: Variables, clips: Any) -> dict[str, Layer]:
    """Find the layers that have features over time and space, in the order in which they are computed.

    Nothing is computed or compiled. Blocks of a scan are named as those of a loop.

    Args:
      model: called as ``model.apply(variables, clips, train=False)``.
      variables: of the model, or their shapes.
      clips: ``[N, T, H, W, 3]``, or their shape.

    Returns:
      The layers by the paths of their modules (``backbone/layer4/block1/conv2``); the last one is what the head reads.
    """
    order: dict[Path, None] = {}

    def forward(variables: Variables, clips: jax.Array) -> Any:
        with _intercepted(lambda path: True, order.setdefault):
            return model.apply(variables, clips, train=False, mutable=["intermediates"])[1]

    sown = _sown(jax.eval_shape(forward, variables, clips))
    return {"/".join(name): layer for path in order if path in sown for name, layer in _named(path, sown[path])}


def find_layer(layers: Mapping[str, Layer], name: str = "") -> Layer:
    """Return a layer by its name; without a name the last one.

    Raises:
      ValueError: where there is no such layer, naming those that may be meant.
    """
    if not layers:
        raise ValueError("the network has no layer with features over time and space")
    if not name:
        return list(layers.values())[-1]
    if name in layers:
        return layers[name]
    inside = [layer for layer in layers if layer.endswith(f"/{name}")]
    nearest = inside[:3] or difflib.get_close_matches(name, layers, n=3, cutoff=0.0)
    raise ValueError(f"there is no layer {name!r}; the nearest of {len(layers)} are {', '.join(nearest)}")


def gradients(
    model: nn.Module,
    variables: Variables,
    clips: Float[Array, "n t h w 3"],
    classes: Int[Array, " n"],
    layers: Sequence[Layer],
) -> Gradients:
    """Differentiate scores at the features of layers; call it under ``jax.jit``.

    Args:
      model: called as ``model.apply(variables, clips, train=False)``; returns scores ``[N, K]``.
      variables: of the model.
      clips: normalised.
      classes: whose score is differentiated for each clip; below 0: the best one.
      layers: of :func:`find_layers`.
    """
    paths = {layer.path for layer in layers}

    def forward(perturbations: Mapping[Path, Any]) -> tuple[jax.Array, dict[Path, Any]]:
        nested = traverse_util.unflatten_dict({(*path, _NAME): zeros for path, zeros in perturbations.items()})
        given = {**variables, PERTURBATIONS: nested} if nested else variables
        with _intercepted(paths.__contains__):
            scores, updates = model.apply(given, clips, train=False, mutable=["intermediates"])
        return scores, _sown(updates)

    _, shapes = jax.eval_shape(lambda: forward({}))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    scores, pullback, values = jax.vjp(forward, zeros, has_aux=True)
    classes = jnp.where(classes < 0, jnp.argmax(scores, axis=-1).astype(classes.dtype), classes)
    (found,) = pullback(jax.nn.one_hot(classes, scores.shape[-1], dtype=scores.dtype))

    return Gradients(scores, classes, *([_of_layer(arrays, layer) for layer in layers] for arrays in (values, found)))


def features(
    model: nn.Module, variables: Variables, clips: Float[Array, "n t h w 3"], layer: Layer
) -> tuple[Float[Array, "n k"], list[jax.Array]]:
    """Return scores and the features of a layer, each ``[N, T', H', W', C']``; one, or one a pathway and a call.

    Args:
      model: called as ``model.apply(variables, clips, train=False)``.
      variables: of the model.
      clips: normalised.
      layer: of :func:`find_layers`.
    """
    with _intercepted(layer.path.__eq__):
        scores, updates = model.apply(variables, clips, train=False, mutable=["intermediates"])
    return scores, _of_layer(_sown(updates), layer)


def _of_layer(arrays: Mapping[Path, Any], layer: Layer) -> list[jax.Array]:
    return [leaf if layer.block is None else leaf[layer.block] for leaf in jax.tree.leaves(arrays[layer.path])]


@contextlib.contextmanager
def _intercepted(wanted: Callable[[Path], bool], note: Callable[[Path, None], Any] | None = None) -> Iterator[None]:
    """Sow and perturb the features of the wanted modules that run in a ``with`` block; note their paths in order."""
    inside: set[Path] = set()

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        path = module.path
        # A lifted module calls itself once more, at the same path: features are taken outside of the transform.
        if context.method_name != "__call__" or path in inside or not wanted(path):
            return call(*args, **kwargs)
        inside.add(path)
        try:
            result = call(*args, **kwargs)
        finally:
            inside.remove(path)
        leaves, tree = jax.tree.flatten(result)
        places = [i for i, leaf in enumerate(leaves) if getattr(leaf, "ndim", 0) == 5]
        if not places:
            return result
        if note:
            note(path, None)
        perturbed = _perturbed(module, [leaves[i] for i in places])
        for i, leaf in zip(places, perturbed, strict=True):
            leaves[i] = leaf
        return jax.tree.unflatten(tree, leaves)

    with nn.intercept_methods(intercept):
        yield


def _perturbed(module: nn.Module, features: list[jax.Array]) -> list[jax.Array]:
    """Add this call's perturbations to features, where there are any, and sow the sum."""
    if module.has_variable(PERTURBATIONS, _NAME):
        calls = len(module.get_variable("intermediates", _NAME, ()))
        perturbations: Sequence[jax.Array] = module.get_variable(PERTURBATIONS, _NAME)[calls]
        features = [x + perturbation for x, perturbation in zip(features, perturbations, strict=True)]
    module.sow("intermediates", _NAME, tuple(features))
    return features


def _sown(updates: Mapping[str, Any]) -> dict[Path, Any]:
    flat = traverse_util.flatten_dict(updates["intermediates"])
    return {path[:-1]: sown for path, sown in flat.items() if path[-1] == _NAME}


def _named(path: Path, sown: Any) -> Iterator[tuple[Path, Layer]]:
    """Yield the names and layers that a module stands for: one, or one a block of a scan."""
    shapes: Sequence[tuple[int, ...]] = [leaf.shape for leaf in jax.tree.leaves(sown)]
    if "blocks" not in path:
        yield path, Layer(path, None, tuple(shapes))
        return
    at = path.index("blocks")
    if len(path) > at + 1:  # the scan as a whole is the stage
        for i in range(shapes[0][0]):
            name = (*path[:at], f"block{i + 1}", *path[at + 2 :])
            yield name, Layer(path, i, tuple(shape[1:] for shape in shapes))
