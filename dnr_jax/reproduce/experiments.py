"""From a row to the configuration of its run.

What depends on the layout of configurations (the fields of the norms, where videos are) is in :func:`set_norm`,
:func:`set_videos` and :func:`set_root` alone.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnr_jax.config import ConfigError, DataConfig, ExperimentConfig, Network, TrainConfig, load_config, named
from dnr_jax.config.parts import with_fields
from dnr_jax.data.catalogue.demo import Difficulty, make_hard_demo
from dnr_jax.data.catalogue.sources import Folder, Lists
from dnr_jax.data.clips.sampling import Segments
from dnr_jax.data.clips.transforms import CenterCrop, MultiScaleCrop
from dnr_jax.dnr import DNRSpec
from dnr_jax.reproduce.tables import DEFAULTS, KNOBS, Row, Setting, Table
from dnr_jax.training.optimizer import SGD

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "tsn": ("TSN", {"depth": 18, "width": 8, "stem": "small"}),
    "tsn_deep": ("TSN", {"depth": 34, "width": 8, "stem": "small"}),
    "tsn_next": ("TSN", {"depth": 50, "width": 8, "stem": "small", "cardinality": 4, "base_width": 16}),
    "bninception": ("BNInception", {}),
    "tsm": ("TSM", {"depth": 18, "width": 8, "stem": "small"}),
    "tanet": ("TANet", {"depth": 50, "width": 8, "stem": "small"}),
    "tdn": ("TDN", {"depth": 50, "width": 8}),
    "r2plus1d": ("R2Plus1D", {"depth": 18, "width": 8}),
    "slowfast": ("SlowFast", {"depth": 18, "width": 16}),
}
"""The networks of the mini scale: class and fields."""
LEAST_SIDES = {"tdn": 36, "bninception": 32}
"""Sides in pixels that networks need, where clips are smaller."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How the networks of the mini scale are trained on one data set.

    Attributes:
      size: side of the clips in pixels.
      short_side: of the frames in front of the crop; 0: as they are.
      steps: of training.
      batch: clips a step.
      learning_rate: at that batch, at rate 1.
      dropout: in front of the classifier.
      warmup: steps.
    """

    size: int = 16
    short_side: int = 0
    steps: int = 600
    batch: int = 8
    learning_rate: float = 0.05
    dropout: float = 0.0
    warmup: int = 50


CHOSEN = {"gap": 0.0, "contrast": 3.0, "cast": 0.2, "exposure": 0.35, "noise": 12.0, "videos": 480.0}
"""The difficulty of the generated data, chosen by the baselines (``docs/reproduction.md``, table ``difficulty``)."""
QUICK = {"gap": 6.0, "contrast": 1.0, "cast": 0.0, "exposure": 0.0, "noise": 4.0, "videos": 480.0}
"""That of ``--quick``, where what is sure shows soon."""
VAL_VIDEOS = 240
REAL = Protocol(size=32, short_side=40, dropout=0.4)
FOLDS = {"ut_interaction": 4}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: what a row declares, and data, fold and seed.

    Attributes:
      setting: of the row.
      data: name of the data set.
      fold: of the data set.
      seed: of everything that is random.
      scale: ``mini`` or ``paper``; the quick form is the mini scale on data of its own, in fewer steps.
      start: the run that it starts from; None: from scratch.
      config: configuration of the paper's scale, by which rows of several tables may name the same run.
    """

    setting: Setting
    data: str
    fold: int = 0
    seed: int = 0
    scale: str = "mini"
    start: "Run | None" = None
    config: str = ""

    def declared(self) -> dict[str, Any]:
        """Return all that the outcome depends on, as it is declared here and not as configurations spell it."""
        protocol = {} if self.scale == "paper" else dataclasses.asdict(protocol_of(self.data, self.setting))
        start = {"start": self.start.fingerprint} if self.start else {}
        data: dict[str, Any] = {"data": self.data, "fold": self.fold}
        if is_generated(self.data):
            data |= {"data": self.data.partition(":")[0], "knobs": knobs_of(self.data)}
        return {"setting": self.setting.declared(), **data, "scale": self.scale, "protocol": protocol, **start}

    @property
    def fingerprint(self) -> str:
        """Return 12 hexadecimal digits that tell what is declared from anything else, but for the seed."""
        return fingerprint_of(self.declared())

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.fingerprint}-{self.seed}"


def fingerprint_of(declared: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits of what a run declares."""
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:12]


def is_generated(data: str) -> bool:
    """Return whether a data set is made here."""
    return data.partition(":")[0] in ("generated", "quick")


def knobs_of(data: str) -> dict[str, float]:
    """Return the knobs of ``quick``, ``generated`` or ``generated:knob=value,...``; raises ConfigError for others."""
    if data == "quick":
        return dict(QUICK)
    changed: dict[str, Any] = dict(pair.split("=") for pair in data.partition(":")[2].split(",") if pair)
    if unknown := set(changed) - set(KNOBS):
        raise ConfigError(f"{data!r}: there is no knob {min(unknown)!r}; knobs: {', '.join(KNOBS)}")
    return {name: float(value) for name, value in (CHOSEN | changed).items()}


def protocol_of(data: str, setting: Setting = DEFAULTS) -> Protocol:
    """Return how the mini scale trains a row on a data set."""
    protocol = _protocol(data)
    size = setting.size or max(protocol.size, LEAST_SIDES.get(setting.network, 0))
    short_side = protocol.short_side * setting.size // protocol.size if setting.size else protocol.short_side
    return dataclasses.replace(protocol, size=size, short_side=short_side)


def _protocol(data: str) -> Protocol:
    if data == "quick":
        return Protocol(steps=800)
    return Protocol() if is_generated(data) else REAL


def runs_of(table: Table, row: Row, seeds: int, scale: str = "mini") -> list[Run]:
    """Return the runs of a row: by seed, then by data set and fold."""
    if scale == "paper":
        return [_paper_run(row, seed, start_of(table, row, seed, scale)) for seed in range(seeds)]
    return [
        Run(row.setting, data, fold, seed, start=start_of(table, row, seed, scale))
        for seed in (table.seeds[:seeds] or range(seeds))
        for data in data_of(table, row, scale)
        for fold in range(FOLDS.get(data, 1))
    ]


def _paper_run(row: Row, seed: int, start: Run | None = None) -> Run:
    return Run(row.setting, paper_data(row.config), seed=seed, scale="paper", start=start, config=row.config)


def paper_data(config: str) -> str:
    """Return the data set of a configuration of the paper's scale, by its name."""
    name, _, argument = config.partition(":")
    known = {"k200": "Mini-Kinetics-200", "k400": "Kinetics-400"}
    return known.get(name.partition("_")[0]) or f"Something-Something {argument[:2].upper()}"


def data_of(table: Table, row: Row, scale: str) -> tuple[str, ...]:
    """Return the data sets that a row is trained on at a scale of one's own machine; a sweep has no quick form."""
    if scale == "quick":
        return ("quick",) if table.data and not table.sweep else ()
    return (row.data,) if row.data else table.data


def start_of(table: Table, row: Row, seed: int, scale: str) -> Run | None:
    """Return the run that a row's run starts from, or None."""
    if not row.start:
        return None
    (first,) = (other for other in table.rows if other.name == row.start)
    if scale == "paper":
        return _paper_run(first, seed)
    return Run(first.setting, data_of(table, first, scale)[0], seed=seed)


def why_not(run: Run, row: Row, folder: str) -> str:
    """Return why a run cannot be done here; empty where it can."""
    if run.scale == "paper":
        return "" if row.config else "the paper has no such row"
    if row.skipped:
        return row.skipped
    name = run.data.partition(":")[0]
    if not is_generated(run.data) and not (pathlib.Path(folder) / name).is_dir():
        return f"there is no folder {name} in --data {folder or '(not given)'}"
    return ""


def make_config(run: Run, folder: str, runs: pathlib.Path) -> ExperimentConfig:
    """Return the configuration of a run.

    Args:
      run: the run.
      folder: ``--data``: of the mini scale the folder with the real data sets, of the paper's the data set's.
      runs: the folder of all runs, where the one that it starts from is.
    """
    config = _paper(run, folder) if run.scale == "paper" else _mini(run, folder, runs)
    if run.start:
        config.init_from, config.init.allow = str(runs / run.start.name), "head"
    return config


def _paper(run: Run, folder: str) -> ExperimentConfig:
    config = load_config(run.config)
    if folder:
        set_root(config.data, folder)
    config.train.seed = run.seed
    return config


def _mini(run: Run, folder: str, runs: pathlib.Path) -> ExperimentConfig:
    protocol, setting = protocol_of(run.data, run.setting), run.setting
    name, fields = NETWORKS[setting.network]
    model = named(Network, name)(num_classes=0, dropout=protocol.dropout, **fields)
    set_norm(model, setting)
    if not setting.interlace and hasattr(model, "interlace"):
        model.interlace = None
    data = DataConfig(
        sampler=Segments(num_frames=8, frames_per_segment=5 if name == "TDN" else 1),
        short_side=protocol.short_side,
        crop_size=protocol.size,
        crop=MultiScaleCrop() if protocol.short_side else CenterCrop(),
        flip=run.data.startswith(("ut_interaction", "hockey_fights")),
    )
    set_videos(data, run, folder, runs)
    return ExperimentConfig(
        model=model,
        data=data,
        optimizer=SGD(
            learning_rate=protocol.learning_rate * setting.rate,
            base_batch_size=protocol.batch,
            warmup_steps=protocol.warmup * setting.warmup,
            weight_decay=SGD.weight_decay * setting.decay,
            rate_factors=() if setting.cells == 1 else (f"relays={setting.cells:g}",),
        ),
        train=TrainConfig(
            batch_size=protocol.batch,
            steps=protocol.steps * setting.steps,
            eval_every=protocol.steps * setting.steps,
            precise_statistics=setting.precise,
            checkpoint_every=100,
            log_every=50,
            seed=run.seed,
        ),
    )


def set_norm(model: Network, setting: Setting) -> None:
    """Set the norms of a network."""
    norm = dict(setting.norm)
    if norm.get("base", "bn") == "gn":
        norm["statistics"] = "frame"  # as a network of images normalises, each frame alone
    else:
        norm["clips_per_statistics"] = setting.clips
    model.norm = DNRSpec(**norm)


def set_videos(data: DataConfig, run: Run, folder: str, runs: pathlib.Path) -> None:
    """Say where the videos of a run are; makes the generated ones."""
    if is_generated(run.data):
        data.source = Folder(_generate(knobs_of(run.data), data.crop_size, runs.parent / "data"))
        return
    name, _, count = run.data.partition(":")
    root, prefix = pathlib.Path(folder) / name, f"fold{run.fold}_" if run.data in FOLDS else ""
    training, validation = (root / f"{prefix}{split}_list.txt" for split in ("train", "val"))
    if count:
        training = _shorten(training, int(count), runs.parent / "data" / f"{name}_{count}.txt")
    data.source = Lists(str(root), str(training), str(validation), label_map=str(root / "label_map.txt"))


def _shorten(file: pathlib.Path, count: int, shorter: pathlib.Path) -> pathlib.Path:
    """Write a list of some of the videos of a list; a longer one has those of a shorter one too."""
    lines = file.read_text().splitlines()
    chosen = np.random.default_rng(0).permutation(len(lines))[:count]
    shorter.parent.mkdir(parents=True, exist_ok=True)
    shorter.write_text("".join(f"{lines[i]}\n" for i in sorted(chosen)))
    return shorter


def set_root(data: DataConfig, folder: str) -> None:
    """Say in which folder the data set of a configuration lies."""
    data.source = with_fields(data.source, {"root": folder})


def _generate(knobs: Mapping[str, float], size: int, cache: pathlib.Path) -> str:
    difficulty = Difficulty(
        **{name: value for name, value in knobs.items() if name not in ("videos", "gap")}, gap=int(knobs["gap"])
    )
    return make_hard_demo(str(cache), int(knobs["videos"]), VAL_VIDEOS, difficulty, size)
