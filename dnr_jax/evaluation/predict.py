"""Labels for videos: files, bytes, arrays and iterators of frames."""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, overload

import jax
import numpy as np

from dnr_jax.config import with_views
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.data.clips.decode import DecodeError
from dnr_jax.data.clips.pipeline import clip_of_frames, evaluation_side, load_clip
from dnr_jax.evaluation.inputs import Video, as_frames, collect, find_videos, local_file, name_of
from dnr_jax.evaluation.metrics import ranking
from dnr_jax.runs.devices import make_mesh, place_batch, replicated
from dnr_jax.runs.folder import Run, load_run
from dnr_jax.runs.inference import make_eval_step


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network sees in a video.

    Attributes:
      path: the video file; where it was none, what it was, such as ``array (16, 240, 320, 3)``.
      labels: names of the best classes, the best first; empty where the video could not be scored.
      scores: their probabilities.
      error: why the video could not be scored; empty where it could. Names the video.
    """

    path: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str = ""

    @property
    def label(self) -> str:
        """The best class; empty where the video could not be scored."""
        return self.labels[0] if self.labels else ""

    @property
    def score(self) -> float:
        """Its probability; 0 where the video could not be scored."""
        return self.scores[0] if self.scores else 0.0

    def as_json(self) -> str:
        """Return a JSON object on one line: ``video``, ``labels``, ``scores``, ``error``."""
        scores = [round(score, 6) for score in self.scores]
        return json.dumps({"video": self.path, "labels": self.labels, "scores": scores, "error": self.error})

    def __str__(self) -> str:
        """Return the path, and below it a line for each label; or the path and the reason."""
        if self.error:
            return f"cannot decode {self.error}"
        lines = [f"  {score:6.1%}  {label}" for label, score in zip(self.labels, self.scores, strict=True)]
        return "\n".join([self.path, *lines])


class Predictor:
    """Labels videos with the network of a run, as its evaluation does, on one device.

    .. code-block:: python

        predictor = Predictor("runs/mine")
        predictor("holiday.mp4").label
        [prediction.score for prediction in predictor(["a.mp4", frames, content])]

    A video is a path or an ``http://``, ``https://``, ``ftp://``, ``gs://`` or ``s3://`` address; the bytes of a file;
    an array of frames uint8 ``[T, H, W, 3]``, red, green and blue (OpenCV's are ``frames[..., ::-1]``); or an iterable
    of such frames, which is read to its end.

    The network is compiled once, at the first video or by :meth:`warm_up`: all clips of a run have one shape. Any
    number of threads may use a predictor; they read videos at the same time, and the device scores one after the other.

    Attributes:
      run: the network, its configuration and classes.
      top: labels of a prediction.
      evaluation: views of a video.
      variables: of the network, on the device.
      device: held while the device works for one thread.
    """

    def __init__(
        self,
        run: str | os.PathLike[str] | Run,
        *,
        top: int = 5,
        views: tuple[int, int] | None = None,
        checkpoint: str = "latest",
    ):
        """Load the network.

        Args:
          run: folder of the run, or the run itself.
          top: labels of a prediction, at least 1; of fewer classes all.
          views: clips and crops of each video; default: as the run's configuration says.
          checkpoint: ``latest`` or ``best``, of a folder.

        Raises:
          ConfigError: where the folder holds no trained network, or for views that there are not.
          ValueError: for no label.
        """
        if top < 1:
            raise ValueError(f"top is {top}; expected at least 1 label")
        self._mesh = make_mesh(jax.local_devices()[:1])
        self.run = run if isinstance(run, Run) else load_run(pathlib.Path(run), self._mesh, checkpoint)
        self.top = top
        self.evaluation = with_views(self.run.config.evaluation, views)
        self.variables = jax.device_put(self.run.variables, replicated(self._mesh))
        self._step = make_eval_step(self.run.model, self.run.config, self._mesh)
        self.device = threading.Lock()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of :meth:`score`."""
        return self.run.classes

    @overload
    def __call__(self, video: list[Any] | tuple[Any, ...], *, rate: float = 0.0) -> list[Prediction]: ...

    @overload
    def __call__(self, video: Video, *, rate: float = 0.0) -> Prediction: ...

    def __call__(self, video: Any, *, rate: float = 0.0) -> Prediction | list[Prediction]:
        """Label a video, or each of a list or tuple of videos.

        Args:
          video: one video, or several. A list of frames ``[H, W, 3]`` is one.
          rate: frames per second of arrays and iterators, for samplers that count in seconds; 0: not known.

        Returns:
          A prediction; of several a list, in which one that cannot be scored costs none of the others: its prediction
          has the reason.

        Raises:
          DecodeError: for a video that cannot be read.
          ValueError: for frames of another shape, order of axes or dtype; the message says what to do.
        """
        # A list within a list is a video of its own, whose frames NumPy would have to stack to count their axes.
        if isinstance(video, list | tuple) and (
            not video or isinstance(video[0], list | tuple) or np.ndim(video[0]) != 3
        ):
            with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
                return list(pool.map(functools.partial(self.attempt, rate=rate), video))
        return self._prediction(video, rate)

    def attempt(self, video: Video, *, rate: float = 0.0) -> Prediction:
        """Label one video; where that fails for whatever reason, return a prediction that says why."""
        try:
            return self._prediction(video, rate)
        except DecodeError as error:
            return Prediction(name_of(video), error=str(error))
        except ValueError as error:
            return Prediction(name_of(video), error=f"{name_of(video)}: {error}")
        except Exception as error:  # whatever it is: the other videos have nothing to do with it
            return Prediction(name_of(video), error=f"{name_of(video)}: {type(error).__name__}: {error}")

    def _prediction(self, video: Any, rate: float) -> Prediction:
        return self.best(self.score(self.read(video, rate=rate)[None])[0], name_of(video))

    def best(self, scores: np.ndarray, name: str = "") -> Prediction:
        """Return the best labels of scores float32 ``[K]``, as :meth:`score` gives them, under a name."""
        best = ranking(scores[None], self.top)[0]
        return Prediction(name, tuple(self.classes[i] for i in best), tuple(float(scores[i]) for i in best))

    def read(self, video: Video, *, rate: float = 0.0) -> np.ndarray:
        """Read the views of one video: uint8 ``[V, T, H, W, 3]``, V = clips x crops. Raises as a call does."""
        data = self.run.config.data
        if isinstance(video, str | os.PathLike):
            with local_file(os.fspath(video)) as file:
                return load_clip(file, data, self.evaluation)
        if isinstance(video, bytes | bytearray | memoryview):
            return load_clip(video if isinstance(video, bytes) else bytes(video), data, self.evaluation)
        if hasattr(video, "__array__"):
            return clip_of_frames(as_frames(video), rate, data, self.evaluation)
        if not hasattr(video, "__iter__") or hasattr(video, "read"):
            raise ValueError(
                f"a {type(video).__name__} is no video; expected a path, the bytes of a file, an array uint8 "
                "[T, H, W, 3], or what yields frames uint8 [H, W, 3]"
            )
        frames = collect(video, evaluation_side(data, self.evaluation))
        return clip_of_frames(frames, rate, data, self.evaluation)

    def score(self, views: np.ndarray) -> np.ndarray:
        """Score videos at once: views uint8 ``[B, V, T, H, W, 3]`` to probabilities float32 ``[B, K]``.

        The network is compiled anew for each other shape.
        """
        with self.device:
            return np.asarray(self._step(self.variables, place_batch({"video": views}, self._mesh))["scores"])

    def warm_up(self, videos: int = 1) -> None:
        """Compile the network for so many videos at once before the first comes."""
        frames, *_, colours = self.run.config.data.clip_shape
        side = self.evaluation.crop_size or self.run.config.data.crop_size
        views = self.evaluation.num_clips * self.evaluation.crops
        self.score(np.zeros((videos, views, frames, side, side, colours), np.uint8))


def predict(
    workdir: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    top: int = 5,
    views: tuple[int, int] | None = None,
    checkpoint: str = "latest",
) -> Iterator[Prediction]:
    """Label video files with the network of a run, one at a time, on one device.

    Whatever is wrong with one of them costs none of the others.

    Args:
      workdir: folder of the run.
      paths: video files of any format that FFmpeg reads, ``-`` for the standard input, addresses, folders of frames,
        and folders of videos (:func:`dnr_jax.evaluation.inputs.find_videos`).
      top: how many labels.
      views: clips and crops of each video; default: as the run's configuration says.
      checkpoint: ``latest`` or ``best``.

    Yields:
      A prediction for each video, in order; one that cannot be scored yields the reason.

    Raises:
      ConfigError: where the folder holds no trained network; before the first prediction.
    """
    predictor = Predictor(workdir, top=top, views=views, checkpoint=checkpoint)
    for path in find_videos(paths):
        yield predictor.attempt(path)
