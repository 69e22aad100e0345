"""Scoring a set of videos with a trained network, each video exactly once."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from dnr_jax.config import EvaluationConfig, ExperimentConfig, VideoSource
from dnr_jax.data.clips.pipeline import evaluation_iterator
from dnr_jax.dnr.statistics import Variables
from dnr_jax.evaluation import metrics, outputs
from dnr_jax.progress import Progress
from dnr_jax.runs.devices import Prefetcher, explained_memory
from dnr_jax.runs.inference import EvalStep, make_eval_step

_LESS_MEMORY = "Fewer videos at once need less: a smaller evaluation.batch_size (of dnr evaluate: --batch-size)"
"""What to do where a batch does not fit."""


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What a network makes of a set of videos.

    Attributes:
      scores: probabilities float32 ``[videos, classes]``, in the order of the source.
      labels: int32 ``[videos]``.
      names: names of the videos.
      classes: names of the classes.
      undecoded: names of the videos that could not be decoded; they do not count.
      by_views: best class of each video by the first view, the first two, ..., all of them: int32 ``[videos, views]``;
        None where that is not known.
    """

    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]
    undecoded: tuple[str, ...] = ()
    by_views: np.ndarray | None = None

    @property
    def top1(self) -> float:
        """Share of videos whose best class is right."""
        return metrics.top_k_accuracy(self.scores, self.labels, 1)

    @property
    def top5(self) -> float:
        """Share of videos whose class is among the best five."""
        return metrics.top_k_accuracy(self.scores, self.labels, 5)

    @property
    def mean_class_accuracy(self) -> float:
        """Top-1 averaged over the classes instead of the videos."""
        return metrics.mean_class_accuracy(self.scores, self.labels)

    @property
    def loss(self) -> float:
        """Cross-entropy of the probabilities, in nats."""
        return metrics.cross_entropy(self.scores, self.labels)

    @property
    def correct(self) -> int:
        """Number of videos whose best class is right."""
        return int(np.trace(self.confusion))

    @property
    def confusion(self) -> np.ndarray:
        """Videos of each class (row) taken for each class (column): int64 ``[classes, classes]``."""
        return metrics.confusion_matrix(self.scores, self.labels)

    def summary(self) -> dict[str, float]:
        """Return the numbers, for a metrics file."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "loss": self.loss,
            "correct": self.correct,
            "videos": len(self.labels),
            "undecoded": len(self.undecoded),
        }

    def __str__(self) -> str:
        """Return the one line that a run ends with."""
        if not len(self.labels):
            return f"validation top-1 is not known: none of the {len(self.undecoded)} videos could be decoded"
        return f"validation top-1 {self.top1:.1%} ({self.correct}/{len(self.labels)} videos)"

    def write(self, workdir: str | pathlib.Path, **details: Any) -> None:
        """Write the files of an evaluation: see :func:`dnr_jax.evaluation.outputs.write`, which ``details`` go to."""
        content = details | self.summary() | {"undecoded_videos": self.undecoded}
        if self.by_views is not None and len(self.labels):
            content["top1_by_views"] = np.mean(self.by_views == self.labels[:, None], axis=0).tolist()
        scored = (self.scores, self.labels, self.names, self.classes)
        outputs.write(pathlib.Path(workdir), content, *scored, self.by_views)


def read_report(folder: str | pathlib.Path) -> Report:
    """Return the report whose files :meth:`Report.write` left in a folder.

    Raises:
      FileNotFoundError: where its scores are not there.
      ValueError: where they are damaged.
    """
    folder = pathlib.Path(folder)
    scores, labels, names, classes, by_views = outputs.read_scores(folder / outputs.SCORES_FILE)
    undecoded = outputs.read_numbers(folder).get("undecoded_videos", ())
    return Report(scores, labels, names, classes, tuple(undecoded), by_views)


def score_videos(
    eval_step: EvalStep,
    variables: Variables,
    source: VideoSource,
    config: ExperimentConfig,
    mesh: Mesh,
    evaluation: EvaluationConfig,
    progress: bool = False,
) -> Report:
    """Score all videos of a source, which all processes share, with a step made before.

    Args:
      eval_step: from :func:`dnr_jax.runs.inference.make_eval_step`.
      variables: ``params`` and ``batch_stats``.
      source: the videos.
      config: the experiment.
      mesh: the devices.
      evaluation: how many clips and crops a video.
      progress: whether to show a progress bar.

    Raises:
      OutOfMemoryError: where the memory of a device is not enough for a batch.
      ValueError: where the videos' labels do not count in the classes of the network.
    """
    if len(source.classes) != (config.model.num_classes or len(source.classes)):
        raise ValueError(
            f"the videos have {len(source.classes)} classes, and the network {config.model.num_classes}; "
            "dnr_jax.evaluation.videos.labelled finds those of a run by name"
        )
    size = -(-(config.evaluation.batch_size or config.train.batch_size) // mesh.size) * mesh.size
    batches = evaluation_iterator(
        source, config.data, evaluation, size // jax.process_count(), jax.process_index(), jax.process_count()
    )
    results = []
    shown = Progress(len(source), "evaluating", "video", first="compiling the network", show=progress)
    with explained_memory(_LESS_MEMORY), contextlib.closing(Prefetcher(batches, mesh)) as prefetched, shown as bar:
        for _, batch in prefetched:
            results.append(jax.device_get(eval_step(variables, batch)))
            bar.update(min(size, len(source) - size * (len(results) - 1)))
    return _report(results, source)


def _report(results: list[dict[str, np.ndarray]], source: VideoSource) -> Report:
    """Put results in the order of the source, without padding and without videos that could not be decoded."""
    joined = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
    counted = np.flatnonzero(joined["weight"])
    order = counted[np.argsort(joined["index"][counted])]
    return Report(
        scores=joined["scores"][order],
        labels=joined["label"][order],
        names=tuple(source.names[i] for i in joined["index"][order]),
        classes=tuple(source.classes),
        undecoded=tuple(source.names[i] for i in sorted(joined["failed"][joined["failed"] >= 0])),
        by_views=joined["by_views"][order],
    )


def evaluate(
    model: nn.Module,
    variables: Variables,
    source: VideoSource,
    config: ExperimentConfig,
    mesh: Mesh,
    evaluation: EvaluationConfig | None = None,
    progress: bool = False,
) -> Report:
    """Score all videos of a source, each exactly once, averaged over its views.

    Args:
      model: maps ``[N, T, H, W, 3]`` to scores before the softmax ``[N, classes]``.
      variables: ``params`` and ``batch_stats``.
      source: the videos.
      config: the experiment.
      mesh: the devices.
      evaluation: how many clips and crops a video; default: as ``config`` says.
      progress: whether to show a progress bar.

    Returns:
      The same report in every process.
    """
    step = make_eval_step(model, config, mesh)
    return score_videos(step, variables, source, config, mesh, evaluation or config.evaluation, progress)


def views(evaluation: EvaluationConfig, data_crop_size: int) -> str:
    """Return views in the notation of result tables: clips x crops and their size, such as ``10x3 of 256``."""
    return f"{evaluation.num_clips}x{evaluation.crops} of {evaluation.crop_size or data_crop_size}"


def undecoded_note(names: Sequence[str]) -> str:
    """Return a sentence that names videos which could not be decoded; empty where there are none."""
    more = ", ..." if len(names) > 10 else ""
    return f"{len(names)} videos could not be decoded and do not count: {', '.join(names[:10])}{more}" if names else ""
