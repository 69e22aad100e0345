"""What a network costs: parameters and multiply-accumulates, from shapes alone. Nothing is computed or compiled."""

import functools
import math
from collections.abc import Iterator
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core


def abstract_variables(model: nn.Module, clip_shape: tuple[int, ...]) -> Any:
    """Return shapes and dtypes of a network's variables.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores.
      clip_shape: ``(T, H, W, 3)``.
    """
    clip = jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), clip)


def count_parameters(variables: Any) -> int:
    """Return the number of trained parameters; running statistics are none."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def count_macs(model: nn.Module, clip_shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of scoring one clip in evaluation mode.

    Convolutions and matrix products count, as in the papers' "FLOPs"; normalisation, activations and pooling do not.
    Taps of a convolution that fall on the padding count as well.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores.
      clip_shape: ``(T, H, W, 3)``.
    """
    clip = jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)
    program = jax.make_jaxpr(functools.partial(model.apply, train=False))(abstract_variables(model, clip_shape), clip)
    return _macs(program.jaxpr)


def _macs(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        total += _equation_macs(equation)
        # A loop's body is one program and runs as often as the loop.
        total += equation.params.get("length", 1) * sum(map(_macs, _inner(equation)))
    return total


def _inner(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """Yield the programs that an equation calls: of jit, scan, remat, custom derivatives."""
    for value in equation.params.values():
        for program in value if isinstance(value, tuple | list) else (value,):
            if isinstance(program, core.ClosedJaxpr):
                yield program.jaxpr
            elif isinstance(program, core.Jaxpr):
                yield program


def _equation_macs(equation: core.JaxprEqn) -> int:
    shapes = [cast(Any, variable.aval).shape for variable in (*equation.invars, *equation.outvars)]
    if equation.primitive is jax.lax.conv_general_dilated_p:
        _, kernel, result = shapes
        outputs = equation.params["dimension_numbers"].rhs_spec[0]
        return math.prod(result) * math.prod(kernel) // kernel[outputs]
    if equation.primitive is jax.lax.dot_general_p:
        left, _, result = shapes
        (contracted, _), _ = equation.params["dimension_numbers"]
        return math.prod(result) * math.prod(left[axis] for axis in contracted)
    return 0
