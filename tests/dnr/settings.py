"""The settings of a norm that the tests run: any two levels of any two axes meet in one of them."""

import dataclasses
import itertools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import dnr_jax.nnx
from dnr_jax.dnr import (
    AttentiveNorm,
    CrossLayerDNR,
    CrossTemporalDNR,
    InstanceLevelMetaNorm,
    RelayCell,
    StaticNorm,
)
from dnr_jax.dnr.bases import Base, BatchBase
from dnr_jax.dnr.parts import registered
from tests.dnr import reference

LINEN = {"static": StaticNorm, "ilm": InstanceLevelMetaNorm, "an": AttentiveNorm, "ct": CrossTemporalDNR}
NNX = {kind: getattr(dnr_jax.nnx, layer.__name__) for kind, layer in (LINEN | {"cl": CrossLayerDNR}).items()}
C, FRAMES, CLIPS = 8, 4, 4
RENORM = {"limits": (1.5, 0.5), "steps": (2, 6, 10)}
BASES = {base.alias: base for base in registered(Base).values()}
RUNNING = tuple(name for name, base in BASES.items() if issubclass(base, BatchBase))
STANDARDIZATION = {"base": ("bn", "gn", "in", "ln", "brn", "sn"), "statistics": ("group", "clip", "frame", "token")}
PREDICTION = {
    "relay": ("lstm", "se", "fc", "none"),
    "depth": (1, 2),
    "initial_state": ("zeros", "learned"),
    "gain": (1, 4),
}
AXES = {
    "static": {},
    "ilm": {},
    "an": {},
    "cl": PREDICTION | {"distance": (1, 2), "cell": ("shared", "own")},
    "ct": PREDICTION
    | {"direction": ("forward", "bidirectional"), "granularity": ("group", "frame"), "groups": (1, 2, 4)},
}
"""What each kind can be set to, beside its standardisation and the clips that share statistics."""
CHOSEN = """
    static sn group 0
    static bn clip 2
    static brn frame 1
    static in group 0
    static ln token 0
    static gn clip 0
    cl gn group 0 fc 2 learned 1 1 shared
    cl bn clip 2 none 1 zeros 4 1 own
    cl brn frame 1 lstm 2 learned 4 2 own
    cl bn clip 1 se 1 zeros 1 1 shared
    cl ln token 0 se 1 learned 4 2 own
    cl sn frame 2 lstm 1 zeros 1 1 shared
    cl in group 0 fc 1 zeros 1 1 own
    cl in clip 0 none 1 zeros 1 1 shared
    cl ln token 0 none 1 zeros 1 1 shared
    cl gn token 0 fc 1 zeros 1 2 own
    cl brn group 0 fc 1 zeros 4 1 shared
    cl sn group 0 se 1 zeros 1 2 own
    cl bn clip 2 lstm 1 zeros 1 2 shared
    cl ln frame 0 none 1 zeros 4 1 shared
    cl in group 0 lstm 1 zeros 4 2 shared
    ct bn group 0 lstm 1 zeros 1 forward group 1
    ct brn clip 2 se 2 learned 4 bidirectional frame 2
    ct sn frame 1 fc 1 zeros 4 bidirectional frame 4
    ct in frame 0 se 2 learned 1 forward group 4
    ct ln token 0 none 2 zeros 4 forward frame 2
    ct sn clip 2 fc 2 learned 1 forward group 1
    ct gn token 0 lstm 1 zeros 4 bidirectional group 2
    ct brn group 1 none 1 zeros 4 bidirectional group 1
    ct bn group 2 lstm 2 learned 1 bidirectional frame 4
    ct gn frame 0 se 1 zeros 4 forward frame 1
    ct bn frame 1 fc 1 zeros 4 forward group 2
    ct ln clip 0 lstm 1 zeros 1 bidirectional group 4
    ct in group 0 lstm 1 zeros 4 bidirectional frame 1
    ct gn token 0 none 1 zeros 1 forward group 4
    ct ln token 0 fc 1 zeros 1 forward group 1
    ct brn group 0 lstm 1 zeros 1 forward group 4
    ct sn group 0 none 1 zeros 1 forward group 2
    ct in group 0 lstm 1 zeros 4 forward group 2
    ilm brn group 0
    ilm bn clip 2
    ilm sn frame 1
    ilm gn token 0
    ilm in group 0
    ilm ln group 0
    an bn group 0
    an brn clip 2
    an sn frame 1
    an gn group 0
    an in group 0
    an ln token 0
"""
"""kind, base, statistics, clips; for DNR relay, depth, initial state and gain; for CL distance and cell; for CT
direction, granularity and groups."""

Row = dict[str, object]


def possible() -> Iterator[Row]:
    """Every setting that makes sense."""
    for kind, axes in AXES.items():
        axes = STANDARDIZATION | {"clips": (0, 2, 1)} | axes
        for levels in itertools.product(*axes.values()):
            row = {"kind": kind, **dict(zip(axes, levels, strict=True))}
            starts = row.get("relay") != "none" or row["initial_state"] == "zeros"
            chained = row.get("relay") != "none" or row.get("distance", 1) == 1
            positions = row["statistics"] != "token" or row["base"] in ("ln", "gn")
            if (row["base"] in RUNNING or not row["clips"]) and starts and chained and positions:
                yield row


def pairs(row: Row) -> set[tuple]:
    return set(itertools.combinations(sorted(row.items()), 2))


def chosen() -> list[Row]:
    """The rows of the table."""
    rows = []
    for line in CHOSEN.strip().splitlines():
        kind, *levels = line.split()
        axes = ("base", "statistics", "clips", *AXES[kind])
        values = (int(level) if level.isdigit() else level for level in levels)
        rows.append({"kind": kind, **dict(zip(axes, values, strict=True))})
    return rows


def levels(row: Row) -> set[tuple]:
    """What a row has of each axis; the axes of relays are others for each kind of norm."""
    own = AXES[row["kind"]]
    return {(row["kind"] if axis in own else "", axis, level) for axis, level in row.items()}


def covering(rows: list[Row]) -> list[Row]:
    """Some of the rows in which each level of each axis is, picked greedily."""
    missing, picked = set().union(*map(levels, rows)), []
    while missing:
        picked.append(max(rows, key=lambda row: len(levels(row) & missing)))
        missing -= levels(picked[-1])
    return picked


def name(row: Row) -> str:
    return "-".join(map(str, row.values()))


def features(*shape: int, seed: int = 0) -> jax.Array:
    """Return features whose mean and spread differ from channel to channel."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*shape, C)) * rng.uniform(0.5, 2.0, C) + rng.normal(size=C)
    return jnp.asarray(x)


def fields_of(row: Row, param_dtype: object) -> tuple[dict, dict]:
    """Return the fields of a row's norms, and those of its cells."""
    base = {"statistics": row["statistics"], "epsilon": 1e-3}
    base |= RENORM if row["base"] == "brn" else {}
    base |= {"channels_per_group": 4} if row["base"] == "gn" else {}
    base |= {"momentum": 0.8, "clips_per_statistics": row["clips"]} if row["base"] in RUNNING else {}
    fields = {"base": BASES[row["base"]](**base), "param_dtype": param_dtype}
    fields |= {"ilm": {"key_channels": 4}, "an": {"num_mixtures": 3}}.get(row["kind"], {})
    if row["kind"] == "ct":
        fields |= {"num_groups": row["groups"], "direction": row["direction"], "granularity": row["granularity"]}
    if row["kind"] == "cl":
        fields["relay_distance"] = row["distance"]
    if "relay" not in row:
        return fields, {}
    return fields, {axis: row[axis] for axis in PREDICTION} | ({} if row["relay"] == "fc" else {"reduction": 2})


class Layers(nn.Module):
    """One norm, or a chain of three that relay across layers, each on what the one before made.

    Attributes:
      row: the setting.
      param_dtype: dtype of the parameters.
    """

    row: Row
    param_dtype: object = jnp.float64

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        mode = {"use_running_average": not train}
        fields, prediction = fields_of(self.row, self.param_dtype)
        if self.row["kind"] != "cl":
            return LINEN[self.row["kind"]](**fields, **prediction, name="norm")(None, x, **mode)[1]
        carry, own = None, prediction
        if self.row["cell"] == "shared":
            own = {"cell": RelayCell(C, param_dtype=self.param_dtype, **prediction, name="cell")}
        for i in range(3):
            carry, y = CrossLayerDNR(**fields, **own, name=f"norm{i}")(carry, x, **mode)
            x = jnp.tanh(y) + x
        return x


class NNXLayers(nnx.Module):
    """The same in NNX, in float64."""

    def __init__(self, row: Row, rngs: nnx.Rngs) -> None:
        fields, prediction = fields_of(row, jnp.float64)
        if row["kind"] != "cl":
            self.norm = NNX[row["kind"]](C, **fields, **prediction, rngs=rngs)
            return
        own = prediction
        if row["cell"] == "shared":
            self.cell = dnr_jax.nnx.RelayCell(C, param_dtype=jnp.float64, **prediction, rngs=rngs)
            own = {"cell": self.cell}
        self.norm0, self.norm1, self.norm2 = (NNX["cl"](C, **fields, **own, rngs=rngs) for _ in range(3))

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        mode = {"use_running_average": not train}
        if hasattr(self, "norm"):
            return self.norm(None, x, **mode)[1]
        carry = None
        for norm in (self.norm0, self.norm1, self.norm2):
            carry, y = norm(carry, x, **mode)
            x = jnp.tanh(y) + x
        return x


def literal(row: Row, params: dict, stats: dict, x: jax.Array, train: bool) -> tuple[jax.Array, dict]:
    """The same by the literal reference; returns the running statistics as well."""
    groups = row.get("groups", 1)
    runs = {"group": groups, "clip": 1, "frame": x.shape[1], "token": x.shape[1]}[row["statistics"]]

    def norm(params: dict, stats: dict, x: jax.Array, scales: list, shifts: list) -> tuple[jax.Array, dict]:
        standardized, stats = reference.standardize(
            params,
            stats,
            x,
            train=train,
            base=row["base"],
            runs=runs,
            positions=row["statistics"] == "token",
            channel_groups=C // 4,
            clips=row["clips"],
            momentum=0.8,
            epsilon=1e-3,
            limits=RENORM["limits"],
            steps=RENORM["steps"],
        )
        return reference.transform(standardized, scales, shifts), stats

    if row["kind"] != "cl":
        params, stats = params["norm"], stats.get("norm", {})
        if row["kind"] == "static":
            scales, shifts = reference.static(params, x)
        elif row["kind"] == "ilm":
            scales, shifts = reference.instance_level_meta(params, x, runs=runs, key_channels=4)
        elif row["kind"] == "an":
            scales, shifts = reference.attentive(params, x, runs=runs)
        else:
            fields = {axis: row[axis] for axis in ("groups", "granularity", "direction", "relay")}
            scales, shifts = reference.cross_temporal(params, x, **fields)
            scales = [row["gain"] * scale for scale in scales]
        y, stats = norm(params, stats, x, scales, shifts)
        return y, {"norm": stats} if stats else {}
    states, new_stats = [], {}
    for i in range(3):
        own = params.get(f"norm{i}", {})
        cell = params["cell"] if row["cell"] == "shared" else own["relay"]
        chain = {"relay": row["relay"], "relay_distance": row["distance"]}
        states, scale, shift = reference.cross_layer(cell, states, x, **chain)
        repeated = [row["gain"] * scale] * x.shape[1], [shift] * x.shape[1]
        y, new_stats[f"norm{i}"] = norm(own, stats.get(f"norm{i}", {}), x, *repeated)
        x = jnp.tanh(y) + x
    return x, {name: leaf for name, leaf in new_stats.items() if leaf}


@dataclasses.dataclass(frozen=True)
class Case:
    """A row with random variables of its layers, and clips."""

    row: Row
    variables: dict
    x: jax.Array

    @classmethod
    def of(cls, row: Row) -> "Case":
        x = features(CLIPS, FRAMES, 3)
        init = Layers(row).init
        shapes = jax.eval_shape(lambda key: init(key, x, False), jax.random.key(0))
        return cls(row, reference.variables_like(shapes, seed=1), x)
