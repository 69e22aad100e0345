"""Do maps lie on what moves? Grad-CAM and the others on the demo's videos, where the pixels of the shape are known.

    python benchmarks/explained_demo.py runs/demo
    python benchmarks/explained_demo.py runs/demo --methods occlusion,frames --videos 24

Two figures a method. *Mass ratio*: the share of a map's mass that lies on the shape, divided by the shape's share of
the pixels; 1 where the map knows nothing of it. *Pointing game*: the share of clips whose highest pixel lies on the
shape, give or take two pixels. Beside each stands what the same maps score when they are laid over other clips: that
tells maps which follow the shape from those which like the middle of the frame, where shapes are on average.

A method passes where its mass ratio is above 1 and above that over other clips, by more than its 95% interval. The exit
status is 1 unless Grad-CAM passes at every stage and smooth random maps do not.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import cv2
import jax
import numpy as np

from dnr_jax.config import with_views
from dnr_jax.data.catalogue.demo import CLASSES, draw, trajectory
from dnr_jax.data.clips.pipeline import clip_of_frames
from dnr_jax.explain import Explainer
from dnr_jax.runs.devices import make_mesh
from dnr_jax.runs.folder import load_run

STREAM = 7
"""Of random numbers: neither training nor validation videos are drawn from it."""
SHAPE_BRIGHTNESS = 140
"""Between the darkest channel of shapes, 170 and more, and that of backgrounds, 100 and less."""
NEIGHBOURHOOD = 2
"""Pixels beside the shape that count as a hit."""


class Score(NamedTuple):
    """How well maps find the shapes.

    Attributes:
      mass_ratio: mean over clips.
      interval: half of its 95% interval.
      pointing: share of clips.
    """

    mass_ratio: float
    interval: float
    pointing: float


def shape_of(clips: np.ndarray) -> np.ndarray:
    """Return which pixels of the demo's clips ``[N, T, H, W, 3]`` show the shape, bool ``[N, T, H, W]``."""
    return clips.min(axis=-1) > SHAPE_BRIGHTNESS


def score(maps: np.ndarray, shapes: np.ndarray) -> Score:
    """Score maps ``[N, T, H, W]`` against shapes, bool of the same shape."""
    axes = (1, 2, 3)
    mass = np.where(shapes, maps, 0).sum(axes) / np.maximum(maps.sum(axes), np.finfo(np.float32).tiny)
    ratios = mass / shapes.mean(axes)
    side = 2 * NEIGHBOURHOOD + 1
    near = np.stack([[cv2.dilate(f, np.ones((side, side))) for f in s.astype(np.uint8)] for s in shapes])
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    hits = near.reshape(len(maps), -1)[np.arange(len(maps)), highest] > 0
    interval = 1.96 * ratios.std(ddof=1) / len(ratios) ** 0.5
    return Score(float(ratios.mean()), float(interval), float(hits.mean()))


def clips_of(explainer: Explainer, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw videos as the network sees them, uint8 ``[N, T, H, W, 3]``, and the run's numbers of their classes."""
    config = explainer.run.config
    evaluation, labels = with_views(config.evaluation, (1, 1)), np.arange(count) % len(CLASSES)
    clips = []
    for number, label in enumerate(labels.tolist()):
        rng = np.random.default_rng((STREAM, number))
        frames = draw(trajectory(label, rng), 40, rng)
        clips.append(clip_of_frames(frames, 25, config.data, evaluation)[0])
    return np.stack(clips), np.array([explainer.run.classes.index(CLASSES[label]) for label in labels])


def methods_of(explainer: Explainer) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what makes maps of clips, by name; ``random`` are smooth maps of noise, of the same coarseness."""

    def noise(clips: np.ndarray) -> np.ndarray:
        coarse = np.random.default_rng(0).random((*clips.shape[:2], 4, 4), np.float32)
        return np.stack([[cv2.resize(frame, clips.shape[3:1:-1]) for frame in clip] for clip in coarse])

    stages = [f"backbone/layer{i}" for i in (4, 3, 2) if f"backbone/layer{i}" in explainer.layers]
    return {
        "random": noise,
        **{f"gradcam {s}": lambda clips, s=s: explainer.grad_cam(clips, layer=s).maps for s in stages},
        **{f"gradcam++ {s}": lambda clips, s=s: explainer.grad_cam(clips, layer=s, plus=True).maps for s in stages},
        "occlusion": lambda clips: explainer.occlusion(clips).maps,
        "frames": lambda clips: explainer.frame_importance(clips).maps,
    }


def passes(own: Score, other: Score) -> bool:
    """Return whether maps find the shape of their own clip."""
    return own.mass_ratio - own.interval > max(1.0, other.mass_ratio)


def main() -> int:
    """Print a line a method; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", help="work directory of a run on the demo")
    parser.add_argument("--videos", type=int, default=80, help="how many (default: 80)")
    parser.add_argument("--methods", default="random,gradcam", help="how their names begin (default: random,gradcam)")
    args = parser.parse_args()
    explainer = Explainer(load_run(args.workdir, make_mesh(jax.local_devices()[:1])))
    clips, labels = clips_of(explainer, args.videos)
    shapes = shape_of(clips)
    right = explainer.scores(clips).argmax(axis=1) == labels
    print(f"{args.videos} new videos, {right.mean():.1%} right; the shape is {shapes.mean():.1%} of the pixels")
    print(f"{'method':<28}{'mass ratio':>14}{'other clips':>13}{'pointing':>10}{'other clips':>13}")
    wrong = False
    for name, make in methods_of(explainer).items():
        if name.startswith(tuple(args.methods.split(","))):
            maps = make(clips)
            # Three clips on there is one of another pair of classes.
            own, other = score(maps, shapes), score(np.roll(maps, 3, axis=0), shapes)
            ratio, verdict = f"{own.mass_ratio:.2f} +- {own.interval:.2f}", "passes" if passes(own, other) else "fails"
            points = f"{own.pointing:>10.0%}{other.pointing:>13.0%}"
            print(f"{name:<28}{ratio:>14}{other.mass_ratio:>13.2f}{points}  {verdict}", flush=True)
            wrong |= (name == "random") == passes(own, other) and name.startswith(("random", "gradcam"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
