"""A trained network as an ONNX program, by jax2onnx, and compared with the network itself before it is handed out."""

import contextlib
import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import export
from jax.extend import core

from dnr_jax.config import ConfigError

INSTALL = "pip install 'dnr-jax[onnx]'"
TOLERANCE = 1e-4
"""How far the probabilities of an ONNX program may be from those of the network."""
OPSET = 21
"""Version of ONNX's operators, which onnxruntime knows since release 1.20."""
_LARGE = 256
"""Numbers of an array that is worth storing as bfloat16."""
_INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
_INLINED |= {"custom_vjp_call": "call_jaxpr", "checkpoint": "jaxpr"}
_MATRIX_PRODUCT = re.compile(r"(\w*)(\w),\2(\w)->\1\3")
_POOLS = {"reduce_window_max": jax.lax.max, "reduce_window_sum": jax.lax.add}


Score = Callable[[jax.Array], jax.Array]
"""Maps clips uint8 ``[N, T, H, W, 3]`` to probabilities float32 ``[N, K]``, with the weights inside."""


def onnx_program(score: Score, clip_shape: Sequence[int]) -> bytes:
    """Return a function of clips as an ONNX program, which was compared with it.

    Arrays that bfloat16 holds exactly, as those that were rounded to it, take half of the space.

    Args:
      score: the network.
      clip_shape: ``(T, H, W, 3)``.

    Returns:
      A serialised model with the input ``clips``, uint8 ``[batch, T, H, W, 3]``, and the output ``probabilities``,
      float32 ``[batch, K]``.

    Raises:
      ConfigError: where the converter is not installed or does not know an operator of the network, and where the
        program does not run in onnxruntime, or differs from the network by more than :data:`TOLERANCE`.
    """
    (batch,) = export.symbolic_shape("batch")
    clips = jax.ShapeDtypeStruct((batch, *clip_shape), jnp.uint8)
    program = jax.make_jaxpr(score)(clips)
    model = _converted(_simplified(program), clips)
    _name_ends(model)
    _multiply(model)
    _store_rounded(model)
    content = model.SerializeToString()
    check_program(content, score, clip_shape)
    return content


def _converted(score: Callable[..., Any], clips: jax.ShapeDtypeStruct) -> Any:
    """Convert a function of clips; raises ConfigError where that cannot be."""
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it tells of each value whose type it does not write
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # some of its operators print
        warnings.simplefilter("ignore")  # it leaves operators out whose modules warn where warnings are errors
        try:
            import jax2onnx
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"ONNX needs jax2onnx and onnxruntime ({error}); {INSTALL}") from error
        try:
            return jax2onnx.to_onnx(score, [clips], model_name="dnr", opset=OPSET)
        except Exception as error:  # the converter's own, of any class
            raise ConfigError(
                f"jax2onnx cannot convert this network: {error}. --forms jax writes network.jax_export alone, which "
                "needs no conversion"
            ) from error


def _name_ends(model: Any) -> None:
    """Call the input ``clips`` and the output ``probabilities``."""
    graph = model.graph
    names = {graph.input[0].name: "clips", graph.output[0].name: "probabilities"}
    graph.input[0].name, graph.output[0].name = names.values()
    for node in graph.node:
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.get(name, name)


def _multiply(model: Any) -> None:
    """Say products of last axes with a matrix as ``MatMul``, which more runtimes know than ``Einsum``."""
    for node in model.graph.node:
        if node.op_type == "Einsum" and _MATRIX_PRODUCT.fullmatch(node.attribute[0].s.decode()):
            node.op_type = "MatMul"
            del node.attribute[:]


def _store_rounded(model: Any) -> None:
    """Store large arrays that bfloat16 holds exactly as bfloat16, and widen them before anything else is computed."""
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < _LARGE:
            continue
        wide = onnx.numpy_helper.to_array(tensor)
        narrow = wide.astype(ml_dtypes.bfloat16)
        if np.array_equal(narrow.astype(np.float32), wide):
            name, stored = tensor.name, f"{tensor.name}_bfloat16"
            kind = onnx.TensorProto.BFLOAT16
            tensor.CopyFrom(onnx.helper.make_tensor(stored, kind, wide.shape, narrow.tobytes(), raw=True))
            casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def check_program(program: bytes, score: Score, clip_shape: Sequence[int]) -> float:
    """Return how far an ONNX program's probabilities are from those of the function that it was made of, at most.

    Batches of one and of three clips of noise are scored by both.

    Raises:
      ConfigError: where that is more than :data:`TOLERANCE`, or onnxruntime does not run the program.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
        largest = difference(lambda clips: session.run(None, {"clips": clips})[0], score, clip_shape)
    except Exception as error:  # onnxruntime's errors have no common class but this one
        raise ConfigError(f"onnxruntime does not run the converted network: {error}") from error
    return tolerated(largest)


def difference(run: Callable[[np.ndarray], np.ndarray], score: Score, clip_shape: Sequence[int]) -> float:
    """Return how far a program's probabilities are from those of a function, at most, of one clip and three of noise.

    Args:
      run: the program, from clips uint8 ``[N, T, H, W, 3]`` to float32 ``[N, K]``; what it raises is passed on.
      score: the function.
      clip_shape: ``(T, H, W, 3)``.
    """
    rng, scored = np.random.default_rng(0), jax.jit(score)
    batches = [rng.integers(0, 256, (size, *clip_shape), np.uint8) for size in (1, 3)]
    return float(np.max([np.max(np.abs(run(clips) - np.asarray(scored(clips)))) for clips in batches]))


def tolerated(largest: float) -> float:
    """Return a difference of probabilities; raises ConfigError where it is above :data:`TOLERANCE`, or not finite."""
    if not largest <= TOLERANCE:
        raise ConfigError(f"the converted network differs from this one by {largest:.1e}; expected at most {TOLERANCE}")
    return largest


def _simplified(program: core.ClosedJaxpr) -> Callable[..., list[jax.Array]]:
    """Return a program as a function of operators that the converter and the runtimes know.

    Runtimes of ONNX pool over three axes at most, and the converter counts all axes of an array as pooled ones: here
    two are pooled at a time, of three. Scans, those of relays over a few groups of frames, are written out. What is
    padded is put together, because the converter pads no array with an axis of any size, such as the batch. What is
    convolved over one axis gets a second one, because the converter knows no other.
    """
    return lambda *arguments: _evaluate(program.jaxpr, program.consts, arguments)


def _evaluate(jaxpr: core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Evaluate a program equation by equation, those of called programs among them."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        given, name = [read(atom) for atom in equation.invars], equation.primitive.name
        if name in _INLINED:
            called = equation.params[_INLINED[name]]
            body, consts = (called.jaxpr, called.consts) if isinstance(called, core.ClosedJaxpr) else (called, ())
            results = _evaluate(body, consts, given)
        elif name == "scan":
            results = _written_out(given, equation.params)
        elif name == "pad":
            results = [_pad(given[0], given[1], equation.params["padding_config"])]
        elif name == "conv_general_dilated" and given[0].ndim == 3:
            results = [_convolve(given[0], given[1], equation.params)]
        elif name in _POOLS:
            results = [_pool(given[0], name, equation.params)]
        else:
            results = _apply(equation, given)
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _pad(x: jax.Array, value: jax.Array, edges: Sequence[tuple[int, int, int]]) -> jax.Array:
    """Put elements of one value around an array, or take some of its own away where an edge is negative."""
    for axis, (low, high, between) in enumerate(edges):
        if between:
            raise NotImplementedError("'pad' between the elements of an array")
        if low < 0 or high < 0:
            x = jax.lax.slice_in_dim(x, max(-low, 0), x.shape[axis] - max(-high, 0), axis=axis)
        sides = [
            [jax.lax.broadcast(value, (*x.shape[:axis], size, *x.shape[axis + 1 :]))] if size > 0 else []
            for size in (low, high)
        ]
        if low > 0 or high > 0:
            x = jax.lax.concatenate([*sides[0], x, *sides[1]], axis)
    return x


def _convolve(x: jax.Array, kernel: jax.Array, params: dict[str, Any]) -> jax.Array:
    """Convolve over one axis, as over two of which the second has one element."""
    (n, c, w), (o, i, k), result = params["dimension_numbers"]
    y = jax.lax.conv_general_dilated(
        jnp.transpose(x, (n, w, c))[:, :, None],
        jnp.transpose(kernel, (k, i, o))[:, None],
        window_strides=(*params["window_strides"], 1),
        padding=(*params["padding"], (0, 0)),
        lhs_dilation=(*params["lhs_dilation"], 1),
        rhs_dilation=(*params["rhs_dilation"], 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=params["feature_group_count"],
        batch_group_count=params["batch_group_count"],
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    places = {result[0]: 0, result[1]: 2, result[2]: 1}
    return jnp.transpose(y[:, :, 0], [places[axis] for axis in range(3)])


def _written_out(given: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Evaluate a scan step by step."""
    body, length = params["jaxpr"], params["length"]
    first, second = params["num_consts"], params["num_consts"] + params["num_carry"]
    constants, carry, scanned = given[:first], given[first:second], given[second:]
    steps = reversed(range(length)) if params["reverse"] else range(length)
    stacked: dict[int, list[Any]] = {}
    for i in steps:
        taken = [jax.lax.index_in_dim(x, i, keepdims=False) for x in scanned]
        results = _evaluate(body.jaxpr, body.consts, [*constants, *carry, *taken])
        carry, stacked[i] = results[: len(carry)], results[len(carry) :]
    rows = zip(*(stacked[i] for i in range(length)), strict=True)
    return [*carry, *(jax.lax.concatenate([jax.lax.expand_dims(y, (0,)) for y in row], 0) for row in rows)]


def _apply(equation: Any, given: Sequence[Any]) -> list[Any]:
    """Apply the primitive of one equation."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # before and since JAX 0.10
    results = equation.primitive.bind(*functions, *given, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _pool(x: jax.Array, name: str, params: dict[str, Any]) -> jax.Array:
    """Pool over windows, two axes at a time: a maximum over rows of maxima is one over all, and so is a sum."""
    sizes, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    if math.prod(params["base_dilation"]) * math.prod(params["window_dilation"]) != 1:
        raise NotImplementedError(f"{name} with a dilation")
    pooled = [axis for axis, window in enumerate(zip(sizes, strides, padding, strict=True)) if window != (1, 1, (0, 0))]
    start = -jnp.inf if name == "reduce_window_max" else 0.0
    for first in range(0, len(pooled), 2):
        axes = pooled[first : first + 2]
        front = [axis for axis in range(x.ndim) if axis not in axes]
        moved = jnp.transpose(x, [*front, *axes])
        flat = moved.reshape(-1, *moved.shape[len(front) :])
        window, stride, pad = ([part[axis] for axis in axes] for part in (sizes, strides, padding))
        initial, sides = np.asarray(start, x.dtype), ((0, 0), *pad)
        y = jax.lax.reduce_window(flat, initial, _POOLS[name], (1, *window), (1, *stride), sides)
        y = y.reshape(*moved.shape[: len(front)], *y.shape[1:])
        x = jnp.transpose(y, np.argsort([*front, *axes]).tolist())
    return x
