"""Running statistics estimated anew from training batches, after the weights have stopped moving."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from dnr_jax.dnr.functional import Moments
from dnr_jax.dnr.standardize import MOMENTS, Standardize

Variables: TypeAlias = dict[str, Any]
"""What ``model.apply`` takes: nested dictionaries of arrays under ``params``, ``batch_stats`` and the like."""


def precise_statistics(
    model: nn.Module | Callable[[Variables, Any], Variables], variables: Variables, batches: Iterable[Any]
) -> Variables:
    """Replace running statistics by those of the given batches taken together (PySlowFast's "precise BN").

    A running average forgets, and mixes the statistics of weights that have changed since. Here every batch is passed
    through the network in training mode, with its own statistics: the mean is that of all values of the batches, the
    variance the biased variance of all of them. A layer that runs several times in a step, as the norms of TDN's
    long-term module do, has the statistics of the values of all its calls.

    Args:
      model: a Linen module called as ``model(batch, train=True)`` with a ``dropout`` key; or, for any other call, a
        function ``(variables, batch) -> sums``: the collection ``moments`` of a training-mode application with
        ``mutable=["moments", "batch_stats"]``, which holds sums over the values of the batch and their number. One of
        ``jax.jit`` runs as it is, with its shardings and compiler options, compiled once for all calls.
      variables: of the model, with the collection ``batch_stats``; not changed.
      batches: batches of training data of one shape, at least one.

    Returns:
      The variables with new ``mean`` and ``var``. Other running state (the step of batch renormalisation) and networks
      without running statistics are left as they are.

    Raises:
      ValueError: where there is no batch, or where a layer that trains cannot hand out its sums, naming it.
    """
    if not variables.get("batch_stats"):
        return variables
    sums = functools.partial(_observe, model) if isinstance(model, nn.Module) else model
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        raise ValueError("precise statistics need at least one batch")
    if unheard := _unheard(sums, variables, first):
        raise ValueError(
            f"{', '.join(sorted(unheard))}: the collection {MOMENTS!r} is not mutable there, so that the statistics of "
            f"the batches are not known; expected {MOMENTS!r} beside 'batch_stats' in variable_axes of the nn.scan, or "
            "another lifted transform, around it"
        )
    # Jitted throughout: arrays that several processes share cannot be touched otherwise.
    # Another function is traced anew in each call, since what it closes over may have changed.
    observe = sums if isinstance(sums, jax.stages.Wrapped) else jax.jit(lambda *arguments: sums(*arguments))
    add = jax.jit(functools.partial(jax.tree.map, jnp.add))
    total = observe(variables, first)
    for batch in remaining:
        total = add(total, observe(variables, batch))
    return {**variables, "batch_stats": _replaced(variables["batch_stats"], total)}


def _observe(model: nn.Module, variables: Variables, batch: Any) -> Variables:
    # What dropout leaves out follows the last norm of the networks here: its key has no influence.
    _, updates = model.apply(
        variables, batch, train=True, mutable=[MOMENTS, "batch_stats"], rngs={"dropout": jax.random.key(0)}
    )
    return updates.get(MOMENTS, {})


def _unheard(sums: Callable[[Variables, Any], Variables], variables: Variables, batch: Any) -> set[str]:
    """Return the layers whose sums get lost when they hand them out; nothing is computed or compiled."""
    unheard: set[str] = set()
    # What jax.jit has traced before is not traced again, and would say nothing.
    traced = getattr(sums, "__wrapped__", sums) if isinstance(sums, jax.stages.Wrapped) else sums
    with nn.intercept_methods(functools.partial(_note_unheard, unheard)):
        jax.eval_shape(lambda *arguments: traced(*arguments), variables, batch)
    return unheard


def _note_unheard(unheard: set[str], call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Note the layers whose sums get lost when they hand them out; an interceptor of Flax."""
    layer, hands_out = context.module, context.method_name == Standardize.observe.__name__
    if isinstance(layer, Standardize) and hands_out and not layer.is_mutable_collection(MOMENTS):
        unheard.add("/".join(layer.path))
    return call(*args, **kwargs)


@jax.jit
def _replaced(stats: Variables, total: Variables) -> Variables:
    """Return running statistics with mean and variance of the summed moments."""
    new = traverse_util.flatten_dict(stats)
    sums = traverse_util.flatten_dict(total)
    for *layer, name in list(sums):
        if name == "count":
            moments = Moments(*(sums[*layer, field] / sums[*layer, name][..., None] for field in Moments._fields))
            for key, value in (("mean", moments.mean), ("var", moments.variance)):
                new[*layer, key] = value.astype(new[*layer, key].dtype)
    return traverse_util.unflatten_dict(new)
