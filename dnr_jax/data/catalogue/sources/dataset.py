"""Public data sets as they are on the disk."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Annotated

from annotated_types import Ge

from dnr_jax.config import Catalogue, Location, Problem, Source, VideoSource, register
from dnr_jax.config.parts import nearest
from dnr_jax.data.catalogue.datasets import DATASETS, Match, match
from dnr_jax.data.catalogue.sources.making import same_video, video_source
from dnr_jax.data.catalogue.textfiles import first_of

_logger = logging.getLogger(__name__)


@register
@dataclasses.dataclass
class Dataset(Source):
    """A public data set, read from the disk as its own archives hold it."""

    name: str = ""
    """Which one, such as ``kinetics400`` or ``ucf101``."""
    root: Annotated[str, Location(kind="folder", holds="the folder of the data set", needed=True)] = ""
    """The folder of its videos."""
    annotations: Annotated[str, Location(kind="folder", holds="the annotation files of the data set")] = ""
    """The folder of its annotation files; empty: looked for in ``root``."""
    fold: Annotated[int, Ge(1)] = 1
    """Which of the three official divisions of UCF101 and HMDB51."""

    def problems(self) -> Iterator[str]:
        """Refuse names and divisions that there are not."""
        if not self.name:
            yield "name: is empty; Dataset needs a name, such as 'kinetics400'"
        elif self.name not in DATASETS:
            meant = nearest(self.name, list(DATASETS))
            yield f"name: there is no data set '{self.name}'{meant}; expected one of {', '.join(DATASETS)}"
        elif self.fold > DATASETS[self.name].folds:
            folds = DATASETS[self.name].folds
            expected = f"1 to {folds}" if folds > 1 else "1, because there is only one"
            yield f"fold: is {self.fold}, which {self.name} does not have; expected {expected}"

    def load(self) -> tuple[VideoSource, VideoSource]:
        """Find the videos of the splits ``train`` and ``val``; warn of those that are missing or annotated twice."""
        catalogue = self._load(("train", "val"))
        return catalogue.splits["train"], catalogue.splits["val"]

    def load_split(self, split: str) -> VideoSource:
        """Find the videos of one split; the annotations of the others need not be there."""
        return self._load((split,)).splits[split]

    def _load(self, splits: Sequence[str]) -> Catalogue:
        catalogue = self.open(splits)
        for split, missing in catalogue.missing.items():
            if missing:
                message = "%s: %d of %d videos of the split '%s' are missing in '%s' and left out"
                total = len(missing) + len(catalogue.splits[split])
                _logger.warning(message, self.name, len(missing), total, split, self.root)
        if catalogue.problems:
            message = "%s: %d videos have several labels or are annotated several times, for example %s"
            _logger.warning(message, self.name, len(catalogue.problems), catalogue.problems[0])
        return catalogue

    def open(self, splits: Sequence[str] | None = None) -> Catalogue:
        """Find the videos, those that are missing, and those that several annotations find."""
        for problem in self.problems():
            raise ValueError(problem)
        dataset = DATASETS[self.name]
        classes, matches = match(dataset, self.root, self.annotations, self.fold, splits or ("train", "val"))
        return Catalogue(
            name=self.name if dataset.folds == 1 else f"{self.name}_split{self.fold}",
            classes=classes,
            splits={split: self._videos(split, listed, classes) for split, listed in matches.items()},
            missing={
                split: [(video.name, video.label) for video in listed if video.label is not None and not video.path]
                for split, listed in matches.items()
            },
            unknown={
                split: [video.name for video in listed if video.label is None] for split, listed in matches.items()
            },
            frame_rate=dataset.frame_rate,
            problems=[
                problem for split, listed in matches.items() for problem in _annotation_problems(split, listed, classes)
            ],
        )

    def _videos(self, split: str, listed: Sequence[Match], classes: Sequence[str]) -> VideoSource:
        """Return the videos of a split that are there, and whose class is known."""
        title = DATASETS[self.name].title
        if all(video.label is None for video in listed):
            raise ValueError(f"{title}: the annotations of the split '{split}' tell no class of any video")
        there = [video for video in listed if video.path and video.label is not None]
        if not there:
            raise FileNotFoundError(
                f"{self.root}: none of the {len(listed)} videos of {title}, split '{split}', is there, for example "
                f"{first_of([video.name for video in listed])}"
            )
        return video_source(self.root, [video.path for video in there], [video.label for video in there], classes)


def _annotation_problems(split: str, matches: Sequence[Match], classes: Sequence[str]) -> list[Problem]:
    """Two annotations find the same file where its name does not tell which part of a video it is.

    That is not for the user to correct, and no reason to refuse the others.
    """
    found = [(match.path, match.label, match.name) for match in matches if match.path and match.label is not None]
    problems = same_video(split, found, classes)
    return [dataclasses.replace(p, kind="ambiguous") if p.kind == "mislabelled" else p for p in problems]
