"""Comparison with outputs, gradients and running statistics of the peers' PyTorch code, in float64.

The golden files are not part of the repository; tests that need them skip where they are absent.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import DataConfig
from dnr_jax.convert import Naming, from_state_dict, to_state_dict

RTOL = 1e-5


def load(shared, case: str):
    """Return the reader of one golden case."""
    sys.path.insert(0, str(shared))
    try:
        from golden.check import Golden
    finally:
        sys.path.remove(str(shared))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the reader leaves closing its file to the collector
        return Golden(case)


def float64(tree: Any) -> Any:
    """Cast the leaves to float64."""
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)


def values_of_network(
    golden: Any,
    apply: Callable[..., Any],
    template: Any,
    naming: Naming,
    x: jax.Array,
    outputs: Callable[[Any, Mapping[str, Any]], dict[str, jax.Array]],
    input_gradient: Callable[[jax.Array], jax.Array],
    prefix: str = "",
    pixels: DataConfig | None = None,
) -> dict[str, np.ndarray]:
    """Return everything that a golden case holds of a network, as computed here.

    Outputs (eval, train, eval with the updated statistics), gradients and running statistics.

    Args:
      golden: the case.
      apply: ``(variables, x, train) -> (output, other collections)``.
      template: shapes of the variables.
      naming: names of the peer.
      x: input in our layout.
      outputs: ``(output, intermediates) -> {golden name: array in torch's layout}``.
      input_gradient: our layout to the golden input's layout.
      prefix: what the peer's test harness puts before the names of the state dict.
      pixels: has the peer's normalisation of the pixels; the default's where None.

    Returns:
      Arrays by the golden file's names, in torch's layouts.

    Raises:
      AssertionError: where the file has values that nothing was computed for.
    """
    state = {k.removeprefix(prefix): v for k, v in golden.weights().items()}
    variables = float64(from_state_dict(state, template, naming))
    params, stats = variables.get("params", {}), variables["batch_stats"]
    probes = float64(golden.probes())

    def loss(params, x):
        out, collections = apply({"params": params, "batch_stats": stats}, x, True)
        named = outputs(out, collections.get("intermediates", {}))
        return sum(jnp.mean(named[k] * probe) for k, probe in probes.items()), (named, collections["batch_stats"])

    (value, (train_outputs, new_stats)), (param_grads, x_grad) = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    )(params, x)
    evaluate = jax.jit(lambda v: outputs(*(lambda o, c: (o, c.get("intermediates", {})))(*apply(v, x, False))))
    found = {f"eval/{k}": v for k, v in evaluate(variables).items()}
    found |= {f"train/{k}": v for k, v in train_outputs.items()}
    found |= {
        f"eval2/{k}": v
        for k, v in evaluate({"params": params, "batch_stats": new_stats}).items()
        if k in golden.meta["outputs"]
    }
    grads = {prefix + k: v for k, v in to_state_dict({"params": param_grads}, naming).items()}
    moved = {prefix + k: v for k, v in to_state_dict({"batch_stats": new_stats}, naming).items()}
    # MMAction2 keeps the normalisation of the pixels among the buffers; here it is part of the configuration.
    moved |= {f"data_preprocessor.{k}": getattr(pixels or DataConfig(), k) for k in ("mean", "std")}
    # Gradients that are zero, as of biases in front of a norm, are rounding errors: there is nothing to compare.
    zero = {f"grad/{k}" for k in golden.meta["zero_gradients"]}
    largest = max((np.linalg.norm(v) for v in grads.values()), default=0.0)
    assert all(np.linalg.norm(v) <= 1e-12 * largest for k, v in grads.items() if f"grad/{k}" in zero)
    stored = [name for name in golden.names() if name not in zero]
    found |= {f"grad/{k}": v for k, v in grads.items() if f"grad/{k}" in stored}
    found |= {f"stat/{k}": v for k, v in moved.items() if f"stat/{k}" in stored}
    found |= {"train/loss": value, "grad/input": input_gradient(x_grad)}
    norms = {
        "grad_norms": (grads, golden.meta["grad_norm_keys"]),
        "stat_norms": (moved, golden.meta["stat_norm_keys"]),
    }
    found |= {
        k: np.array([np.linalg.norm(tree[n]) for n in names]) for k, (tree, names) in norms.items() if k in stored
    }
    missing = {n for n in stored if n not in ("train", *found)}
    assert not missing, f"golden values that nothing was compared with: {missing}"
    return {k: np.asarray(v) for k, v in found.items()}


def check_network(golden: Any, *args: Any, **kwargs: Any) -> None:
    """Compare a network with a golden case; takes the arguments of :func:`values_of_network`."""
    assert not golden.compare(values_of_network(golden, *args, **kwargs), rtol=RTOL, verbose=False)


def errors(golden: Any, found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the relative error of every stored array; exact ones are left out."""
    # With no tolerance at all, everything that is not exact is reported as bad.
    return {key: error for key, error, *_ in golden.compare(found, rtol=-1.0, verbose=False)}
