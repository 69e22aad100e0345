"""A report and the folder of a run, made of numbers alone."""

import json
import pathlib

import numpy as np

from dnr_jax.config import ExperimentConfig, to_json
from dnr_jax.evaluation.evaluate import Report


def made_report(videos: int, classes: int, seed: int = 0) -> Report:
    """Scores of a network that takes every odd class for the one before it now and then, over four views."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(videos) % classes).astype(np.int32)
    logits = rng.normal(size=(videos, classes)).astype(np.float32)
    logits[np.arange(videos), labels] += 3
    logits[np.arange(videos), labels // 2 * 2] += 2
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    best = scores.argmax(axis=1)
    views = np.stack([np.where(rng.random(videos) < 0.3 / view, 0, best) for view in (1, 2, 3)] + [best], axis=1)
    names = tuple(f"class {label}/{i:06d}.mp4" for i, label in enumerate(labels))
    return Report(scores, labels, names, tuple(f"class {i}" for i in range(classes)), ("bad.mp4",), np.int32(views))


def write_rows(folder: pathlib.Path, top1: float = 0.5, steps: int = 40) -> None:
    """Write the metrics of a run that ends with a top-1."""
    rows = []
    for step in (*range(10, steps, 10), steps):
        times = {"seconds": 2.0, "clips_per_second": 9.0}
        rows.append({"kind": "train", "step": step, "loss": 10 / step, "accuracy": top1 * step / steps, "time": times})
        rows.append({"kind": "validation", "step": step, "loss": 9 / step, "top1": top1 * step / steps, "time": {}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(folder: pathlib.Path, config: ExperimentConfig, top1: float = 0.5, finished: bool = True) -> pathlib.Path:
    """Write what a comparison reads of a run; one whose length is left to epochs has 40 steps."""
    steps = config.train.steps or 40
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(config))
    write_rows(folder, top1, steps)
    if finished:
        numbers = {"step": steps, "top1": top1, "top5": 1.0, "mean_class_accuracy": top1, "loss": 1.0}
        (folder / "evaluation.json").write_text(json.dumps(numbers))
    return folder
