"""Do the relays learn? Gradients over depth and training, what the cells predict, and what evaluation costs.

    python benchmarks/relay_learning.py --seeds 3
    python benchmarks/relay_learning.py --seeds 1 --steps 100 --rows dnr

Arms of ``dnr reproduce`` on the data of its mini scale, each seed a run of its own. On the same 64 training clips,
before training, at its half and at its end:

- *Relative gradient*: the norm of the gradient of all parameters of a kind in a stage over the norm of the parameters.
  What learns too slowly for its depth or its kind has less than the others.
- *Scale*: the mean of the predicted scales, and their spread over clips: the standard deviation over the clips of what
  one channel of one frame group is scaled by, as a share of its mean, averaged. A layer that ignores its clip has none.

After training, on all training and validation videos, one clip of each: top-1 with running statistics, as networks are
evaluated, and with those of sets of 8 clips, as they are trained. The tables are means over the seeds, in Markdown.
"""

import argparse
import collections
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import ExperimentConfig, single_view
from dnr_jax.data.catalogue.sources import load_sources
from dnr_jax.data.clips.pipeline import evaluation_iterator
from dnr_jax.explain.relays import inspector
from dnr_jax.reproduce.experiments import Run, make_config
from dnr_jax.reproduce.tables import TABLES, find_rows
from dnr_jax.runs.inference import normalize
from dnr_jax.runs.state import TrainState
from dnr_jax.training.hooks import Hook
from dnr_jax.training.loop import train
from dnr_jax.training.step import cross_entropy
from dnr_jax.training.trainer import Trainer

ROWS = ("bn_interlace", "dnr_no_interlace", "dnr", "dnr,gain=4")
"""Of the table ``why``."""
TOGETHER = 8
"""Clips that share statistics in training."""
PROBED = 64
"""Training clips that gradients and scales are of."""
KINDS = {
    "cell of CL": re.compile(r"backbone/layer(\d)/relay1/"),
    "cells of CT": re.compile(r"backbone/layer(\d)/block\d/norm2/relay/"),
    "convolutions": re.compile(r"backbone/layer(\d)/block\d/conv\d/"),
}
"""Paths of parameters by what they are of; the group is the stage. Convolutions of shortcuts are left out."""

STAGES = ("1", "2", "3", "4")
"""Of the networks here, which have four."""
Videos = tuple[np.ndarray, np.ndarray]
"""uint8 ``[N, T, H, W, 3]`` and classes ``[N]``, in an order that mixes the classes."""
Place = tuple[str, str]
"""Kind and stage."""


@dataclasses.dataclass
class Seen:
    """What one run showed.

    Attributes:
      gradients: relative gradients, by step and place.
      scales: mean and spread of the predicted scales, by step and place.
      top1: in per cent, by videos and statistics.
    """

    gradients: dict[int, dict[Place, float]] = dataclasses.field(default_factory=dict)
    scales: dict[int, dict[Place, tuple[float, float]]] = dataclasses.field(default_factory=dict)
    top1: dict[str, float] = dataclasses.field(default_factory=dict)


def read_videos(config: ExperimentConfig) -> tuple[Videos, Videos]:
    """Return training and validation videos, one clip of each, in sets of mixed classes."""
    found = []
    for source in load_sources(config.data):
        batches = list(evaluation_iterator(source, config.data, single_view(config.evaluation), TOGETHER))
        kept = np.concatenate([batch["weight"] for batch in batches]) > 0
        video = np.concatenate([batch["video"][:, 0] for batch in batches])[kept]
        label = np.concatenate([batch["label"] for batch in batches])[kept]
        order = np.random.default_rng(0).permutation(len(label))[: len(label) // TOGETHER * TOGETHER]
        found.append((video[order], label[order]))
    return found[0], found[1]


class Watch(Hook):
    """Looks at a run before its first step, at its half and at its end."""

    def __init__(self, training: Videos, validation: Videos):
        """Look at what these videos show of the run."""
        self.seen, self._videos = Seen(), {"training": training, "validation": validation}

    def start(self, trainer: Trainer) -> None:
        """Make what is computed, and look at the network as initialised."""
        self._gradient, self._inspect = _gradient_of(trainer), inspector(trainer.model)
        self._steps = {0, trainer.total_steps // 2, trainer.total_steps}
        self.after_step(trainer)

    def after_step(self, trainer: Trainer) -> None:
        """Look, if it is time."""
        if trainer.step not in self._steps:
            return
        video, label = (part[:PROBED] for part in self._videos["training"])
        sets = [jnp.asarray(part.reshape(-1, TOGETHER, *part.shape[1:])) for part in (video, label)]
        gradient = jax.device_get(self._gradient(trainer.state, *sets))
        self.seen.gradients[trainer.step] = relative(gradient, jax.device_get(trainer.state.params))
        variables = jax.device_get(trainer.state.variables)
        traces = self._inspect(variables, normalize(jnp.asarray(video), trainer.config.data))
        self.seen.scales[trainer.step] = scales_of({path: trace.scale for path, trace in traces.items()})

    def end(self, trainer: Trainer, report: Any) -> None:
        """Score all videos in both ways."""
        scores = {"running": _score_with(trainer, train=False), "of 8 clips": _score_with(trainer, train=True)}
        for name, videos in self._videos.items():
            for statistics, score in scores.items():
                self.seen.top1[f"{name}, {statistics}"] = top1(score, trainer.state, videos)


def _gradient_of(trainer: Trainer) -> Callable[[TrainState, jax.Array, jax.Array], Any]:
    """Return the function that takes a state and sets of clips to the mean gradient over the sets."""
    model, data = trainer.model, trainer.config.data

    def loss(params: Any, state: TrainState, video: jax.Array, label: jax.Array) -> jax.Array:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _ = model.apply(variables, normalize(video, data), train=True, mutable=["batch_stats"])
        return jnp.mean(cross_entropy(logits, jax.nn.one_hot(label, logits.shape[-1])))

    def mean(state: TrainState, videos: jax.Array, labels: jax.Array) -> Any:
        found = jax.lax.map(lambda part: jax.grad(loss)(state.params, state, *part), (videos, labels))
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), found)

    return jax.jit(mean)


def _score_with(trainer: Trainer, train: bool) -> Callable[[TrainState, jax.Array], jax.Array]:
    """Return the function that takes a state and clips to scores, with running statistics or those of the clips."""

    def score(state: TrainState, video: jax.Array) -> jax.Array:
        pixels = normalize(video, trainer.config.data)
        scores, _ = trainer.model.apply(state.variables, pixels, train=train, mutable=["batch_stats"])
        return scores

    return jax.jit(score)


def top1(score: Callable[[TrainState, jax.Array], jax.Array], state: TrainState, videos: Videos) -> float:
    """Return the per cent of videos that are right, scored in sets."""
    sets = np.split(videos[0], len(videos[1]) // TOGETHER)
    found = np.concatenate([np.argmax(score(state, jnp.asarray(part)), axis=-1) for part in sets])
    return 100 * float(np.mean(found == videos[1]))


def place_of(path: str) -> Place | None:
    """Return what a parameter is of; None for the others."""
    return next(((kind, match[1]) for kind, regex in KINDS.items() if (match := regex.match(path))), None)


def relative(gradient: Any, params: Any) -> dict[Place, float]:
    """Return the norm of the gradient over that of the parameters, by what they are of."""
    squares: dict[Place, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
    values = dict(jax.tree_util.tree_leaves_with_path(params))
    for keys, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        if place := place_of("/".join(key.key for key in keys)):
            squares[place] += np.sum(np.square(leaf)), np.sum(np.square(values[keys]))
    return {place: float(np.sqrt(of_gradient / of_values)) for place, (of_gradient, of_values) in squares.items()}


def scales_of(scales: Mapping[str, np.ndarray]) -> dict[Place, tuple[float, float]]:
    """Return mean and spread over clips of scales ``[N, F, C]`` by place; layers of one place are averaged."""
    found: dict[Place, list[tuple[float, float]]] = collections.defaultdict(list)
    for path, scale in scales.items():
        if match := re.match(r"backbone/layer(\d)/block\d/norm(\d)", path):
            kind = "cell of CL" if match[2] == "1" else "cells of CT"
            spread = np.mean(np.std(scale, axis=0) / np.mean(scale, axis=0))
            found[kind, match[1]].append((float(np.mean(scale)), float(spread)))
    return {place: tuple(np.mean(values, axis=0)) for place, values in found.items()}


def watch(row: str, seed: int, steps: int, folder: pathlib.Path) -> Seen:
    """Train a row of the table ``why`` with a seed, and return what was seen."""
    (found,) = find_rows(TABLES["why"], row)
    config = make_config(Run(found.setting, "generated", seed=seed), "", folder / "runs")
    config.train.loggers = ()
    if steps:
        config.train.steps = config.train.eval_every = steps
    watching = Watch(*read_videos(config))
    train(config, folder / "runs" / f"{row}-{seed}", hooks=[watching])
    return watching.seen


def markdown(seen: Mapping[str, Sequence[Seen]]) -> Iterator[str]:
    """Yield the lines of the tables: of gradients, of scales, of top-1."""
    columns = ["row", "step", "of", *(f"stage {stage}" for stage in STAGES)]
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    yield f"Relative gradient, in thousandths:\n\n{head}"
    for row, step, kind, runs in _moments(seen):
        found = [[1000 * run.gradients[step][kind, stage] for run in runs] for stage in STAGES]
        yield f"| {row} | {step} | {kind} | {' | '.join(f'{np.mean(values):.2f}' for values in found)} |"
    yield f"\nMean predicted scale, and behind it its spread over clips in per cent:\n\n{head}"
    for row, step, kind, runs in _moments(seen):
        if (kind, STAGES[0]) in runs[0].scales[step]:
            found = [np.mean([run.scales[step][kind, stage] for run in runs], axis=0) for stage in STAGES]
            cells = " | ".join(f"{mean:.2f}; {100 * spread:.1f}" for mean, spread in found)
            yield f"| {row} | {step} | {kind} | {cells} |"
    names = list(next(iter(seen.values()))[0].top1)
    yield f"\nTop-1 after training, by videos and statistics:\n\n| row | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for row, runs in seen.items():
        yield f"| {row} | {' | '.join(f'{np.mean([run.top1[name] for run in runs]):.1f}' for name in names)} |"


def _moments(seen: Mapping[str, Sequence[Seen]]) -> Iterator[tuple[str, int, str, Sequence[Seen]]]:
    """Yield row, step and kind of each line that is of some parameters, and the runs that it is a mean over."""
    for row, runs in seen.items():
        for step, places in runs[0].gradients.items():
            yield from ((row, step, kind, runs) for kind in KINDS if (kind, STAGES[0]) in places)


def main() -> None:
    """Train all rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=ROWS, help="rows of the table 'why' of dnr reproduce")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="0: as many as dnr reproduce takes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = {
            row: [watch(row, seed, args.steps, pathlib.Path(folder)) for seed in range(args.seeds)] for row in args.rows
        }
    print("\n".join(markdown(seen)))


if __name__ == "__main__":
    main()
