"""Which start of the relays fine-tunes better: the authors' initialisation, or batch normalisation's scales and shifts.

A TSN with batch normalisation learns to tell the demo's four pairs of classes apart, for which the order of the frames
does not matter. From its weights a TSN with DNR learns the eight classes, for which it does, on other clips: with
``init.relays`` ``fresh`` and ``batch_norm``, and from scratch. Steps and seeds are the same. Clips are drawn in memory.

    python benchmarks/warm_start.py                  # bottlenecks, two a stage (timm's ResNet-26)
    python benchmarks/warm_start.py --depth 18       # basic blocks, two a stage
    python benchmarks/warm_start.py --no-interlace   # order can only enter through the relay
"""

import argparse
import copy
import dataclasses
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import ExperimentConfig, load_config
from dnr_jax.convert import OWN, to_state_dict
from dnr_jax.convert.source import Source, fit_source
from dnr_jax.data.catalogue.demo import CLASSES, draw, trajectory
from dnr_jax.models import create_model
from dnr_jax.models.resnet import ARCHITECTURES, Architecture
from dnr_jax.runs.devices import make_mesh
from dnr_jax.runs.inference import normalize
from dnr_jax.runs.state import TrainState
from dnr_jax.training.optimizer import make_optimizer, make_schedule
from dnr_jax.training.state import create_state, with_variables
from dnr_jax.training.step import make_train_step

DEMO = pathlib.Path(__file__).parents[1] / "configs" / "demo.py"
STARTS = {"relays fresh": "fresh", "relays at batch norm": "batch_norm", "from scratch": ""}
Clips = tuple[np.ndarray, np.ndarray]
"""uint8 ``[N, T, H, W, 3]`` and the classes, int32 ``[N]``."""


def draw_clips(stream: int, count: int, frames: int, size: int) -> Clips:
    """Return clips of the demo's videos, the classes in turn."""
    videos, labels = [], np.arange(count, dtype=np.int32) % len(CLASSES)
    for number, label in enumerate(labels):
        rng = np.random.default_rng((stream, number))
        videos.append(draw(trajectory(int(label), rng, frames), size, rng))
    return np.stack(videos), labels


def in_pairs(clips: Clips) -> Clips:
    """Return the clips with their pairs of classes for classes."""
    return clips[0], clips[1] // 2


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """A network with its compiled steps, for several runs."""

    config: ExperimentConfig
    begin: Callable[[int], TrainState]
    restart: Callable[[TrainState, dict], TrainState]
    step: Callable[[TrainState, dict], tuple[TrainState, dict]]
    score: Callable[[dict, jax.Array], jax.Array]

    @classmethod
    def of(cls, config: ExperimentConfig, steps: int) -> "Trainer":
        """Compile nothing yet; the steps do at their first call."""
        mesh, model = make_mesh(), create_model(config.model)
        schedule = make_schedule(config.optimizer, config.train.batch_size, steps)
        tx = make_optimizer(config.optimizer, schedule)
        return cls(
            config,
            lambda seed: create_state(model, tx, config.data.clip_shape, mesh, seed),
            lambda state, variables: with_variables(state, tx, variables),
            make_train_step(model, tx, schedule, config, mesh),
            jax.jit(lambda variables, video: model.apply(variables, normalize(video, config.data), train=False)),
        )

    def accuracy(self, variables: dict, clips: Clips) -> float:
        """Return the top-1 accuracy over the clips."""
        parts = [self.score(variables, jnp.asarray(part)) for part in np.split(clips[0], len(clips[0]) // 40)]
        return float(np.mean(np.argmax(np.concatenate(parts), -1) == clips[1]))

    def fit(
        self, state: TrainState, clips: Clips, validation: Clips, steps: int, every: int
    ) -> tuple[TrainState, list]:
        """Train; return the state, the loss over the first 20 steps, and the accuracy after every so many."""
        rng, size = np.random.default_rng(int(jax.random.key_data(state.key)[-1])), self.config.train.batch_size
        losses, scores = [], []
        order = np.concatenate([rng.permutation(len(clips[1])) for _ in range(steps * size // len(clips[1]) + 1)])
        for i in range(steps):
            chosen = order[i * size : (i + 1) * size]
            batch = {"video": clips[0][chosen], "label": clips[1][chosen], "weight": np.ones(size, np.float32)}
            state, metrics = self.step(state, batch)
            losses.append(float(metrics["loss"]))
            if (i + 1) % every == 0:
                scores.append(100 * self.accuracy(state.variables, validation))
        return state, [float(np.mean(losses[:20])), *scores]


def started(trainer: Trainer, source: Source, relays: str, seed: int) -> TrainState:
    """Return the state before the first step; without ``relays`` from scratch."""
    state = trainer.begin(seed)
    if not relays:
        return state
    config = copy.deepcopy(trainer.config)
    config.init.allow, config.init.relays = "head,relays", relays
    return trainer.restart(state, fit_source(source, config).apply(state.variables))


def table(results: dict[str, list[list[float]]], columns: list[str]) -> str:
    """Return the means over the seeds as Markdown, with the standard deviation of the seeds."""
    lines = [f"| start | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for start, runs in results.items():
        cells = (f"{mean:.1f} ± {std:.1f}" for mean, std in zip(np.mean(runs, 0), np.std(runs, 0), strict=True))
        lines.append(f"| {start} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train all networks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=50, help="18 for basic blocks, 50 for bottlenecks")
    parser.add_argument("--blocks", type=int, nargs=4, default=(2, 2, 2, 2), help="blocks of each stage")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--size", type=int, default=16, help="side of the frames in pixels")
    parser.add_argument("--clips", type=int, default=480, help="training clips of each of the two tasks")
    parser.add_argument("--source-steps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--no-interlace", dest="interlace", action="store_false", help="in both networks")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    ARCHITECTURES[args.depth] = Architecture(ARCHITECTURES[args.depth].block, tuple(args.blocks))

    def experiment(variant: str, classes: int) -> ExperimentConfig:
        config = load_config(f"{DEMO}:{variant}")
        config.model.depth, config.model.width, config.model.num_classes = args.depth, args.width, classes
        config.optimizer.learning_rate, config.optimizer.warmup_steps = args.learning_rate, args.warmup
        config.data.crop_size = args.size
        return config

    before, after = ("bn_interlace", "dnr") if args.interlace else ("bn", "dnr_no_interlace")
    pretrained, pairs = experiment(before, 4), experiment(after, 4)
    frames = pretrained.data.sampler.num_frames
    first, second, validation = (
        draw_clips(stream, count, frames, args.size) for stream, count in enumerate((args.clips, args.clips, 240))
    )
    trainer = Trainer.of(pretrained, args.source_steps)
    state, found = trainer.fit(trainer.begin(0), in_pairs(first), in_pairs(validation), args.source_steps, args.every)
    print(f"source: loss of steps 1 to 20 and top-1 of the pairs {[round(value, 1) for value in found]}", flush=True)
    source = Source("source", to_state_dict(state.variables, OWN), "own")
    untrained, trainer = Trainer.of(pairs, 1), Trainer.of(experiment(after, len(CLASSES)), args.steps)
    results: dict[str, list[list[float]]] = {start: [] for start in STARTS}
    columns = ["pairs, step 0", "loss, steps 1 to 20"]
    columns += [f"top-1, step {step}" for step in range(args.every, args.steps + 1, args.every)]
    for seed in range(args.seeds):
        for start, relays in STARTS.items():
            unchanged = untrained.accuracy(started(untrained, source, relays, seed).variables, in_pairs(validation))
            _, found = trainer.fit(started(trainer, source, relays, seed), second, validation, args.steps, args.every)
            results[start].append([100 * unchanged, *found])
            print(f"seed {seed}, {start}: {[round(value, 2) for value in results[start][-1]]}", flush=True)
        print(table(results, columns), flush=True)


if __name__ == "__main__":
    main()
