"""What a network is made of, without computing it."""

import functools
from typing import Any

import flax.linen as nn
import jax


def norms_of(model: nn.Module, x: Any) -> dict[str, tuple[nn.Module, int]]:
    """Return each norm layer by its path, with the number of frames that it sees."""
    found = {}

    def intercept(next_function, args, kwargs, context):
        if context.method_name == "__call__" and "norm" in (context.module.name or ""):
            found["/".join(context.module.path)] = (context.module, args[1].shape[1])
        return next_function(*args, **kwargs)

    with nn.intercept_methods(intercept):
        jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return found
