"""DNR and what it is compared with, written down literally: one group, one frame, one norm at a time.

The second oracle, beside the golden files. It is slow and plain on purpose, shares no code with the package, and knows
of it the names of the variables only: a norm's parameters and running statistics are read as the package stores them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Without LLVM's optimisations small programs that run once compile in half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def assert_close(found, expected) -> None:
    """Compare two trees of float64 arrays, and of counts."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)

    def compare(path, a, b):
        assert a.dtype == b.dtype and a.dtype in (np.float64, np.int32), (path, a.dtype, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, found, expected)


def variables_like(template, seed: int):
    """Fill shapes with numbers far from any initial value: variances in (0.5, 1.5), counts 4, the rest normal."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if path[-1].key == "step":
            return jnp.asarray(4, jnp.int32)
        if path[-1].key == "var":
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape))
        return jnp.asarray(rng.normal(0.0, 0.5, leaf.shape))

    return jax.tree_util.tree_map_with_path(fill, template)


def linear(params, x):
    y = x @ params["kernel"]
    return y + params["bias"][None] if "bias" in params else y


# Relay cells: a step maps the state (h, c) and the descriptor x, all [N, C], to the new (h, c).


def bottleneck(params, x):
    return linear(params["expand"], jnp.maximum(linear(params["squeeze"], x), 0))


def lstm(params, state, x):
    """Bottleneck LSTM, Equations 3 to 6."""
    h, c = state
    size = x.shape[1]
    gates = bottleneck(params["input"], x) + bottleneck(params["hidden"], h)
    input_gate = jax.nn.sigmoid(gates[:, :size])
    forget_gate = jax.nn.sigmoid(gates[:, size : 2 * size])
    candidate = jnp.tanh(gates[:, 2 * size : 3 * size])
    output_gate = jax.nn.sigmoid(gates[:, 3 * size :])
    c = forget_gate * c + input_gate * candidate
    h = output_gate * jax.nn.sigmoid(c)
    return h, c


def unrelayed(params, state, x):
    """The same without a state: nothing to forget, nothing from before."""
    size = x.shape[1]
    gates = bottleneck(params["input"], x)
    c = jax.nn.sigmoid(gates[:, :size]) * jnp.tanh(gates[:, size : 2 * size])
    return jax.nn.sigmoid(gates[:, 2 * size :]) * jax.nn.sigmoid(c), c


def squeeze_and_excitation(params, state, x):
    """Two layers on descriptor and state side by side, the first with all the weights in one matrix."""
    weights = jnp.concatenate([params["squeeze_input"]["kernel"], params["squeeze_state"]["kernel"]])
    joined = jnp.concatenate([x, *state], axis=1)
    hidden = jnp.maximum(joined @ weights + params["squeeze_input"]["bias"][None], 0)
    units = linear(params["expand"], hidden)
    return jax.nn.sigmoid(units[:, : x.shape[1]]), jnp.tanh(units[:, x.shape[1] :])


def fully_connected(params, state, x):
    """One layer on descriptor and state side by side."""
    weights = jnp.concatenate([params["input"]["kernel"], params["state"]["kernel"]])
    units = jnp.concatenate([x, *state], axis=1) @ weights + params["input"]["bias"][None]
    return jax.nn.sigmoid(units[:, : x.shape[1]]), jnp.tanh(units[:, x.shape[1] :])


RELAYS = {"lstm": lstm, "none": unrelayed, "se": squeeze_and_excitation, "fc": fully_connected}


def layers(params):
    return [params[f"layer_{i}"] for i in range(sum(name.startswith("layer_") for name in params))]


def start(params, n, size):
    """State of each layer before the first step: zeros, or the learned one for every clip."""
    if "initial_state" not in params:
        return [(jnp.zeros((n, size)), jnp.zeros((n, size))) for _ in layers(params)]
    return [tuple(jnp.stack([vector] * n) for vector in pair) for pair in params["initial_state"]]


def cell(params, state, x, relay="lstm"):
    """Layers stacked as a stacked LSTM is; returns the new state, the scale and the shift."""
    new_state = []
    for layer, previous in zip(layers(params), state, strict=True):
        h, c = RELAYS[relay](layer, previous, x)
        new_state.append((h, c))
        x = h
    return new_state, h, c


# Standardisation, for one run of frames at a time: x is [N, L, *S, C].


def pool(x):
    """Mean over all frames and pixels: ``[N, ..., C]`` to ``[N, C]``."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))


def like(vector, x):
    """A vector of channels ``[C]`` or ``[N, C]``, spread over features ``[N, ..., C]``."""
    rows = vector[None] if vector.ndim == 1 else vector
    return rows.reshape(rows.shape[0], *(1,) * (x.ndim - 2), rows.shape[1])


def clip_statistics(x, groups):
    """Mean and squared deviations of each clip's groups of channels, ``[N, groups]``, and the number of values."""
    values = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = jnp.mean(values, axis=(1, 3))
    squares = jnp.sum((values - mean[:, None, :, None]) ** 2, axis=(1, 3))
    return mean, squares, values.shape[1] * values.shape[3]


def set_statistics(x, clips):
    """Mean and squared deviations of each set of consecutive clips, ``[R, C]``, and the number of values."""
    values = x.reshape(x.shape[0] // clips, -1, x.shape[-1])
    mean = jnp.mean(values, axis=1)
    return mean, jnp.sum((values - mean[:, None]) ** 2, axis=1), values.shape[1]


def softmax(x):
    return jnp.exp(x) / jnp.sum(jnp.exp(x))


def switched(params, x, mean, variance):
    """Switchable normalisation: a mixture of the statistics of instance, layer and batch."""
    channels = x.shape[-1]
    instance, instance_squares, pixels = clip_statistics(x, channels)
    layer, layer_squares, values = clip_statistics(x, 1)
    for_mean, for_variance = softmax(params["mean_weights"]), softmax(params["var_weights"])
    mean = for_mean[0] * instance + for_mean[1] * jnp.repeat(layer, channels, axis=1) + for_mean[2] * mean
    variance = (
        for_variance[0] * instance_squares / pixels
        + for_variance[1] * jnp.repeat(layer_squares, channels, axis=1) / values
        + for_variance[2] * variance
    )
    return mean, variance


def renorm_limits(step, limits, steps):
    """Bounds of ``r`` and ``d`` at a training step: 1 and 0 until the start, then growing linearly until their ends."""
    start, r_end, d_end = steps
    r_max = 1 if step < start else 1 + (limits[0] - 1) * min((step - start) / (r_end - start), 1)
    d_max = 0 if step < start else limits[1] * min((step - start) / (d_end - start), 1)
    return r_max, d_max


def standardize(
    params,
    stats,
    x,
    *,
    train,
    base="bn",
    runs=1,
    positions=False,
    channel_groups=1,
    clips=0,
    momentum=0.9,
    epsilon=1e-5,
    limits=(3.0, 5.0),
    steps=(5_000, 40_000, 25_000),
):
    """Equation 1, one run of frames after the other; returns the new running statistics as well."""
    if positions:
        groups = {"gn": channel_groups, "ln": 1}[base]
        parts = jnp.split(x, groups, axis=-1)
        standardized = [
            (part - part.mean(-1, keepdims=True)) / jnp.sqrt(part.var(-1, keepdims=True) + epsilon) for part in parts
        ]
        return jnp.concatenate(standardized, axis=-1), dict(stats)
    length, new_stats, parts = x.shape[1] // runs, dict(stats), []
    clips = clips or x.shape[0]
    for first in range(0, x.shape[1], length):
        part = x[:, first : first + length]
        if base in ("gn", "in", "ln"):
            groups = {"gn": channel_groups, "in": x.shape[-1], "ln": 1}[base]
            mean, squares, count = clip_statistics(part, groups)
            mean, variance = (jnp.repeat(v, x.shape[-1] // groups, axis=1) for v in (mean, squares / count))
        elif train:
            means, squares, count = set_statistics(part, clips)
            unbiased = squares / (count - 1)
            new_stats["mean"] = momentum * new_stats["mean"] + (1 - momentum) * jnp.mean(means, axis=0)
            new_stats["var"] = momentum * new_stats["var"] + (1 - momentum) * jnp.mean(unbiased, axis=0)
            mean, variance = (jnp.repeat(v, clips, axis=0) for v in (means, squares / count))
        else:
            mean, variance = stats["mean"][None], stats["var"][None]
        if base == "sn":
            mean, variance = switched(params, part, mean, variance)
        standardized = (part - like(mean, part)) / jnp.sqrt(like(variance, part) + epsilon)
        if base == "brn" and train:
            r_max, d_max = renorm_limits(int(stats["step"]), limits, steps)
            sigma = jnp.sqrt(stats["var"] + epsilon)[None]
            r = jax.lax.stop_gradient(jnp.clip(jnp.sqrt(variance + epsilon) / sigma, 1 / r_max, r_max))
            d = jax.lax.stop_gradient(jnp.clip((mean - stats["mean"][None]) / sigma, -d_max, d_max))
            standardized = standardized * like(r, part) + like(d, part)
        parts.append(standardized)
    if base == "brn" and train:
        new_stats["step"] = stats["step"] + 1
    return jnp.concatenate(parts, axis=1), new_stats


# What scales and shifts: (params, x) to a list of scales and one of shifts, [N or 1, C] for each frame.


def static(params, x):
    return [params["scale"][None]] * x.shape[1], [params["bias"][None]] * x.shape[1]


def run_of_each_frame(describe, x, runs):
    """What ``describe`` says of each run of frames, for each frame of it: two lists."""
    length = x.shape[1] // runs
    pairs = [describe(x[:, t // length * length : (t // length + 1) * length]) for t in range(x.shape[1])]
    return [scale for scale, _ in pairs], [shift for _, shift in pairs]


def instance_level_meta(params, x, *, runs, key_channels):
    """ILM normalisation: statistics of groups of channels, through an auto-encoder, move a learned scale and shift."""

    def describe(part):
        mean, squares, count = clip_statistics(part, x.shape[-1] // key_channels)

        def decoded(name, key):
            code = jnp.maximum(linear(params["encode"], key), 0)
            return jnp.repeat(linear(params[name], code), key_channels, axis=1)

        scale = jax.nn.sigmoid(decoded("decode_scale", squares / (count - 1))) + params["scale"][None]
        return scale, jnp.tanh(decoded("decode_shift", mean)) + params["bias"][None]

    return run_of_each_frame(describe, x, runs)


def attentive(params, x, *, runs):
    """Attentive normalisation: a mixture of scales and shifts, weighted by ``relu6(z + 3) / 6``."""

    def describe(part):
        mean, squares, count = clip_statistics(part, x.shape[-1])
        z = linear(params["attention"], mean / jnp.sqrt(squares / (count - 1) + 1e-3))
        weights = jnp.clip(z + 3, 0, 6) / 6
        scale = sum(weights[:, k : k + 1] * params["scale"][k][None] for k in range(weights.shape[1]))
        return scale, sum(weights[:, k : k + 1] * params["bias"][k][None] for k in range(weights.shape[1]))

    return run_of_each_frame(describe, x, runs)


def one_direction(params, frames, distance, granularity, relay):
    """Relay along the frames in the order given; a group is as many of them as the distance."""
    n, size = frames[0].shape[0], frames[0].shape[-1]
    scales, shifts = [], []
    if granularity == "group":
        state = start(params, n, size)
        for first in range(0, len(frames), distance):
            state, scale, shift = cell(params, state, pool(jnp.stack(frames[first : first + distance], 1)), relay)
            scales += [scale] * distance
            shifts += [shift] * distance
    else:
        states = {t: start(params, n, size) for t in range(-distance, 0)}
        for t, frame in enumerate(frames):
            states[t], scale, shift = cell(params, states[t - distance], pool(frame), relay)
            scales.append(scale)
            shifts.append(shift)
    return scales, shifts


def cross_temporal(params, x, *, groups, granularity="group", direction="forward", relay="lstm"):
    """Cross-temporal DNR: one scale and shift for each group, or each frame, of each clip."""
    frames = [x[:, t] for t in range(x.shape[1])]
    distance = len(frames) // groups
    scales, shifts = one_direction(params["relay"], frames, distance, granularity, relay)
    if direction == "forward":
        return scales, shifts
    found = one_direction(params["relay_backward"], frames[::-1], distance, granularity, relay)
    backward_scales, backward_shifts = (per_frame[::-1] for per_frame in found)
    return (
        [(a + b) / 2 for a, b in zip(scales, backward_scales, strict=True)],
        [(a + b) / 2 for a, b in zip(shifts, backward_shifts, strict=True)],
    )


def transform(x, scales, shifts):
    """Equation 2, one frame at a time."""
    frames = [x[:, t] * like(scales[t], x[:, t]) + like(shifts[t], x[:, t]) for t in range(x.shape[1])]
    return jnp.stack(frames, axis=1)


def cross_layer(params, states, x, *, relay="lstm", relay_distance=1):
    """Cross-layer DNR: one scale and shift a clip; ``states`` are those of the layers before, the latest last.

    Returns the states with that of this layer, its scale and its shift.
    """
    first = start(params, x.shape[0], x.shape[-1])
    if len(states) < relay_distance:
        states = [first] * relay_distance
    before = states[len(states) - relay_distance]
    before = [tuple(map(refitted, *pair)) for pair in zip(before, first, strict=True)]
    state, scale, shift = cell(params, before, pool(x), relay)
    return [*states, state], scale, shift


def refitted(old, first):
    """The channels of ``first``: each as in ``old``, where that has it."""
    columns = [old[:, c] if c < old.shape[1] else first[:, c] for c in range(first.shape[1])]
    return jnp.stack(columns, axis=1)


def interlace(x, fraction):
    """The Temporal Shift Module's exchange of channels, one frame at a time."""
    fold = int(x.shape[-1] * fraction)
    frames = []
    for t in range(x.shape[1]):
        following = x[:, t + 1] if t + 1 < x.shape[1] else jnp.zeros_like(x[:, t])
        previous = x[:, t - 1] if t > 0 else jnp.zeros_like(x[:, t])
        parts = [following[..., :fold], previous[..., fold : 2 * fold], x[:, t][..., 2 * fold :]]
        frames.append(jnp.concatenate(parts, axis=-1))
    return jnp.stack(frames, axis=1)
