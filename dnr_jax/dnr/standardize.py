"""The first half of every normalisation layer: standardisation (Equation 1), whatever the base."""

import dataclasses
import functools
import inspect
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnr_jax.dnr import functional
from dnr_jax.dnr.aliases import Dtype, Features, FloatDtype
from dnr_jax.dnr.bases import Base, BatchNorm, Observation
from dnr_jax.dnr.fields import any_of, field_types, refuse
from dnr_jax.dnr.functional import Affine, Moments
from dnr_jax.dnr.parts import exchanged, find, registered, with_fields

MOMENTS = "moments"
"""Collection that receives sums over a training batch, where it is mutable.

See :func:`dnr_jax.dnr.precise_statistics`.
"""

RENAMED = {"channel_groups": "groups", "renorm_limits": "limits", "renorm_steps": "steps"}
"""Fields of bases that had other names when they stood beside the base."""


@dataclasses.dataclass(repr=False, eq=False)
class Standardization:
    """How features are standardised: the settings that every norm has, and :class:`dnr_jax.dnr.DNRSpec` too.

    The fields of the base may be given in its place, ``StaticNorm(momentum=0.8)``, as those of ``nn.BatchNorm`` are.
    """

    base: Base = dataclasses.field(default_factory=BatchNorm)
    """Which features share a mean and a variance: a :class:`Base`, or its short name for one with its defaults:
    ``bn`` (:class:`BatchNorm`), ``gn``, ``in``, ``ln``, ``brn`` or ``sn``."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Take short names of bases, and copies of bases, so that nobody else changes them.

        A base that is chosen by its name keeps what was set in the fields that it has in common with the one before, as
        :func:`dnr_jax.dnr.parts.exchanged` does.
        """
        super().__setattr__(name, _as_base(value, vars(self).get("base")) if name == "base" else value)


def _as_base(value: Any, before: Any = None) -> Any:
    """Return a base of one's own, given one or its name; what is neither is left to be refused."""
    if isinstance(value, Base):
        return with_fields(value, {})
    cls = find(Base, value) if isinstance(value, str) else None
    return value if cls is None else exchanged(before, cls)


def takes_fields_of_base(cls: Any) -> Any:
    """Let the constructor of a dataclass take the fields of its base beside its own; a decorator."""
    init = cls.__init__
    signature = inspect.signature(init)

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        others = kwargs.keys() - signature.parameters.keys()
        if renamed := others & RENAMED.keys():
            name = min(renamed)
            raise TypeError(f"{cls.__name__} takes no {name}: it is the field {RENAMED[name]!r} of the base now")
        if others and others <= fields_of_bases().keys():
            fields = {name: kwargs.pop(name) for name in others}
            arguments = signature.bind(self, *args, **kwargs).arguments
            kwargs, args = {**arguments, "base": _with_fields(cls, arguments.get("base", BatchNorm()), fields)}, ()
            del kwargs["self"]
        init(self, *args, **kwargs)

    cls.__init__ = construct
    return cls


def fields_of_bases() -> dict[str, list[str]]:
    """Return the bases that have each field."""
    found: dict[str, list[str]] = {}
    for cls in registered(Base).values():
        for name in field_types(cls):
            found.setdefault(name, []).append(cls.label())
    return found


def _with_fields(owner: type, base: Any, fields: Mapping[str, Any]) -> Any:
    """Return a base with other fields, which its owner checks.

    Raises:
      ValueError: for fields that it does not have, naming the bases that do.
    """
    base = _as_base(base)
    if not isinstance(base, Base):
        return base
    bases, idle = fields_of_bases(), fields.keys() - field_types(type(base)).keys()
    words = [
        f"{name}: is {fields[name]!r}, which needs base {any_of(bases[name])}; expected none with base {base.label()}"
        for name in sorted(idle)
    ]
    if words:
        raise ValueError(f"{owner.__name__}: {'; '.join(words)}")
    return with_fields(base, fields)


@dataclasses.dataclass(repr=False, eq=False)
class LayerSettings(Standardization):
    """The settings of every layer: those of :class:`Standardization`, and what only a layer needs."""

    use_running_average: bool | None = None
    """Standardise with the running statistics (evaluation) instead of the batch's; here or in the call."""
    param_dtype: FloatDtype = jnp.float32
    """Dtype of the parameters. Running statistics are in it too where it is float32 or wider, otherwise in float32."""
    dtype: FloatDtype | None = None
    """Dtype of the result; None: that of the features. Statistics are taken in float32 or wider in any case."""
    axis_name: str | tuple[str, ...] | None = None
    """Axis of ``jax.pmap`` or ``jax.shard_map`` over which batch statistics are taken as well, as in
    ``flax.linen.BatchNorm``. Under ``jax.jit`` they are those of all devices, with and without it."""

    def check(self) -> None:
        """Raise ValueError for what cannot be built, for settings without effect, and an axis without statistics."""
        refuse(self)
        if self.axis_name is None:
            return
        if not self.base.running(1):
            needed = f"base {any_of(cls.label() for cls in registered(Base).values() if cls().running(1))}"
            found = f"with base {self.base.label()}"
        elif self.base.clips_shared:
            needed, found = "statistics of all clips", f"with base.clips_per_statistics {self.base.clips_shared}"
        else:
            return
        raise ValueError(
            f"{type(self).__name__}: axis_name: is {self.axis_name!r}, which needs {needed}; expected None {found}"
        )

    @property
    def running_dtype(self) -> Dtype:
        """Dtype of the running statistics; a narrow average would stop where its steps are rounded away."""
        return functional.statistics_dtype(self.param_dtype)

    def groups(self, num_frames: int) -> int:
        """Return the number of frame groups of a clip of ``num_frames``."""
        del num_frames
        return 1

    def runs(self, num_frames: int) -> int:
        """Return the number of runs of frames that have statistics of their own."""
        return self.base.runs(num_frames, self.groups(num_frames))

    def observation(self, x: Features, moments: Moments, axis_name: str | tuple[str, ...] | None) -> Observation:
        """Return what the base learns of ``x``, ``[N, T, *S, C]``, of whose frames these are the moments."""
        return Observation(moments, self.runs(x.shape[1]), math.prod(x.shape[2:-1]), axis_name)

    def normalize(
        self,
        x: Features,
        scale: Float[Array, "n f c"],
        shift: Float[Array, "n f c"],
        standardization: Callable[[], Affine],
    ) -> Features:
        """Return ``x`` standardised, scaled and shifted.

        Args:
          x: features ``[N, T, *S, C]``.
          scale: gamma ``[N or 1, F, C]``.
          shift: beta, likewise.
          standardization: returns the standardisation; not called where each position has statistics of its own.
        """
        if self.base.by_position:
            positions = self.base.standardize_positions(x)
            return functional.modulate(positions, Affine(scale, shift), self.dtype or x.dtype)
        return functional.modulate(x, functional.transform(standardization(), scale, shift), self.dtype)


class Standardize(LayerSettings, nn.Module):
    """What all Linen layers share: how features are standardised, and the statistics that this takes.

    The settings are those of :class:`LayerSettings`. They are checked when the layer is made: ValueError says which one
    is wrong and what would be right.
    """

    def __post_init__(self) -> None:
        """Refuse what cannot be built, and settings without effect."""
        self.check()
        super().__post_init__()

    def _standardization(self, x: Features, moments: Moments, frozen: bool) -> Affine:
        """Return the standardisation of ``x`` and update the running statistics in training.

        Args:
          x: ``[N, T, *S, C]``.
          moments: those of the frames of ``x``, ``[N, T, C]``.
          frozen: take the running statistics, and leave them as they are.
        """
        channels, started = x.shape[-1], not self.is_initializing()
        learned = {
            name: self.param(name, lambda _, wanted=wanted: wanted.create(self.param_dtype))
            for name, wanted in self.base.learned(channels).items()
        }
        running = {
            name: self.variable("batch_stats", name, wanted.create, self.running_dtype)
            for name, wanted in self.base.running(channels).items()
        }
        seen = self.observation(x, moments, self.axis_name if started else None)
        before = {name: variable.value for name, variable in running.items()}
        standardized, after = self.base.standardize(seen, learned, before, train=not frozen)
        if running and started and not frozen:
            for name, variable in running.items():
                variable.value = after[name]
            self.observe(moments, x.size // channels)
        return standardized

    def observe(self, observed: Moments, values: int) -> None:
        """Hand out sums over the ``values`` a channel: of the moments ``[C]``, and their number; calls add up."""
        means = {name: jnp.mean(moment, axis=(0, 1)) for name, moment in observed._asdict().items()}
        for name, mean in (means | {"count": jnp.ones((), observed.mean.dtype)}).items():
            self.sow(MOMENTS, name, values * mean, init_fn=lambda: 0, reduce_fn=operator.add)
