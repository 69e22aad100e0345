"""The choice of a normalisation for every position of a residual block."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from dnr_jax.dnr.aliases import Dtype
from dnr_jax.dnr.bases import Base
from dnr_jax.dnr.fields import Needs, changed, nearest, refuse
from dnr_jax.dnr.norm import (
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    InstanceLevelMetaNorm,
    Norm,
    StaticNorm,
)
from dnr_jax.dnr.parts import named, with_fields
from dnr_jax.dnr.relay import POSITIONS, Prediction, RelayCell
from dnr_jax.dnr.scaling import FrameGroups, LayerDistance
from dnr_jax.dnr.standardize import RENAMED, Standardization, fields_of_bases, takes_fields_of_base

Kind = Literal["static", "cl", "ct", "ilm", "an"]
_LAYERS: dict[str, type[Norm]] = {
    "static": StaticNorm,
    "cl": CrossLayerDNR,
    "ct": CrossTemporalDNR,
    "ilm": InstanceLevelMetaNorm,
    "an": AttentiveNorm,
}


@dataclasses.dataclass(repr=False, eq=False)
class Positions:
    """Which norm stands where in a residual block."""

    norm1: Kind = "cl"
    """First norm: ``static`` (a learned scale and shift), ``cl``, ``ct``, or what DNR is compared with: ``ilm``
    (:class:`InstanceLevelMetaNorm`), ``an`` (:class:`AttentiveNorm`)."""
    norm2: Kind = "ct"
    """Second norm, likewise."""
    norm3: Kind = "static"
    """Third norm, likewise; basic blocks have none."""


@takes_fields_of_base
@dataclasses.dataclass(unsafe_hash=True)
class DNRSpec(Standardization, Prediction, FrameGroups, Positions):
    """What stands at the first, second and third normalisation of a residual block, and how it is set.

    The defaults are the paper's best setting: cross-layer DNR at the first norm, cross-temporal at the second with a
    relay distance of 4 frames, ``r = 4``, ``d = 1`` (Table 1). This is the section ``model.norm`` of a configuration as
    well, so its fields can be set; networks take a copy, :meth:`spec`.

    Raises:
      ValueError: for a value outside its range, or one that has no effect beside the others, naming the field.
    """

    layer_distance: LayerDistance = 1
    """Blocks from one to the next of a cross-layer chain."""
    sharing: Annotated[Literal["stage", "block"], Needs(POSITIONS, "cl")] = "stage"
    """Cross-layer cells are shared by the blocks of a ``stage``, or each ``block`` has its own."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built, and settings without effect."""
        refuse(self)

    def spec(self) -> "DNRSpec":
        """Return a checked copy, which later changes of this one do not reach; raises ValueError as the class does."""
        return dataclasses.replace(self)

    def with_epsilon(self, epsilon: float) -> "DNRSpec":
        """Return the same on a base that adds another ``epsilon`` to variances."""
        return dataclasses.replace(self, base=with_fields(self.base, {"epsilon": epsilon}))

    @classmethod
    def static(cls, **fields: Any) -> "DNRSpec":
        """Return the baseline: learned scales and shifts, on batch normalisation unless ``base`` is given."""
        return cls(norm1="static", norm2="static", norm3="static", **fields)

    @classmethod
    def authors(cls, **fields: Any) -> "DNRSpec":
        """Return the setting of the authors' released code: four groups, whatever the clip's length."""
        return cls(**{"num_groups": 4} | fields)

    @staticmethod
    def converted(values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return saved fields of the form before bases had settings of their own, in the present one.

        Raises:
          ConfigError: for a base that does not exist.
        """
        if not isinstance(values.get("base"), str):
            return values
        flat = {RENAMED.get(name, name): value for name, value in values.items()}
        base: Any = named(Base, flat.pop("base"))()
        of_bases = {name: flat.pop(name) for name in fields_of_bases() if name in flat}
        own = {name: value for name, value in of_bases.items() if hasattr(base, name)}
        own = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
        return {**flat, "base": with_fields(base, own)}

    @property
    def kinds(self) -> tuple[str, str, str]:
        """The kinds of the three positions."""
        return self.norm1, self.norm2, self.norm3

    def relay_cell(
        self, position: int, features: int, param_dtype: Dtype = jnp.float32, *, name: str = ""
    ) -> RelayCell | None:
        """Return the cell that a stage shares among its blocks' norms at ``position`` (0 to 2), or None.

        The cell is named ``relay1`` to ``relay3`` in the module that calls this, unless ``name`` is given.
        """
        if self.kinds[position] != "cl" or self.sharing != "stage":
            return None
        return RelayCell(
            features, param_dtype=param_dtype, **_settings(Prediction, self), name=name or f"relay{position + 1}"
        )

    def norm(
        self, kind: str, cell: nn.Module | None = None, *, name: str | None = None, param_dtype: Dtype = jnp.float32
    ) -> Norm:
        """Return a layer of ``kind``; ``cell`` is the stage's shared cell, used by cross-layer DNR alone.

        Raises:
          ValueError: for a kind that there is not.
        """
        if kind not in _LAYERS:
            raise ValueError(
                f"no norm is called {kind!r}{nearest(kind, list(_LAYERS))}; there are {', '.join(_LAYERS)}"
            )
        layer = _LAYERS[kind]
        fields = _settings(Standardization, self) | {"param_dtype": param_dtype, "name": name}
        if kind == "cl":
            fields |= {"cell": cell, "relay_distance": self.layer_distance}
            fields |= _settings(Prediction, self) if cell is None else {}
        elif kind == "ct":
            fields |= _settings(Prediction, self) | _settings(FrameGroups, self)
        return layer(**fields)

    def counterpart(self) -> "DNRSpec":
        """Return the baseline to compare with: the same standardisation, under learned scales and shifts."""
        return changed(self, norm1="static", norm2="static", norm3="static")


def _settings(group: type, spec: DNRSpec) -> dict[str, Any]:
    """Return a group of settings, by name."""
    return {field.name: getattr(spec, field.name) for field in dataclasses.fields(group)}
