"""The paper's tables as data: rows with its figures, what each row trains, and the claims that are made of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dnr_jax.config import ConfigError
from dnr_jax.config.parts import nearest

CT = {"norm1": "static"}
CL = {"norm2": "static"}
BASELINE = CT | CL
GN = {"base": "gn"}
DATA = "generated"
DATA_NAMES = {
    "generated": "generated videos",
    "quick": "easy generated videos",
    "ut_interaction": "UT-Interaction",
    "hockey_fights": "hockey fights",
    "weizmann4_order": "Weizmann actions in opposite order",
}
"""Data sets of the mini scale, as people call them."""


def name_of(data: str) -> str:
    """Return how people call a data set: ``generated:gap=6`` is "generated videos, gap 6"; others by their own name."""
    name, _, how = data.partition(":")
    how = f"{how} training videos" if how.isdigit() else how.replace("=", " ").replace(",", ", ")
    return f"{DATA_NAMES.get(name, name)}{how and f', {how}'}"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a run trains, as declared here; data, fold and seed are beside it.

    Attributes:
      network: of :data:`dnr_jax.reproduce.experiments.NETWORKS`.
      norm: fields of ``model.norm`` that differ from DNR's defaults.
      interlace: whether channels are interlaced, in networks that can.
      clips: that share statistics; of the paper's scale also the batch of a device.
      rate: factor of the learning rate.
      steps: factor of the number of steps; the warm-up stays as long as it is.
      warmup: factor of the steps of the warm-up.
      decay: factor of the weight decay.
      cells: factor of the learning rate of the relays' cells, beside ``rate``.
      precise: training batches from which running statistics are estimated anew for evaluation; 0: none.
      size: side of the clips in pixels, with the frames in front of the crop in proportion; 0: that of the data set.
    """

    network: str = "tsn"
    norm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    interlace: bool = True
    clips: int = 8
    rate: float = 1.0
    steps: int = 1
    warmup: int = 1
    decay: float = 1.0
    cells: float = 1.0
    precise: int = 0
    size: int = 0

    def declared(self) -> dict[str, Any]:
        """Return what differs from the defaults, by name."""
        return {
            field.name: dict(value) if field.name == "norm" else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != getattr(DEFAULTS, field.name)
        }


DEFAULTS = Setting()
"""What a row trains that says nothing: TSN with DNR as published."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      name: of the row within its table.
      setting: what is trained at mini scale.
      accuracy: the paper's top-1 and top-5 in per cent; None where it has none, or our copy of its text is unclear.
      config: name and argument of the configuration of the paper's scale; empty: there is none.
      skipped: why it is not done at mini scale; empty: it is.
      data: what it is trained on at mini scale, where that is not what the table says.
      start: row of the same table whose trained network it starts from; empty: from scratch.
      shown: what it is at mini scale, where its name says what it is in the paper; empty: what its name says.
      read_as: how the paper's top-1 is shown, where its figure alone would not do: ``72.28 ?``, ``illegible``.
    """

    name: str
    setting: Setting
    accuracy: tuple[float, float] | None = None
    config: str = ""
    skipped: str = ""
    data: str = ""
    start: str = ""
    shown: str = ""
    read_as: str = ""

    def label(self, scale: str = "mini") -> str:
        """Return what tables and pictures of a scale call it."""
        return self.name if scale == "paper" or not self.shown else self.shown


@dataclasses.dataclass(frozen=True)
class Beside:
    """A contrast that has to be known to read that of a claim; it has no verdict of its own.

    Attributes:
      text: what is compared.
      table: key of the table whose rows these are, on its first data set.
      weights: of the rows, as those of a claim.
    """

    text: str
    table: str
    weights: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A weighted sum of rows' top-1 that the paper says is above 0.

    Attributes:
      text: the claim, as a short sentence.
      weights: of rows, by name; in a sweep by name and data set, ``dnr@generated:gap=3``.
      own: whether it is a question of the reproduction, which the paper does not answer.
      caveat: what else differs between these rows at mini scale, or else is to be known with the verdict.
      beside: contrasts that tell how much that may be.
      per: of a slope, what its points are per: ``a doubling of the steps``.
    """

    text: str
    weights: Mapping[str, float]
    own: bool = False
    caveat: str = ""
    beside: tuple[Beside, ...] = ()
    per: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table of the paper, or one of the reproduction's own.

    Attributes:
      key: its name on the command line.
      title: what it shows.
      rows: its own rows; the four arms stand beside them.
      claims: what is tested.
      data: data sets of the mini scale.
      paper_data: data set of the paper's scale; empty: it has none.
      seeds: of the mini scale, where it has some of its own; empty: 0, 1, ...
      arms: whether the four arms stand beside its rows.
      elsewhere: what makes it, where that is not this command.
      sweep: whether its data sets are the lines, and its claims are about all of them together.
    """

    key: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    data: tuple[str, ...] = (DATA,)
    paper_data: str = ""
    seeds: tuple[int, ...] = ()
    arms: bool = True
    elsewhere: str = ""
    sweep: bool = False

    @property
    def heading(self) -> str:
        """Its number in the paper, where it has one, and what it shows."""
        numbered = self.paper_data and self.key[0].isdigit()
        return f"Table {self.key}: {self.title[0].lower()}{self.title[1:]}" if numbered else self.title

    def all_rows(self) -> tuple[Row, ...]:
        """Return the arms and the table's own rows."""
        return (*ARMS, *self.rows) if self.arms else self.rows


def _arm(name: str, **setting: Any) -> Row:
    return Row(name, Setting(**setting))


ARMS = (
    _arm("bn", norm=BASELINE, interlace=False),
    _arm("bn_interlace", norm=BASELINE),
    _arm("dnr_no_interlace", interlace=False),
    _arm("dnr"),
)
"""The four arms, which stand in most tables."""

ONE_INTERLACED = "DNR is interlaced and BN is not, as in the paper"
BEATS = (
    Claim("DNR beats BN", {"dnr": 1, "bn": -1}, caveat=ONE_INTERLACED),
    Claim("DNR beats BN with interlacing", {"dnr": 1, "bn_interlace": -1}, own=True),
    Claim("DNR without interlacing beats BN", {"dnr_no_interlace": 1, "bn": -1}, own=True),
)
_BEATS_ON_CHOSEN = (
    dataclasses.replace(
        BEATS[0],
        beside=(
            Beside("with neither interlaced", "arms", {"dnr_no_interlace": 1, "bn": -1}),
            Beside("with both", "arms", {"dnr": 1, "bn_interlace": -1}),
        ),
    ),
    *BEATS[1:],
)
"""The claims on the generated videos, where runs tell how much the interlacing does."""
BEATS_TUNED = Claim(
    "DNR at twice the rate beats BN with interlacing at half of it",
    {"dnr,rate=2": 1, "bn_interlace,rate=0.5": -1},
    own=True,
)
"""The claim with the learning rates that ``docs/reproduction.md`` chooses for each."""


def _own(*claims: Claim) -> tuple[Claim, ...]:
    """Return claims as questions of the reproduction."""
    return tuple(dataclasses.replace(claim, own=True) for claim in claims)


def _bare(*claims: Claim) -> tuple[Claim, ...]:
    """Return claims for a table in which nothing has to be known beside their verdicts."""
    return tuple(dataclasses.replace(claim, caveat="", beside=()) for claim in claims)


def _ablation(table: str, name: str, accuracy: tuple[float, float] | None, **setting: Any) -> Row:
    """Return a row of Tables 1 and 3; interlacing stands where both modules do, as in ``configs/k200_ablation.py``."""
    skipped = "its blocks have no third norm" if "norm3" in setting.get("norm", {}) else ""
    if setting.get("clips", 8) == 6:
        skipped = "6 clips do not divide the batch of 8"
    return Row(name, Setting(**setting), accuracy, f"k200_ablation:table={table},{name}", skipped)


def _both(**norm: Any) -> dict[str, Any]:
    return {"norm": norm}


def _one(base: Mapping[str, Any], **norm: Any) -> dict[str, Any]:
    """Return the setting of CT or CL alone, which is not interlaced."""
    return {"norm": {**base, **norm}, "interlace": False}


def _best(winner: str, others: tuple[str, ...], what: str) -> tuple[Claim, ...]:
    """Return the claims that one value of a setting beats each of the others."""
    best = winner.rpartition("=")[2]
    return tuple(Claim(f"{what} {best} beats {other.rpartition('=')[2]}", {winner: 1, other: -1}) for other in others)


_1A = (
    _ablation("1a", "method=baseline", (72.80, 91.59), norm=BASELINE, interlace=False),
    _ablation("1a", "method=ct,location=1", (74.52, 92.55), norm={"norm1": "ct", "norm2": "static"}, interlace=False),
    _ablation("1a", "method=ct,location=2", (75.52, 92.49), **_one(CT)),
    _ablation("1a", "method=ct,location=3", None, **_one(BASELINE, norm3="ct")),
    _ablation("1a", "method=cl,location=1", (75.70, 92.63), **_one(CL)),
    _ablation("1a", "method=cl,location=2", (74.50, 92.30), norm={"norm1": "static", "norm2": "cl"}, interlace=False),
    _ablation("1a", "method=cl,location=3", None, **_one(BASELINE, norm3="cl")),
    _ablation("1a", "method=ct+cl", (77.28, 93.81), **_both(norm1="ct", norm2="cl")),
    _ablation("1a", "method=cl+ct", (78.39, 94.08)),
)
_1B = (
    *(
        _ablation(
            "1b", f"method=ct,relay_distance={d}", accuracy, **_one(CT, **({} if d == 4 else {"relay_distance": d}))
        )
        for d, accuracy in ((1, (74.06, 92.11)), (2, (74.56, 92.33)), (4, (75.52, 92.49)), (8, (75.28, 93.13)))
    ),
    _ablation("1b", "method=cl,relay_distance=1", (75.70, 92.63), **_one(CL)),
    _ablation("1b", "method=cl,relay_distance=2", (75.44, 92.85), **_one(CL, layer_distance=2)),
)
_1C = (
    *(
        _ablation("1c", f"reduction={r}", accuracy, **_both(**({} if r == 4 else {"reduction": r})))
        for r, accuracy in ((1, (77.98, 94.23)), (2, (77.72, 94.39)), (4, (78.39, 94.08)), (8, (78.29, 94.35)))
    ),
    _ablation("1c", "depth=1", (78.39, 94.08)),
    _ablation("1c", "depth=2", (78.00, 94.13), **_both(depth=2)),
)
_RELAYS: dict[str, dict[str, tuple[float, float] | str]] = {
    "cl": {"none": (72.96, 91.55), "fc": "72.28 ?", "se": (75.20, 92.93), "lstm": (75.70, 92.63)},
    "ct": {"none": (73.40, 91.21), "fc": "72.78 ?", "se": "illegible", "lstm": (75.52, 92.49)},
    "dnr": {"none": (76.90, 93.71), "fc": "74.50 ?", "se": (77.78, 93.97), "lstm": (78.39, 94.08)},
}
"""Accuracies of Table 1d, or what our copy of its text has in their place."""


def _relay(method: str, relay: str, figure: tuple[float, float] | str) -> Row:
    changed = {} if relay == "lstm" else {"relay": relay}
    setting = _both(**changed) if method == "dnr" else _one({"cl": CL, "ct": CT}[method], **changed)
    name = f"method={method},relay={relay}"
    if isinstance(figure, str):
        return dataclasses.replace(_ablation("1d", name, None, **setting), read_as=figure)
    return _ablation("1d", name, figure, **setting)


_1D = tuple(_relay(method, relay, figure) for method, relays in _RELAYS.items() for relay, figure in relays.items())
_BASIC = "the network has basic blocks, for which Section 3.3 of the paper has CT first; its Table 1a is of bottlenecks"
_PLACES = tuple(
    Claim(text, weights, caveat=_BASIC)
    for text, weights in (
        ("CT: norm 2 beats norm 1", {"method=ct,location=2": 1, "method=ct,location=1": -1}),
        ("CL: norm 1 beats norm 2", {"method=cl,location=1": 1, "method=cl,location=2": -1}),
        ("CL then CT beats CT then CL", {"method=cl+ct": 1, "method=ct+cl": -1}),
    )
)


def _beats_alone(module: str, row: str) -> Claim:
    """Return the claim that both modules beat one alone, which is not interlaced."""
    return Claim(
        f"both beat {module} alone",
        {"method=cl+ct": 1, row: -1},
        caveat=f"both are interlaced, {module} alone is not",
        beside=(
            Beside("with nothing interlaced", "1a", {"dnr_no_interlace": 1, row: -1}),
            Beside("with all interlaced and order told far apart", "1a-far", {"method=cl+ct": 1, row: -1}),
        ),
    )


_ALONE = (_beats_alone("CT", "method=ct,location=2"), _beats_alone("CL", "method=cl,location=1"))
_CLAIMS_1B = (
    *_best("method=ct,relay_distance=4", tuple(f"method=ct,relay_distance={d}" for d in (1, 2, 8)), "CT: distance"),
    *_best("method=cl,relay_distance=1", ("method=cl,relay_distance=2",), "CL: distance"),
)


def _best_relay(method: str) -> tuple[Claim, ...]:
    """Return the claims that the LSTM is the best relay of CL, CT or both."""
    lstm = f"method={method},relay=lstm"
    named = {relay: f"method={method},relay={relay}" for relay in ("none", "fc", "se")}
    claims = dict(zip(named, _best(lstm, tuple(named.values()), method), strict=True))
    return tuple(
        claim if relay == "none" else _with_starts(claim, lstm, named[relay]) for relay, claim in claims.items()
    )


def _with_starts(claim: Claim, lstm: str, other: str) -> Claim:
    """Return a claim on relays whose scales do not start alike, with what that may do."""
    start = Beside("a start near 1 changes DNR by", "why", {"dnr,gain=4": 1, "dnr": -1})
    alike = Beside("with starts made equal and order told far apart", "1d-far", {lstm: 1, other: -1})
    return dataclasses.replace(
        claim,
        caveat="scales start near 0.25 with the LSTM and near 0.5 with the other relay, and the start alone matters",
        beside=(start, alike) if lstm.startswith("method=dnr") else (start,),
    )


_SMALL_BATCH: dict[tuple[str, str], dict[int, tuple[float, float] | None]] = {
    ("bn", "baseline"): {8: (72.80, 91.59), 6: (70.93, 91.03), 4: (67.59, 89.22), 2: None, 1: None},
    ("bn", "dnr"): {8: (78.39, 94.08), 6: (77.66, 94.11), 4: (75.48, 93.57), 2: None, 1: None},
    ("gn", "baseline"): {8: (67.27, 88.54), 6: (67.35, 88.42), 4: (67.41, 88.49)},
    ("gn", "dnr"): {8: (77.22, 93.35), 6: (76.24, 93.15), 4: (75.40, 92.95)},
}


def _shown(base: str, method: str, clips: int) -> str:
    """Return what a row of Table 3 is at mini scale, where the batch stays 8: how many share statistics."""
    if base == "gn":
        return f"base=gn, method={method}"
    return f"base=bn, method={method}, {f'{clips} clips share' if clips > 1 else 'each clip has its own'} statistics"


def _small_batch(base: str, method: str, clips: int, accuracy: tuple[float, float] | None) -> Row:
    norm = (GN if base == "gn" else {}) | (BASELINE if method == "baseline" else {})
    setting = {"norm": norm, "clips": clips, "interlace": method == "dnr"}
    row = _ablation("3", f"base={base},method={method},batch={clips}", accuracy, **setting)
    row = dataclasses.replace(row, shown=_shown(base, method, clips))
    if base == "gn" and clips == 4:
        return dataclasses.replace(row, skipped="no clips share statistics under GN, and the batch stays 8")
    return row if clips > 2 else dataclasses.replace(row, config="")


_INTERLACED = tuple(
    Row(
        f"base=bn,method=bn_interlace,batch={clips}",
        Setting(norm=BASELINE, clips=clips),
        shown=_shown("bn", "bn_interlace", clips),
    )
    for clips in (8, 4, 2, 1)
)
_3 = (
    *(_small_batch(*kind, clips, accuracy) for kind, rows in _SMALL_BATCH.items() for clips, accuracy in rows.items()),
    *_INTERLACED,
)
_HALVINGS = {8: -1.5, 4: -0.5, 2: 0.5, 1: 1.5}


def _slope(**signs: int) -> dict[str, float]:
    """Return the weights of a slope, in points a halving of the clips that share statistics.

    Args:
      **signs: of the methods whose sum it is of: the margin of DNR over the baseline is ``dnr=1, baseline=-1``.
    """
    centred = {clips: value / sum(v * v for v in _HALVINGS.values()) for clips, value in _HALVINGS.items()}
    return {
        f"base=bn,method={method},batch={clips}": sign * value
        for clips, value in centred.items()
        for method, sign in signs.items()
    }


_A_HALVING = "a halving of the clips"
Accuracies = tuple[tuple[float, float], tuple[float, float]]


def _pair(
    name: str, network: str, config: tuple[str, str], accuracies: Accuracies, interlace: bool = False
) -> tuple[Row, Row]:
    """Return the rows of a network with batch normalisation and with DNR, which alone may be interlaced."""
    baseline, dnr = Setting(network, BASELINE, interlace=False), Setting(network, interlace=interlace)
    return Row(name, baseline, accuracies[0], config[0]), Row(f"{name}+dnr", dnr, accuracies[1], config[1])


def _adds(*names: str, caveat: str = "") -> tuple[Claim, ...]:
    return tuple(Claim(f"DNR adds to {name}", {f"{name}+dnr": 1, name: -1}, caveat=caveat) for name in names)


_2 = (
    *_pair(
        "bninception",
        "bninception",
        ("k200_bninception:bn", "k200_bninception"),
        ((69.13, 89.20), (74.52, 92.17)),
        True,
    ),
    *_pair("resnet50", "tsn", ("k200_tsn:resnet50_bn", "k200_tsn:resnet50"), ((72.80, 91.59), (78.39, 94.09)), True),
    *_pair(
        "resnet101", "tsn_deep", ("k200_tsn:resnet101_bn", "k200_tsn:resnet101"), ((73.58, 92.29), (79.37, 94.51)), True
    ),
    *_pair(
        "resnext101",
        "tsn_next",
        ("k200_tsn:resnext101_bn", "k200_tsn:resnext101"),
        ((75.10, 91.55), (79.53, 94.19)),
        True,
    ),
)
_5 = (
    *_pair("r2plus1d", "r2plus1d", ("k200_r2plus1d:bn", "k200_r2plus1d"), ((71.77, 91.19), (74.22, 92.25))),
    *_pair("slowfast", "slowfast", ("k200_slowfast:bn", "k200_slowfast"), ((77.37, 93.48), (79.13, 93.89))),
)
_5_LONG = tuple(Row(f"{row.name},steps=4", dataclasses.replace(row.setting, steps=4)) for row in _5)
_6 = (
    *_pair("tsn", "tsn", ("k400_tsn", "k400_tsn_dnr"), ((71.65, 90.17), (74.35, 91.68)), True),
    *_pair("tsm", "tsm", ("k400_tsm:bn", "k400_tsm"), ((73.78, 91.32), (74.88, 91.99))),
    *_pair("tanet", "tanet", ("k400_tanet:bn", "k400_tanet"), ((76.28, 92.46), (76.93, 92.81))),
    *_pair("tdn", "tdn", ("k400_tdn:bn", "k400_tdn"), ((76.34, 92.63), (77.05, 92.98))),
)


def _as_here(row: Row, what: str, paper: str, **changed: Any) -> Row:
    """Return a row of Table 4 as it is shown: what it is at mini scale, and of which data the paper's figure is."""
    dnr = ", DNR" if row.name.endswith("+dnr") else ""
    figure = f"{row.accuracy[0]:.2f} {paper}" if row.accuracy else ""
    return dataclasses.replace(row, shown=f"{what}{dnr}", read_as=figure, **changed)


_4 = (
    *(
        _as_here(row, "first training", "(Kinetics-400)")
        for row in _pair("kinetics400", "tsn", ("k400_tsn", "k400_tsn_dnr"), ((68.17, 87.97), (73.75, 91.44)), True)
    ),
    *(
        _as_here(row, "first training of a deeper network", "? (ResNet-101, Kinetics-400)")
        for row in _pair("kinetics400_resnet101", "tsn_deep", ("", ""), ((69.50, 88.90), (74.80, 91.99)), True)
    ),
    *(
        _as_here(
            row,
            f"fine-tuned on {name_of(data)}",
            f"? (Something-Something {version[3:].upper()})",
            start=f"kinetics400{row.name.removeprefix(version)}",
            data=data,
        )
        for version, data, accuracies in (
            ("sthv1", "weizmann4_order", ((17.81, 44.62), (45.58, 75.24))),
            ("sthv2", "ut_interaction", ((31.35, 62.66), (58.60, 86.21))),
        )
        for row in _pair(
            version,
            "tsn",
            (f"something_something:{version[3:]}_tsn_bn", f"something_something:{version[3:]}_tsn"),
            accuracies,
            True,
        )
    ),
)
RATES = (0.5, 1.0, 2.0)
_RATES = tuple(
    Row(f"{row.name},rate={rate:g}", dataclasses.replace(row.setting, rate=rate))
    for row in (ARMS[1], ARMS[3])
    for rate in RATES
)
_TUNED = tuple(row for row in _RATES if row.name in ("dnr,rate=2", "bn_interlace,rate=2", "bn_interlace,rate=0.5"))
LENGTHS = (2, 4)
"""Factors of the number of steps."""
SIZES = (24, 40)
"""Sides in pixels of the clips of real videos that are tried beside that of the other tables."""
_SIZES = tuple(
    Row(
        f"{row.name},size={size}",
        dataclasses.replace(row.setting, size=size),
        shown=f"{row.name}, {size} x {size} pixels",
    )
    for size in SIZES
    for row in ARMS
)
GAIN = {"gain": 4.0}
"""Lets the predicted scales start near 1."""
_NEAR_1 = _arm("dnr,gain=4", norm=GAIN)
_NEAR_1_ALONE = _arm("dnr_no_interlace,gain=4", norm=GAIN, interlace=False)
_SCHEDULE = tuple(
    Row(f"{row.name},steps={steps}", dataclasses.replace(row.setting, steps=steps))
    for steps in reversed(LENGTHS)
    for row in (ARMS[3], ARMS[1], _NEAR_1, ARMS[2], ARMS[0], _NEAR_1_ALONE)
    if steps == max(LENGTHS) or row in ARMS
)
_WHY = (
    _NEAR_1,
    _NEAR_1_ALONE,
    _arm("dnr,warmup=4", warmup=4),
    _arm("dnr,decay=0", decay=0.0),
    _arm("dnr,cells=4", cells=4.0),
    _arm("dnr,precise=60", precise=60),
    _arm("dnr,statistics=clip", norm={"statistics": "clip"}),
)


def _doublings(row: str, against: str) -> dict[str, float]:
    """Return the weights of the slope of a row's margin, in points a doubling of the steps."""
    return {
        f"{name}{length}": sign * value
        for length, value in (("", -0.5), (",steps=2", 0.0), (",steps=4", 0.5))
        for name, sign in ((row, 1), (against, -1))
        if value
    }


KNOBS = {
    "gap": (0, 3, 6),
    "contrast": (1, 3, 6),
    "cast": (0, 0.2, 0.4),
    "exposure": (0, 0.35, 0.7),
    "noise": (4, 12, 24),
    "videos": (120, 240, 480),
}
"""Values of each knob of the generated data that are swept, all others at the chosen difficulty."""


def trend(knob: str) -> Claim:
    """Return the claim that DNR's margin grows with a knob: its slope, in points from one value to the next."""
    places = [f"{DATA}:{knob}={value:g}" for value in KNOBS[knob]]
    ends = ((places[0], -0.5), (places[-1], 0.5))  # in a line through three points, the middle one has no weight
    weights = {
        f"{row}@{place}": sign * value for place, value in ends for row, sign in (("dnr", 1), ("bn_interlace", -1))
    }
    return Claim(
        f"the margin over BN with interlacing grows with {knob}",
        weights,
        own=True,
        caveat="the slope of three values is that of the first and the last",
        per="from one value to the next",
    )


FAR = f"{DATA}:gap={max(KNOBS['gap'])}"
"""The generated data with what tells the order as far apart as the knob goes."""


def _near_1(row: Row) -> Row:
    """Return a row of Table 1 as it stands where order is told far apart: interlaced, its scales starting near 1."""
    norm = row.setting.norm
    gain = {} if norm == BASELINE else {"gain": 2.0} if norm.get("relay") in ("fc", "se") else GAIN
    return Row(row.name, dataclasses.replace(row.setting, norm={**norm, **gain}, interlace=True))


def _where_far(key: str, title: str, rows: Sequence[Row], claims: tuple[Claim, ...]) -> Table:
    """Return a part of Table 1 where there is something to tell apart: see ``docs/reproduction.md``."""
    title = f"Table {key} where order is told far apart: {title}"
    near_1 = (ARMS[1], *(_near_1(row) for row in rows if not row.skipped))
    return Table(f"{key}-far", title, near_1, claims, (FAR,), arms=False)


TRIES = tuple(
    f"{DATA}:gap={gap},contrast={contrast:g},cast={cast:g},exposure={exposure:g},noise={noise:g},videos={videos}"
    for gap, contrast, cast, exposure, noise, videos in (
        (6, 1.5, 0.1, 0.15, 6, 480),
        (6, 1, 0, 0, 4, 480),
        (3, 1.5, 0.1, 0.15, 4, 480),
        (0, 1.5, 0.1, 0.15, 4, 480),
        (1, 2, 0.15, 0.25, 8, 480),
        (2, 2, 0.15, 0.25, 8, 480),
        (0, 3, 0.2, 0.35, 12, 480),
        (6, 2, 0.15, 0.25, 8, 480),
    )
)
"""The difficulties that the baselines were tried at."""

TABLES = {
    table.key: table
    for table in (
        Table(
            "difficulty", "Choice of the difficulty", ARMS[1::-1], data=TRIES, seeds=(200, 201), arms=False, sweep=True
        ),
        Table("arms", "The four arms", (), _BEATS_ON_CHOSEN),
        Table("ut", "The four arms on UT-Interaction", (), BEATS, ("ut_interaction",)),
        Table("rates", "Learning rates", _RATES, seeds=(100, 101, 102), arms=False),
        Table(
            "tuned",
            "Learning rates as tuned",
            _TUNED,
            _own(
                Claim("twice the rate is better for DNR", {"dnr,rate=2": 1, "dnr": -1}),
                Claim(
                    "twice the rate is better for BN with interlacing", {"bn_interlace,rate=2": 1, "bn_interlace": -1}
                ),
                Claim(
                    "DNR beats BN with interlacing, both at twice the rate",
                    {"dnr,rate=2": 1, "bn_interlace,rate=2": -1},
                ),
                BEATS_TUNED,
            ),
        ),
        Table(
            "why",
            "Suspected reasons, each changed alone",
            _WHY,
            _own(
                Claim("a start near 1 is better than DNR", {"dnr,gain=4": 1, "dnr": -1}),
                Claim(
                    "a start near 1 is better than DNR, both without interlacing",
                    {"dnr_no_interlace,gain=4": 1, "dnr_no_interlace": -1},
                ),
                Claim("a longer warm-up is better than DNR", {"dnr,warmup=4": 1, "dnr": -1}),
                Claim("no weight decay is better than DNR", {"dnr,decay=0": 1, "dnr": -1}),
                Claim("a higher rate of the cells is better than DNR", {"dnr,cells=4": 1, "dnr": -1}),
                Claim("precise statistics are better than DNR", {"dnr,precise=60": 1, "dnr": -1}),
                Claim("statistics of whole clips are better than DNR", {"dnr,statistics=clip": 1, "dnr": -1}),
                Claim("a start near 1 beats BN with interlacing", {"dnr,gain=4": 1, "bn_interlace": -1}),
            ),
        ),
        Table(
            "schedule",
            "Longer training",
            _SCHEDULE,
            _own(
                Claim(
                    "the margin over BN with interlacing grows with the steps",
                    _doublings("dnr", "bn_interlace"),
                    per="a doubling of the steps",
                ),
                Claim(
                    "DNR beats BN with interlacing in 4 times the steps",
                    {"dnr,steps=4": 1, "bn_interlace,steps=4": -1},
                ),
                Claim(
                    "DNR without interlacing beats BN in 4 times the steps",
                    {"dnr_no_interlace,steps=4": 1, "bn,steps=4": -1},
                ),
                Claim(
                    "a start near 1 beats BN with interlacing in 4 times the steps",
                    {"dnr,gain=4,steps=4": 1, "bn_interlace,steps=4": -1},
                ),
            ),
        ),
        Table(
            "3",
            "Clips that share statistics",
            _3,
            (
                Claim(
                    "the margin over BN grows as fewer clips share statistics",
                    _slope(dnr=1, baseline=-1),
                    caveat="BN does not see order and has 50 at most, in expectation, so that the slope is mostly "
                    "DNR's own; batch and learning rate stay, which the paper changes with the clips",
                    beside=(
                        Beside("the slope of DNR alone", "3", _slope(dnr=1)),
                        Beside("that of BN", "3", _slope(baseline=1)),
                    ),
                    per=_A_HALVING,
                ),
                Claim(
                    "the margin over BN with interlacing grows as fewer clips share statistics",
                    _slope(dnr=1, bn_interlace=-1),
                    own=True,
                    per=_A_HALVING,
                ),
                Claim(
                    "the margin over GN is larger than that over BN, at 8 clips",
                    {
                        "base=gn,method=dnr,batch=8": 1,
                        "base=gn,method=baseline,batch=8": -1,
                        "base=bn,method=dnr,batch=8": -1,
                        "base=bn,method=baseline,batch=8": 1,
                    },
                ),
            ),
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "1a",
            "Where CT and CL stand",
            _1A,
            (*_PLACES, *_ALONE),
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "1b",
            "Relay distance",
            _1B,
            _CLAIMS_1B,
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "1d",
            "Relay mechanism",
            _1D,
            tuple(claim for method in _RELAYS for claim in _best_relay(method)),
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "1c",
            "Size of the LSTM",
            _1C,
            (
                *_best("reduction=4", ("reduction=1", "reduction=2", "reduction=8"), "reduction"),
                *_best("depth=1", ("depth=2",), "depth"),
            ),
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "hockey",
            "The four arms on few videos",
            (),
            BEATS,
            tuple(f"hockey_fights:{count}" for count in (100, 200, 400)),
        ),
        Table(
            "sizes",
            "UT-Interaction at other sizes",
            _SIZES,
            _own(
                *(
                    Claim(
                        f"{claim.text} on clips of {size} x {size} pixels",
                        {f"{row},size={size}": weight for row, weight in claim.weights.items()},
                    )
                    for size in SIZES
                    for claim in BEATS[1:]
                ),
                Claim(
                    f"the margin over BN with interlacing is larger at {SIZES[1]} pixels than at {SIZES[0]}",
                    {
                        f"{name},size={size}": sign * end
                        for size, end in zip(SIZES, (-1, 1), strict=True)
                        for name, sign in (("dnr", 1), ("bn_interlace", -1))
                    },
                ),
            ),
            ("ut_interaction",),
        ),
        Table(
            "knobs",
            "Knobs of the generated data",
            (_NEAR_1,),
            tuple(trend(knob) for knob in KNOBS),
            data=tuple(f"{DATA}:{k}={v:g}" for k, vs in KNOBS.items() for v in vs),
            sweep=True,
        ),
        Table(
            "far",
            "Order that is told far apart, and longer training",
            (
                _NEAR_1,
                *(
                    row
                    for row in _SCHEDULE
                    if row.name in ("bn_interlace,steps=4", "dnr,steps=4", "dnr,gain=4,steps=4")
                ),
            ),
            _own(
                *BEATS,
                Claim("a start near 1 beats BN with interlacing", {"dnr,gain=4": 1, "bn_interlace": -1}),
                Claim(
                    "DNR beats BN with interlacing in 4 times the steps",
                    {"dnr,steps=4": 1, "bn_interlace,steps=4": -1},
                ),
            ),
            (FAR,),
        ),
        _where_far(
            "1d",
            "relay mechanism",
            [row for row in _1D if row.name.startswith("method=dnr")],
            _own(*_bare(*_best_relay("dnr"))),
        ),
        _where_far(
            "1a",
            "where CT and CL stand",
            _1A[1:],
            _own(
                *_PLACES,
                *_bare(*_ALONE),
                Claim("CT alone beats BN, both interlaced", {"method=ct,location=2": 1, "bn_interlace": -1}),
                Claim("CL alone beats BN, both interlaced", {"method=cl,location=1": 1, "bn_interlace": -1}),
            ),
        ),
        _where_far("1b", "relay distance", _1B, _own(*_CLAIMS_1B)),
        Table(
            "2",
            "Backbones",
            _2,
            _adds("bninception", "resnet50", "resnet101", "resnext101", caveat=ONE_INTERLACED),
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "4",
            "Data sets, and fine-tuning",
            _4,
            tuple(
                Claim(f"DNR adds {where} in the paper)", {f"{name}+dnr": 1, name: -1}, caveat=ONE_INTERLACED)
                for name, where in (
                    ("kinetics400", "in first training (Kinetics-400"),
                    ("kinetics400_resnet101", "in first training of a deeper network (ResNet-101, Kinetics-400"),
                    ("sthv1", "in fine-tuning (Something-Something V1"),
                    ("sthv2", "in fine-tuning (Something-Something V2"),
                )
            ),
            paper_data="Kinetics-400; Something-Something V1 and V2",
        ),
        Table(
            "5",
            "3D networks",
            _5,
            tuple(
                dataclasses.replace(
                    claim,
                    caveat="in so few steps this is of how soon a network learns more than of what it reaches",
                    beside=(
                        Beside(
                            "in 4 times the steps",
                            "5-long",
                            {f"{name},steps=4": weight for name, weight in claim.weights.items()},
                        ),
                    ),
                )
                for claim in _adds("r2plus1d", "slowfast")
            ),
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "5-long",
            "Table 5 in longer training",
            _5_LONG,
            tuple(
                Claim(
                    f"DNR adds to {name} in 4 times the steps",
                    {f"{name}+dnr,steps=4": 1, f"{name},steps=4": -1},
                    own=True,
                )
                for name in ("slowfast", "r2plus1d")
            ),
            arms=False,
        ),
        Table(
            "6",
            "Networks with temporal modules",
            _6,
            (*_adds("tsn", caveat=ONE_INTERLACED), *_adds("tsm", "tanet", "tdn")),
            paper_data="Kinetics-400",
        ),
        Table(
            "bidirectional",
            "Supplement: bidirectional CT",
            (
                dataclasses.replace(
                    _ablation("supplement", "direction=bidirectional", None, **_both(direction="bidirectional")),
                    read_as="not in our copy",
                ),
            ),
            (Claim("bidirectional beats forward", {"direction=bidirectional": 1, "dnr": -1}),),
            paper_data="Mini-Kinetics-200",
        ),
        Table(
            "cost",
            "Supplement: FLOPs and latency",
            (),
            data=(),
            arms=False,
            elsewhere="dnr profile --all (docs/models.md); benchmarks/norm_overhead.py",
        ),
        Table(
            "visualisation",
            "Supplement: what the relays predict",
            (),
            data=(),
            arms=False,
            elsewhere="dnr explain --compare RUN RUN VIDEO (docs/explain.md); dnr_jax.plot_relays (docs/drop_in.md)",
        ),
    )
}
"""All tables, in the order in which their runs are done."""


def find_table(key: str) -> Table:
    """Return a table by its key; raises ConfigError for another one, naming the nearest."""
    if key not in TABLES:
        raise ConfigError(f"--table: there is no {key!r}{nearest(key, list(TABLES))}; tables: {', '.join(TABLES)}")
    return TABLES[key]


def find_rows(table: Table, name: str) -> tuple[Row, ...]:
    """Return the rows of a table, or the one that is named, whose parts may be in any order.

    Raises:
      ConfigError: where the table has no such row.
    """
    rows = table.all_rows()
    if not name:
        return rows
    for row in rows:
        if set(row.name.split(",")) == set(name.split(",")):
            return (row,)
    names = [row.name for row in rows]
    raise ConfigError(f"--row: Table {table.key} has no {name!r}{nearest(name, names)}; rows:\n  " + "\n  ".join(names))
