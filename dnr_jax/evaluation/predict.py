"""Labels for single video files."""

import contextlib
import dataclasses
import http.client
import os
import pathlib
import re
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import IO

import jax
import numpy as np

from dnr_jax.config import with_views
from dnr_jax.data.catalogue.folders import find_media
from dnr_jax.data.clips.decode import DecodeError
from dnr_jax.data.clips.frame_files import FRAME_SUFFIXES
from dnr_jax.data.clips.pipeline import load_clip
from dnr_jax.evaluation.metrics import ranking
from dnr_jax.runs.devices import make_mesh, place_batch
from dnr_jax.runs.folder import load_run
from dnr_jax.runs.inference import make_eval_step


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network sees in a video.

    Attributes:
      path: the video file.
      labels: names of the best classes, the best first; empty where the video could not be scored.
      scores: their probabilities.
      error: why the video could not be scored; empty where it could. Names the video.
    """

    path: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str = ""

    def __str__(self) -> str:
        """Return the path, and below it a line for each label; or the path and the reason."""
        if self.error:
            return f"cannot decode {self.error}"
        lines = [f"  {score:6.1%}  {label}" for label, score in zip(self.labels, self.scores, strict=True)]
        return "\n".join([self.path, *lines])


def find_videos(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return paths with each folder of videos replaced by the videos in it, at any depth, sorted.

    A folder of frames is a video itself. Files, web addresses and folders without videos stay as they are.
    """
    found: list[str] = []
    for path in (os.fspath(path) for path in paths):
        found += _videos_in(path) or [path]
    return found


def _videos_in(folder: str) -> list[str]:
    """Return the videos in a folder that is no video itself; whatever cannot be read is left to the decoder."""
    if not os.path.isdir(folder):
        return []
    media = find_media(folder)
    if media.videos:
        media.left_out.warn(folder)
    return [os.path.join(folder, video) for video in media.videos]


def predict(
    workdir: str | pathlib.Path,
    paths: Sequence[str | os.PathLike[str]],
    top: int = 5,
    views: tuple[int, int] | None = None,
    checkpoint: str = "latest",
) -> Iterator[Prediction]:
    """Label video files with the network of a run, one at a time, on one device.

    Whatever is wrong with one of them costs none of the others.

    Args:
      workdir: folder of the run.
      paths: video files of any format that FFmpeg reads, folders of frames, and folders of videos
        (:func:`find_videos`).
      top: how many labels.
      views: clips and crops of each video; default: as the run's configuration says.
      checkpoint: ``latest`` or ``best``.

    Yields:
      A prediction for each video, in order; one that cannot be scored yields the reason.

    Raises:
      ConfigError: where the folder holds no trained network; before the first prediction.
    """
    mesh = make_mesh(jax.local_devices()[:1])
    run = load_run(workdir, mesh, checkpoint)
    step = make_eval_step(run.model, run.config, mesh)
    evaluation = with_views(run.config.evaluation, views)

    def score(path: str) -> np.ndarray:
        with _local_file(path) as file:
            video = load_clip(file, run.config.data, evaluation)
        return np.asarray(step(run.variables, place_batch({"video": video[None]}, mesh))["scores"])[0]

    for path in find_videos(paths):
        try:
            scores = score(path)
        except DecodeError as error:
            yield Prediction(path, error=str(error))
        except Exception as error:  # whatever it is: the videos behind this one have nothing to do with it
            yield Prediction(path, error=f"{path}: {type(error).__name__}: {error}")
        else:
            best = ranking(scores[None], top)[0]
            yield Prediction(path, tuple(run.classes[i] for i in best), tuple(float(scores[i]) for i in best))


@contextlib.contextmanager
def _local_file(path: str) -> Iterator[str]:
    """Lend what the decoder reads: the path itself, or of a web address a copy for as long as it is needed.

    Raises:
      DecodeError: for what is no video by its name alone, and for what cannot be fetched.
    """
    url = re.match(r"([A-Za-z][\w+.-]*)://", path)
    scheme = url[1].lower() if url else ""
    if scheme in ("http", "https"):
        with tempfile.NamedTemporaryFile(suffix=pathlib.PurePath(urllib.parse.urlsplit(path).path).suffix) as copy:
            try:
                _fetch(path, copy)
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise DecodeError(f"{path}: {error}") from error
            try:
                yield copy.name
            except DecodeError as error:
                raise DecodeError(str(error).replace(copy.name, path)) from error
        return
    if scheme not in ("", "gs", "s3"):
        raise DecodeError(f"{path}: {scheme}:// is not read; expected a file, http://, https://, gs:// or s3://")
    if not scheme and os.path.isdir(path) and not _has_frames(path):
        raise DecodeError(f"{path}: a folder without videos; expected video files or frames in it")
    yield path


def _has_frames(folder: str) -> bool:
    return any(os.path.splitext(name)[1].lower() in FRAME_SUFFIXES for name in os.listdir(folder))


def _fetch(url: str, copy: IO[bytes]) -> None:
    with urllib.request.urlopen(url, timeout=30) as response:
        if response.headers.get_content_type() == "text/html":
            raise OSError("this is a web page and no video file")
        shutil.copyfileobj(response, copy)
    copy.flush()
