"""Labels for single video files."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from dnr_jax.config import with_views
from dnr_jax.data.decode import DecodeError
from dnr_jax.data.pipeline import load_clip
from dnr_jax.evaluation.metrics import ranking
from dnr_jax.evaluation.run import load_run
from dnr_jax.training.devices import make_mesh, place_batch
from dnr_jax.training.step import make_eval_step


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network sees in a video.

    Attributes:
      path: the video file.
      labels: names of the best classes, the best first; empty where the video could not be decoded.
      scores: their probabilities.
      error: why the video could not be decoded; empty where it could.
    """

    path: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str = ""

    def __str__(self) -> str:
        """The path, and below it a line for each label; or the path and the reason."""
        if self.error:
            return f"cannot decode {self.error}"
        lines = [f"  {score:6.1%}  {label}" for label, score in zip(self.labels, self.scores, strict=True)]
        return "\n".join([self.path, *lines])


def predict(
    workdir: str | pathlib.Path,
    paths: Sequence[str | pathlib.Path],
    top: int = 5,
    views: tuple[int, int] | None = None,
    checkpoint: str = "latest",
) -> Iterator[Prediction]:
    """Label video files with the network of a run, one at a time, on one device.

    Args:
      workdir: folder of the run.
      paths: video files of any format that FFmpeg reads.
      top: how many labels.
      views: clips and crops of each video; default: as the run's configuration says.
      checkpoint: ``latest`` or ``best``.

    Yields:
      A prediction for each path, in order; a file that cannot be decoded yields its reason.

    Raises:
      ConfigError: where the folder holds no trained network; before the first prediction.
    """
    mesh = make_mesh(jax.local_devices()[:1])
    run = load_run(workdir, mesh, checkpoint)
    step = make_eval_step(run.model, run.config, mesh)
    evaluation = with_views(run.config.evaluation, views)
    for path in map(str, paths):
        try:
            video = load_clip(path, run.config.data, evaluation)
        except DecodeError as error:
            yield Prediction(path, error=str(error))
            continue
        scores = np.asarray(step(run.variables, place_batch({"video": video[None]}, mesh))["scores"])
        best = ranking(scores, top)[0]
        yield Prediction(path, tuple(run.classes[i] for i in best), tuple(float(scores[0, i]) for i in best))
