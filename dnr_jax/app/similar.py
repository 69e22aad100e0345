"""Which training clips a network finds most like another one: their features, kept in a file beside the run."""

import dataclasses
import io
import json
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from dnr_jax.convert.files import complete_file
from dnr_jax.evaluation.videos import open_data
from dnr_jax.explain.explainer import Explainer
from dnr_jax.explain.pictures import evenly
from dnr_jax.report.features import clip_features

FILE = "training_clips.npz"
DEFAULT_COUNT = 300
"""Training clips whose features are computed, unless the command line says otherwise."""


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A training clip that a network finds like another one.

    Attributes:
      name: of its video.
      label: its class.
      similarity: cosine of the angle between the features of both, from -1 to 1, the mean of all training clips being
        the origin.
      film: frames side by side, of a JPEG's bytes.
    """

    name: str
    label: str
    similarity: float
    film: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingClips:
    """Clips of a training set, as a network sees them.

    Attributes:
      step: of the checkpoint that the network is.
      asked: how many clips were asked for; of small data there are fewer.
      features: float32 ``[N, C]``.
      names: of the videos.
      labels: names of their classes.
      films: frames side by side, of a JPEG's bytes each.
    """

    step: int
    asked: int
    features: np.ndarray
    names: Sequence[str]
    labels: Sequence[str]
    films: Sequence[bytes]

    def nearest(self, features: np.ndarray, count: int) -> list[Neighbour]:
        """Return the clips whose features are most like others, the most similar first.

        Args:
          features: of a clip, float32 ``[C]``.
          count: how many; of fewer clips all.
        """
        # Features behind a ReLU all point the same way; their mean says nothing about a clip.
        origin = self.features.mean(axis=0)
        similarities = _directions(self.features - origin) @ _directions((features - origin)[None])[0]
        order = np.argsort(-similarities, kind="stable")[:count]
        return [Neighbour(self.names[i], self.labels[i], float(similarities[i]), self.films[i]) for i in order]

    def save(self, path: pathlib.Path) -> None:
        """Write a file, whole or not at all; it holds arrays and text, and nothing that could run."""
        texts = {"step": self.step, "asked": self.asked, "names": list(self.names), "labels": list(self.labels)}
        content = io.BytesIO()
        np.savez(
            content,
            features=self.features,
            texts=np.frombuffer(json.dumps(texts).encode(), np.uint8),
            films=np.frombuffer(b"".join(self.films), np.uint8),
            lengths=np.array([len(film) for film in self.films], np.int64),
        )
        with complete_file(path) as partial:
            partial.write_bytes(content.getvalue())

    @classmethod
    def load(cls, path: pathlib.Path) -> "TrainingClips | None":
        """Return what :meth:`save` wrote; None where there is no such file, or it is damaged."""
        try:
            content = io.BytesIO(path.read_bytes())  # numpy leaves a file open that it cannot read
            with np.load(content, allow_pickle=False) as file:
                texts = json.loads(file["texts"].tobytes())
                ends = np.cumsum(file["lengths"])
                films = [part.tobytes() for part in np.split(file["films"], ends[:-1])]
                found = cls(texts["step"], texts["asked"], file["features"], texts["names"], texts["labels"], films)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        same = len(found.features) == len(found.names) == len(found.labels) == len(films)
        return found if same and found.features.ndim == 2 else None


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def training_clips(explainer: Explainer, count: int | None, root: str | None = None) -> TrainingClips | None:
    """Return clips of a run's training set, evenly spaced: those kept in its folder, or computed and kept there.

    Args:
      explainer: of the run.
      count: how many; 0: none; None: as many as are in the file, or :data:`DEFAULT_COUNT`.
      root: where the videos are now; None: as in the run. With it the file is made anew.

    Returns:
      The clips; None where none are wanted, or none of them can be read.

    Raises:
      ConfigError: where the training videos are not where they were.
    """
    run = explainer.run
    if count == 0:
        return None
    path = run.workdir / FILE
    saved = None if root else TrainingClips.load(path)
    if saved and saved.step == run.step and count in (None, saved.asked):
        return saved
    asked = count or DEFAULT_COUNT
    source = open_data(run, "train", paths={"root": root})
    found = list(clip_features(explainer, source, evenly(len(source), asked)))
    if not found:
        return None
    clips = TrainingClips(
        run.step,
        asked,
        np.stack([clip.features for clip in found]),
        [source.names[clip.index] for clip in found],
        [run.classes[source.labels[clip.index]] for clip in found],
        [clip.film for clip in found],
    )
    try:
        clips.save(path)
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror}); the next start computes the training clips again")
    return clips
