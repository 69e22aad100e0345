"""A start of DNR at the scales and shifts of the batch normalisation that it replaces.

Gates that do not depend on their input give every channel a constant scale ``h`` and shift ``c``. Where a ReLU and a
convolution follow, ``relu(s * z) = s * relu(z)`` for ``s >= 0``: a factor ``s`` of each channel moves into that
convolution, and the scale and shift in front of it, ``s * h`` and ``s * c``, are no longer bound by the relay's limits.
A negative scale changes its sign together with the features, which is the sign of the convolution before. The form of
the network stays as it is.
"""

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dnr_jax.config import ConfigError
from dnr_jax.dnr import BatchNorm, DNRSpec
from dnr_jax.models.blocks import PredictingNorm

SCALE = 0.25
"""Scale of gates at rest, ``sigmoid(0)^2``: the largest of a channel whose factor moves into a convolution."""
SHIFT = 0.5
"""The largest shift of such a channel."""
SCALE_LIMITS = 0.01, 0.9
"""The smallest scale of any channel, and the largest as a share of what the relay can give: shut gates do not learn."""
SHIFT_LIMIT = 0.9
"""The largest shift of any channel."""
FORGET_BIAS = -3.0
"""After the first step the shift grows by at most 5%, to ``1 / (1 - sigmoid(-3))``, and the gate can still open."""
_LAST_MAPS = {
    "lstm": ("input/expand", "hidden/expand"),
    "none": ("input/expand",),
    "se": ("expand",),
    "fc": ("input", "state"),
}
"""The linear maps of a relay's layer that its gates are a sum of; the bias of the first one makes them constant."""


@dataclasses.dataclass(frozen=True, eq=False)
class RelayStart:
    """What starts relays at given scales and shifts.

    Attributes:
      arrays: those that change or are added, by collection and path.
      used: paths of the scales and shifts that went into them.
      summary: what became of these, in a line.
    """

    arrays: Mapping[tuple[str, str], np.ndarray]
    used: tuple[str, ...]
    summary: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Gates:
    """Gates of a relay that do not depend on its input, each ``[C]``.

    Attributes:
      relay: the mechanism.
      added: what a step adds to the shift: in an LSTM the product of the input gate and the candidate.
      output: the scale's share of the sigmoid of the shift: in an LSTM the output gate.
    """

    relay: str
    added: np.ndarray
    output: np.ndarray

    @classmethod
    def giving(cls, relay: str, scale: np.ndarray, shift: np.ndarray, previous: np.ndarray) -> "_Gates":
        """Return the gates that give, as nearly as the limits allow, a scale and shift after the ``previous`` shift."""
        shift = np.clip(shift, -SHIFT_LIMIT, SHIFT_LIMIT)
        least, share = SCALE_LIMITS
        scale = np.clip(scale, least, share * (_sigmoid(shift) if relay in ("lstm", "none") else 1.0))
        return cls(relay, shift - _kept(relay) * previous, scale / _sigmoid(shift))

    def step(self, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scale and the shift after the ``previous`` shift."""
        shift = _kept(self.relay) * previous + self.added
        return self.output * _sigmoid(shift), shift

    @property
    def bias(self) -> np.ndarray:
        """The gates before their nonlinearities, in the order of the relay's layer."""
        if self.relay in ("se", "fc"):
            return np.concatenate([_logit(self.output * _sigmoid(self.added)), np.arctanh(self.added)])
        gate = np.maximum(np.sqrt(np.abs(self.added)), 0.5)  # input gate and candidate have equal shares
        forget = (np.full_like(gate, FORGET_BIAS),) if self.relay == "lstm" else ()
        return np.concatenate([_logit(gate), *forget, np.arctanh(self.added / gate), _logit(self.output)])


def _kept(relay: str) -> float:
    """Return the share of the previous shift that a step keeps."""
    return float(_sigmoid(FORGET_BIAS)) if relay == "lstm" else 0.0


def _sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def _proportion(gammas: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a scale and shift, each ``[C]``, in the proportion that is nearest to those of several norms.

    Total least squares, in closed form: the direction of the major axis of all ``(gamma, beta)``. Its length is such
    that the gates are far from their limits.

    Args:
      gammas: ``[B, C]``, not negative.
      betas: ``[B, C]``.
    """
    angle = np.arctan2(2 * np.sum(gammas * betas, 0), np.sum(gammas**2 - betas**2, 0)) / 2
    scale, shift = np.cos(angle), np.sin(angle)
    length = 1 / np.maximum(scale / SCALE, np.abs(shift) / SHIFT)
    return length * scale, length * shift


def scale_inputs(kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply what a convolution reads by a factor for each channel.

    Args:
      kernel: ``[*K, I / G, O]`` of a convolution in ``G`` groups of channels.
      factors: ``[I]``.
    """
    *size, inputs, outputs = kernel.shape
    groups = len(factors) // inputs
    grouped = kernel.reshape(*size, inputs, groups, outputs // groups)
    return (grouped * factors.reshape(groups, inputs).T[..., None]).reshape(kernel.shape)


def check_start(norm: DNRSpec, allow: Collection[str]) -> None:
    """Raise ConfigError where :func:`start_relays` is no way to start these norms, or the relays may not differ."""
    if not isinstance(norm.base, BatchNorm):
        base = type(norm.base).__name__
        raise ConfigError(f"init.relays: 'batch_norm' needs model.norm.base BatchNorm, and that is {base}")
    if "relays" not in allow:
        raise ConfigError("init.relays: 'batch_norm' needs 'relays' in init.allow, as the source has none")


def start_relays(
    arrays: Mapping[tuple[str, str], np.ndarray],
    replaced: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    norm: DNRSpec,
    places: Sequence[PredictingNorm],
) -> RelayStart:
    """Start the relays of a network at the scales and shifts of a source with batch normalisation.

    The last maps of every cell get zero kernels, as a zero-initialised last layer has, and biases that make its gates
    constant. All other weights of the relay stay as initialised, and the first step of training moves those kernels.

    With a convolution to take the factor, the first group of frames is exact where the norm has a cell of its own, in
    training and in evaluation; later groups have a shift that is up to 5% larger. Blocks that share a cross-layer cell
    share the proportion of shift to scale. Without such a convolution both are clipped to the relay's limits.

    Args:
      arrays: what the source has for the network.
      replaced: the source's scales and shifts, by the paths that they would have here.
      shapes: of the network's variables by path, with its blocks one by one.
      norm: the network's norms, which :func:`check_start` has passed.
      places: where those stand that predict, see :func:`dnr_jax.models.blocks.predicting_norms`.

    Returns:
      The arrays to set. A norm for which the source has no statistics or convolution is left alone.

    Raises:
      ConfigError: where no norm predicts its scale and shift, or where the source has no scale and shift for one of
        which it has the statistics.
    """
    norms = _startable(arrays, replaced, places)
    targets = {place.norm: _target(place, replaced) for place in norms}
    absorbing = {place.norm for place in norms if ("params", f"{place.behind}/kernel") in arrays}
    changed: dict[tuple[str, str], np.ndarray] = {}
    gates: dict[tuple[str, ...], _Gates] = {}
    shifts: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    tally = _Tally()
    for place in norms:
        gamma, beta = targets[place.norm]
        previous = _previous(shifts[place.chain], place, norm, len(gamma))
        if place.cells not in gates:
            served = [other.norm for other in norms if other.cells == place.cells]
            gammas, betas = (np.stack(pair) for pair in zip(*(targets[name] for name in served), strict=True))
            wanted = _proportion if absorbing.issuperset(served) else _mean
            gates[place.cells] = _Gates.giving(norm.relay, *wanted(np.abs(gammas), betas), previous)
        scale, shift = gates[place.cells].step(previous)
        shifts[place.chain].append(shift)
        sign = np.where(gamma < 0, -1.0, 1.0)
        for key in (
            ("params", f"{place.before}/kernel"),
            ("params", f"{place.before}/bias"),
            ("batch_stats", f"{place.norm}/mean"),
        ):
            if key in arrays:
                changed[key] = changed.get(key, arrays[key]) * sign
        factor = np.ones_like(gamma)
        if place.norm in absorbing:
            # Least squares of what the ReLU reads, in which the standardised features have unit variance.
            factor = np.maximum((scale * np.abs(gamma) + shift * beta) / (scale**2 + shift**2), 0)
            key = "params", f"{place.behind}/kernel"
            changed[key] = scale_inputs(changed.get(key, arrays[key]), factor)
        tally.add(gamma, beta, factor * scale, factor * shift, place.norm in absorbing)
    for cells, constant in gates.items():
        for cell in cells:
            changed |= _last_maps(f"{cell}/layer_{norm.depth - 1}", constant, shapes)
    used = tuple(f"{place.norm}/{leaf}" for place in norms for leaf in ("scale", "bias"))
    return RelayStart(changed, used, tally.summary())


def _startable(
    arrays: Mapping[tuple[str, str], np.ndarray],
    replaced: Mapping[str, np.ndarray],
    norms: Sequence[PredictingNorm],
) -> list[PredictingNorm]:
    """Return the norms of which the source has statistics and convolution; it must have their scale and shift too."""
    if not norms:
        raise ConfigError("init.relays: is 'batch_norm', but no norm of the network predicts its scale and shift")
    known = [
        place
        for place in norms
        if ("batch_stats", f"{place.norm}/mean") in arrays and ("params", f"{place.before}/kernel") in arrays
    ]
    lacking = [place.norm for place in known if not {f"{place.norm}/scale", f"{place.norm}/bias"} <= replaced.keys()]
    if lacking or not known:
        first = (lacking or [place.norm for place in norms])[0]
        raise ConfigError(
            f"init.relays: is 'batch_norm', but {len(lacking or norms)} norms of the network, such as {first}, have no "
            "scale and shift of a batch normalisation in the source"
        )
    return known


def _target(place: PredictingNorm, replaced: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return replaced[f"{place.norm}/scale"].astype(np.float64), replaced[f"{place.norm}/bias"].astype(np.float64)


def _mean(gammas: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and the shift that are nearest to those of several norms, ``[B, C]`` to ``[C]``."""
    return np.mean(gammas, 0), np.mean(betas, 0)


def _previous(shifts: list[np.ndarray], place: PredictingNorm, norm: DNRSpec, channels: int) -> np.ndarray:
    """Return the shift that is relayed to a norm, behind those of its chain; zeros where the relay starts there."""
    previous = np.zeros(channels)
    kind = (norm.norm1, norm.norm2, norm.norm3)[place.position - 1]
    if kind == "cl" and len(shifts) >= norm.layer_distance:
        relayed = shifts[-norm.layer_distance][:channels]
        previous[: len(relayed)] = relayed
    return previous


def _last_maps(layer: str, gates: _Gates, shapes: Mapping[str, tuple[int, ...]]) -> dict[tuple[str, str], np.ndarray]:
    """Return kernels and biases of a relay's layer with which its gates are constant."""
    first, *_ = maps = _LAST_MAPS[gates.relay]
    paths = [f"{layer}/{name}/{leaf}" for name in maps for leaf in ("kernel", "bias")]
    zeros = {("params", path): np.zeros(shapes[path]) for path in paths if path in shapes}
    return zeros | {("params", f"{layer}/{first}/bias"): gates.bias}


@dataclasses.dataclass
class _Tally:
    """Counts channels, and sums the squares of scales and shifts and of how far these are off."""

    channels: int = 0
    absorbed: int = 0
    negative: int = 0
    errors: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    squares: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))

    def add(self, gamma: np.ndarray, beta: np.ndarray, scale: np.ndarray, shift: np.ndarray, absorbed: bool) -> None:
        self.channels += len(gamma)
        self.absorbed += len(gamma) * absorbed
        self.negative += int(np.sum(gamma < 0))
        self.errors += np.sum(np.square(scale - np.abs(gamma))), np.sum(np.square(shift - beta))
        self.squares += np.sum(np.square(gamma)), np.sum(np.square(beta))

    def summary(self) -> str:
        scale, shift = 100 * np.sqrt(self.errors / np.maximum(self.squares, np.finfo(float).tiny))
        return (
            f"relays started at batch normalisation: {self.channels} channels, {self.absorbed} with a factor in the "
            f"next convolution, {self.negative} with their sign in the one before; off by {scale:.1f}% in scale and "
            f"{shift:.1f}% in shift (root mean square)"
        )
