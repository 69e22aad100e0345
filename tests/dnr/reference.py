"""DNR written down literally: one group, one frame, one norm at a time.

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
    """Compare two trees of float64 arrays."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)

    def compare(path, a, b):
        assert a.dtype == b.dtype == np.float64, (path, a.dtype, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, found, expected)


def variables_like(template, seed: int):
    """Fill shapes with float64 numbers far from any initial value: variances in (0.5, 1.5), the rest normal."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if path[-1].key == "var":
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape))
        return jnp.asarray(rng.normal(0.0, 0.5, leaf.shape))

    return jax.tree_util.tree_map_with_path(fill, template)


def linear(params, x):
    return x @ params["kernel"] + params["bias"][None]


def bottleneck(params, x):
    return linear(params["expand"], jnp.maximum(linear(params["squeeze"], x), 0))


def lstm(params, state, x):
    """One bottleneck LSTM, Equations 3 to 6: ``x`` is ``[N, C]``, the state ``(h, c)``."""
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


def zero_state(params, n, size):
    return [(jnp.zeros((n, size)), jnp.zeros((n, size))) for _ in params]


def cell(params, state, x):
    """LSTMs stacked as a stacked LSTM is; returns the new state, the scale and the shift."""
    new_state = []
    for i in range(len(params)):
        h, c = lstm(params[f"layer_{i}"], state[i], x)
        new_state.append((h, c))
        x = h
    return new_state, h, c


def pool(x):
    """Mean over all frames and pixels: ``[N, ..., C]`` to ``[N, C]``."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))


def standardize(x, stats, *, train, clips_per_statistics=0, momentum=0.9, epsilon=1e-5):
    """Equation 1 for features that share statistics, one set of clips at a time; returns the new running statistics."""
    if not train:
        return (x - like(stats["mean"], x)) / jnp.sqrt(like(stats["var"], x) + epsilon), stats
    clips = clips_per_statistics or x.shape[0]
    standardized, means, variances = [], [], []
    for first in range(0, x.shape[0], clips):
        members = x[first : first + clips].reshape(-1, x.shape[-1])
        mean = jnp.mean(members, axis=0)
        squares = jnp.sum((members - mean[None]) ** 2, axis=0)
        variance = squares / len(members)
        means.append(mean)
        variances.append(squares / (len(members) - 1))
        part = x[first : first + clips]
        standardized.append((part - like(mean, part)) / jnp.sqrt(like(variance, part) + epsilon))
    new_stats = {
        "mean": momentum * stats["mean"] + (1 - momentum) * sum(means) / len(means),
        "var": momentum * stats["var"] + (1 - momentum) * sum(variances) / len(variances),
    }
    return jnp.concatenate(standardized), new_stats


def like(vector, x):
    """A vector of channels ``[C]`` or ``[N, C]``, spread over features ``[N, ..., C]``."""
    rows = vector[None] if vector.ndim == 1 else vector
    return rows.reshape(rows.shape[0], *(1,) * (x.ndim - 2), rows.shape[1])


def batch_norm(params, stats, x, **standardization):
    """torch's BatchNorm over clips, frames and pixels."""
    x, stats = standardize(x, stats, **standardization)
    return x * like(params["scale"], x) + like(params["bias"], x), stats


def cross_layer(params, stats, state, x, **standardization):
    """Cross-layer DNR: one scale and shift a clip; ``state`` is what the layer before left, or None."""
    if state is None:
        state = zero_state(params, x.shape[0], x.shape[-1])
    state, scale, shift = cell(params, state, pool(x))
    x, stats = standardize(x, stats, **standardization)
    return state, x * like(scale, x) + like(shift, x), stats


def cross_temporal(params, stats, x, *, groups, granularity, statistics, **standardization):
    """Cross-temporal DNR: one scale and shift a group, or a frame, of each clip."""
    params = params["relay"]
    num_frames = x.shape[1]
    distance = num_frames // groups
    scales, shifts = [], []  # one a frame
    if granularity == "group":
        state = zero_state(params, x.shape[0], x.shape[-1])
        for g in range(groups):
            state, scale, shift = cell(params, state, pool(x[:, g * distance : (g + 1) * distance]))
            scales += [scale] * distance
            shifts += [shift] * distance
    else:
        states = {t: zero_state(params, x.shape[0], x.shape[-1]) for t in range(-distance, 0)}
        for t in range(num_frames):
            states[t], scale, shift = cell(params, states[t - distance], pool(x[:, t : t + 1]))
            scales.append(scale)
            shifts.append(shift)
    if statistics == "group":
        parts = []
        for g in range(groups):
            part, stats = standardize(x[:, g * distance : (g + 1) * distance], stats, **standardization)
            parts.append(part)
        x = jnp.concatenate(parts, axis=1)
    else:
        x, stats = standardize(x, stats, **standardization)
    frames = [x[:, t] * like(scales[t], x[:, t]) + like(shifts[t], x[:, t]) for t in range(num_frames)]
    return jnp.stack(frames, axis=1), stats


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
