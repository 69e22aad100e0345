"""Pure functions of arrays that the normalisation layers are built of.

Shapes: ``N`` clips, ``T`` frames, ``*S`` spatial axes (``H, W``), ``C`` channels, ``G`` frame groups, ``F`` runs of
consecutive frames (groups, single frames or the whole clip), ``R`` sets of clips that share statistics. Sums are taken
in float32, or in float64 where the features are float64.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnr_jax.dnr.aliases import Carry, Dtype, Features

State = tuple[Float[Array, "*b c"], Float[Array, "*b c"]]
"""``(h, c)`` of a relay, each ``[..., C]``: scale and shift."""
Gates = dict[str, jax.Array]
"""What the gates of a relay let through, each ``[..., C]``, by name."""


MeanVariance = tuple[Float[Array, "n f c"], Float[Array, "n f c"]]


class Affine(NamedTuple):
    """``x * scale + offset``, each ``[N or 1, F, C]``: one pair a channel for each of ``F`` runs of frames."""

    scale: Float[Array, "n f c"]
    offset: Float[Array, "n f c"]


class Moments(NamedTuple):
    """First and second moment of features: mean of ``x`` and of ``x * x``, both of one shape."""

    mean: Float[Array, "*m c"]
    mean_square: Float[Array, "*m c"]

    @property
    def variance(self) -> jax.Array:
        """Biased variance; clipped at 0, where rounding would make it negative."""
        return jnp.maximum(self.mean_square - jnp.square(self.mean), 0)


def statistics_dtype(dtype: Dtype) -> jnp.dtype:
    """Return the dtype in which statistics of features of ``dtype`` are kept: float32 or wider.

    Raises:
      TypeError: where ``dtype`` is not a floating-point type.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"features must be floating point, got {dtype}: normalise the pixels first")
    return jnp.dtype(dtype) if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def check_axes(x: jax.Array) -> None:
    """Raise ValueError unless ``x`` has at least the axes of clips, frames and channels, ``[N, T, *S, C]``."""
    if x.ndim < 3:
        raise ValueError(
            f"features must be [N, T, *S, C] (clips, frames, spatial axes, channels), got {x.ndim} axes: {x.shape}; "
            "x[:, None] makes each entry a clip of one frame"
        )


def frame_moments(x: Features) -> Moments:
    """Reduce features to the moments of each frame, the one time that the features are read.

    Every statistic and every descriptor of this package is a mean of these.

    Args:
      x: features ``[N, T, *S, C]``.

    Returns:
      Moments ``[N, T, C]`` over the spatial axes.

    Raises:
      TypeError: for features that are not floating point.
      ValueError: for features without an axis of clips or of frames.
    """
    check_axes(x)
    wide = x.astype(statistics_dtype(x.dtype))
    axes = tuple(range(2, x.ndim - 1))
    return Moments(jnp.mean(wide, axes), jnp.mean(jnp.square(wide), axes))


def place_like(x: jax.Array, batch: jax.Array | None) -> jax.Array:
    """Cut ``x`` along its first axis as ``batch`` is, or copy it to all devices for None, where a mesh is explicit.

    On meshes with automatic axes, and without a mesh, the compiler places arrays and nothing is done.
    """
    axes = jax.sharding.get_abstract_mesh()
    if axes.empty or not axes.explicit_axes:
        return x
    first = None if batch is None else jax.typeof(batch).sharding.spec[0]
    return jax.sharding.reshard(x, jax.sharding.PartitionSpec(first, *(None,) * (x.ndim - 1)))


def vary_like(x: jax.Array, batch: jax.Array) -> jax.Array:
    """Let ``x`` vary over the axes of a ``jax.shard_map`` as ``batch`` does; elsewhere the compiler drops the sum.

    What a scan hands on has to vary over the same axes from the first step on, and a start that is made of no data
    varies over none. Zeros made of data vary as the data do, which holds in every release of JAX.

    Args:
      x: ``[N, *M, C]``.
      batch: ``[N, *M, C']``, whose values do not count, and which gets no gradient.
    """
    return x + jnp.zeros_like(jax.lax.stop_gradient(batch[..., :1])).astype(x.dtype)


def check_groups(num_frames: int, num_groups: int) -> None:
    """Raise ValueError unless ``num_frames`` can be cut into ``num_groups`` equal groups of consecutive frames."""
    if num_groups < 1 or num_frames % num_groups:
        raise ValueError(
            f"{num_frames} frames cannot be cut into {num_groups} equal groups: "
            "choose a number of groups (or a relay distance) that divides the number of frames"
        )


def group_frames(per_frame: Float[Array, "n t c"], num_groups: int) -> Float[Array, "n {num_groups} m c"]:
    """Cut the frame axis into groups of consecutive frames: ``[N, T, C]`` to ``[N, G, T / G, C]``."""
    n, t, c = per_frame.shape
    check_groups(t, num_groups)
    return per_frame.reshape(n, num_groups, t // num_groups, c)


def batch_moments(moments: Moments, num_groups: int = 1, clips_per_statistics: int = 0) -> Moments:
    """Pool the moments of frames over clips and over the frames of a group.

    Args:
      moments: moments of frames ``[N, T, C]``.
      num_groups: frame groups with statistics of their own, ``G``.
      clips_per_statistics: consecutive clips that share statistics; 0 means all of them. This is the batch size per
        device of the paper's Table 3, as a property of the computation and not of the device layout.

    Returns:
      Moments ``[R, G, C]``, ``R = N / clips_per_statistics``.

    Raises:
      ValueError: where the clips or the frames do not divide.
    """
    n = moments.mean.shape[0]
    clips = clips_per_statistics or n
    if n % clips:
        raise ValueError(f"clips_per_statistics={clips} does not divide the batch of {n} clips")

    def pool(m: jax.Array) -> jax.Array:
        grouped = group_frames(m, num_groups)
        if clips == n:
            return jnp.mean(grouped, axis=(0, 2))[None]
        # Sets of clips may lie across devices; on a mesh with explicit axes that takes gathering these small arrays.
        gathered = place_like(grouped, None)
        return jnp.mean(gathered.reshape(n // clips, clips, *grouped.shape[1:]), axis=(1, 3))

    return Moments(pool(moments.mean), pool(moments.mean_square))


def across_axis(moments: Moments, axis_name: str | tuple[str, ...]) -> tuple[Moments, int]:
    """Average moments over a named axis of ``jax.pmap`` or ``jax.shard_map``.

    Where no axis is mapped, arrays are those of all devices already, and nothing is done.

    Returns:
      The moments, and the size of the axis.

    Raises:
      ValueError: inside a map whose axes have other names.
    """
    try:
        size = jax.lax.axis_size(axis_name)
    except NameError:
        if mapped := _mapped_axes():
            raise ValueError(f"axis_name: is {axis_name!r}; expected one of {', '.join(mapped)}") from None
        return moments, 1
    return jax.tree.map(lambda moment: jax.lax.pmean(moment, axis_name), moments), size


def _mapped_axes() -> tuple[str, ...]:
    if jax.__version_info__ < (0, 8):  # whose pmap has no mesh, and tells its axis here alone
        return tuple(jax.core.unsafe_get_axis_names_DO_NOT_USE())
    return jax.sharding.get_abstract_mesh().manual_axes


def instance_moments(moments: Moments, num_runs: int = 1, num_groups: int = 0) -> Moments:
    """Pool the moments of frames within each clip: over the frames of a run and over groups of channels.

    The statistics of instance normalisation (a group per channel), group normalisation and layer normalisation (one
    group).

    Args:
      moments: moments of frames ``[N, T, C]``.
      num_runs: runs of consecutive frames with statistics of their own, ``F``.
      num_groups: groups of consecutive channels; 0 means that each channel is a group.

    Returns:
      Moments ``[N, F, C]``, equal for the channels of a group.

    Raises:
      ValueError: where the frames or the channels do not divide.
    """
    channels = moments.mean.shape[-1]
    groups = num_groups or channels
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be cut into {groups} equal groups")

    def pool(m: jax.Array) -> jax.Array:
        runs = jnp.mean(group_frames(m, num_runs), axis=2)
        if groups == channels:
            return runs
        grouped = runs.reshape(*runs.shape[:2], groups, channels // groups)
        return jnp.broadcast_to(jnp.mean(grouped, axis=-1, keepdims=True), grouped.shape).reshape(runs.shape)

    return Moments(pool(moments.mean), pool(moments.mean_square))


def updated_average(
    average: Float[Array, " c"], observed: Float[Array, "r g c"], momentum: float
) -> Float[Array, " c"]:
    """Fold observations, in the order of the groups, into an exponential moving average.

    One update per group, as the authors' code does it one after the other, in closed form:
    ``m**G * average + (1 - m) * sum_g m**(G - 1 - g) * observed[g]``. The sets of clips are averaged.

    Args:
      average: running average ``[C]``.
      observed: ``[R, G, C]``.
      momentum: share of the old value kept at each update (Flax's convention; torch's momentum is ``1 - momentum``).

    Returns:
      The new average ``[C]``, in float32 or wider also where the old one, of somebody's older weights, is narrower.
    """
    average = average.astype(statistics_dtype(average.dtype))
    groups = observed.shape[1]
    weights = (1 - momentum) * momentum ** jnp.arange(groups - 1, -1, -1, dtype=average.dtype)
    return momentum**groups * average + weights @ jnp.mean(observed, axis=0).astype(average.dtype)


def unbiased(variance: Float[Array, "*m"], count: int) -> Float[Array, "*m"]:
    """Bessel-corrected variance of ``count`` values, which is what torch keeps as the running variance."""
    return variance * (count / max(count - 1, 1))


def standardization(moments: Moments | MeanVariance, epsilon: float) -> Affine:
    """Write standardisation (Equation 1) as a multiply-add.

    Args:
      moments: :class:`Moments`, or mean and variance, ``[N or 1, F, C]``.
      epsilon: added to the variance.

    Returns:
      ``1 / sigma`` and ``-mu / sigma``.
    """
    mean, variance = (moments.mean, moments.variance) if isinstance(moments, Moments) else moments
    inverse = jax.lax.rsqrt(variance + epsilon)
    return Affine(inverse, -mean * inverse)


def standardize_positions(x: Features, num_groups: int, epsilon: float) -> Features:
    """Standardise each position of each frame with the statistics of its own channels.

    Layer normalisation as transformers have it, with one group; group normalisation of single positions otherwise.

    Args:
      x: features ``[N, T, *S, C]``.
      num_groups: groups of consecutive channels with statistics of their own.
      epsilon: added to the variance.

    Returns:
      Features of the shape of ``x``, in float32 or wider.
    """
    wide = x.astype(statistics_dtype(x.dtype)).reshape(*x.shape[:-1], num_groups, -1)
    moments = Moments(jnp.mean(wide, -1, keepdims=True), jnp.mean(jnp.square(wide), -1, keepdims=True))
    return ((wide - moments.mean) * jax.lax.rsqrt(moments.variance + epsilon)).reshape(x.shape)


def spread_runs(v: Float[Array, "n f c"], num_runs: int) -> Float[Array, "n g c"]:
    """Repeat factors ``[N or 1, F, C]`` of runs of frames for ``num_runs`` shorter ones; one is left to broadcast."""
    return v if v.shape[1] in (1, num_runs) else jnp.repeat(v, num_runs // v.shape[1], axis=1)


def transform(standardized: Affine, scale: Float[Array, "n f c"], shift: Float[Array, "n f c"]) -> Affine:
    """Put the linear transform (Equation 2) on top of a standardisation: one multiply-add for both.

    Args:
      standardized: the standardisation, for ``F`` runs of frames.
      scale: gamma ``[N or 1, F', C]``; the longer of ``F`` and ``F'`` is a multiple of the other.
      shift: beta, likewise.
    """
    runs = max(standardized.scale.shape[1], scale.shape[1])
    inverse, offset, scale, shift = (spread_runs(v, runs) for v in (*standardized, scale, shift))
    return Affine(scale * inverse, scale * offset + shift)


def modulate(x: Features, affine: Affine, dtype: Dtype | None = None) -> Features:
    """Write ``x * scale + offset``: one fused multiply-add over the features.

    Args:
      x: features ``[N, T, *S, C]``.
      affine: for 1, or as many runs of frames as divide ``T``.
      dtype: of the result; None: that of ``x``.

    Returns:
      Features of the shape of ``x``; the arithmetic is done in the dtype of ``affine``.
    """

    def per_frame(v: jax.Array) -> jax.Array:
        return jnp.expand_dims(spread_runs(v, x.shape[1]), range(2, x.ndim - 1))

    return (x.astype(affine.scale.dtype) * per_frame(affine.scale) + per_frame(affine.offset)).astype(dtype or x.dtype)


def lstm_step(gates: Float[Array, "*b _"], c: Float[Array, "*b c"]) -> tuple[State, Gates]:
    """Advance a bottleneck LSTM by one step (Equations 3 to 5).

    Args:
      gates: input, forget, candidate and output before their activations, ``[..., 4 * C]``.
      c: cell state ``[..., C]``.

    Returns:
      The new state, and the gates after their activations.
    """
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * c + i * g
    return (o * jax.nn.sigmoid(c), c), {"input": i, "forget": f, "candidate": g, "output": o}


def unrelayed_step(gates: Float[Array, "*b _"]) -> tuple[State, Gates]:
    """Return the state of an LSTM that starts from nothing, and has no forget gate: there would be nothing to forget.

    Args:
      gates: input, candidate and output before their activations, ``[..., 3 * C]``.

    Returns:
      The state, and the gates after their activations.
    """
    i, g, o = jnp.split(gates, 3, axis=-1)
    i, g, o = jax.nn.sigmoid(i), jnp.tanh(g), jax.nn.sigmoid(o)
    c = i * g
    return (o * jax.nn.sigmoid(c), c), {"input": i, "candidate": g, "output": o}


def excite(units: Float[Array, "*b _"]) -> State:
    """Map ``[..., 2 * C]`` to a scale in (0, 1) and a shift in (-1, 1), the ranges of the LSTM's first step."""
    u, v = jnp.split(units, 2, axis=-1)
    return jax.nn.sigmoid(u), jnp.tanh(v)


def fit_channels(state: Carry, start: Carry) -> Carry:
    """Return a relay's state with the channels of another: further ones are those of ``start``, surplus ones are left.

    Args:
      state: tree of arrays ``[..., C]``; those without an axis, of cells of one's own, stay as they are.
      start: tree of the same structure, of arrays ``[..., C']``: the state that a chain starts from.

    Returns:
      Tree of arrays ``[..., C']`` in the dtypes of ``state``.
    """

    def fit(old: jax.Array, new: jax.Array) -> jax.Array:
        if not new.ndim:
            return old
        kept = old[..., : new.shape[-1]]
        return jnp.concatenate([kept, new[..., kept.shape[-1] :].astype(old.dtype)], axis=-1)

    return jax.tree.map(fit, state, start)


def interlace(x: Features, fraction: float = 0.125) -> Features:
    """Exchange channels between neighbouring frames (Section 3.3, after the Temporal Shift Module).

    The first ``fraction`` of the channels is taken from the next frame, the second from the one before, the others
    stay; beyond the ends of the clip are zeros. Equals MMAction2's ``TemporalShift.shift`` with
    ``shift_div = 1 / fraction``.

    Args:
      x: features ``[N, T, *S, C]``.
      fraction: between 0 and 0.5.

    Raises:
      ValueError: for another fraction, or features without an axis of clips or of frames.
    """
    check_axes(x)
    if not 0 <= fraction <= 0.5:
        raise ValueError(f"interlace fraction must be between 0 and 0.5, got {fraction}")
    fold = int(round(x.shape[-1] * fraction, 6))  # 200 * 0.29 is a little less than 58
    if not fold:
        return x
    edge = jnp.zeros_like(x[:, :1, ..., :fold])
    from_next = jnp.concatenate([x[:, 1:, ..., :fold], edge], axis=1)
    from_previous = jnp.concatenate([edge, x[:, :-1, ..., fold : 2 * fold]], axis=1)
    return jnp.concatenate([from_next, from_previous, x[..., 2 * fold :]], axis=-1)
