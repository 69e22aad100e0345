"""Videos that ``dnr prepare`` wrote as records."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Self

from dnr_jax.config import Catalogue, Location, Source, VideoSource, register
from dnr_jax.data.catalogue import records


@register
@dataclasses.dataclass
class Records(Source):
    """What ``dnr prepare`` wrote."""

    root: Annotated[str, Location(kind="folder", holds="what 'dnr prepare' wrote", needed=True)] = ""
    """The folder that ``dnr prepare`` wrote to, or one in it that holds one prepared data set."""

    def load(self) -> tuple[VideoSource, VideoSource]:
        """Read the indices of the splits ``train`` and ``val``."""
        catalogue = self.open(("train", "val"))
        return catalogue.splits["train"], catalogue.splits["val"]

    def open(self, splits: Sequence[str] | None = None) -> Catalogue:
        """Read the indices, by default of all splits; no record is read until a video is asked for."""
        prepared = records.find(self.root)
        return Catalogue(
            name=prepared.name,
            classes=prepared.classes,
            splits={split: _split(prepared, split) for split in splits or prepared.splits()},
        )

    @classmethod
    def found_in(cls, folder: str) -> Self | None:
        """Return the source of a folder with a prepared data set.

        Raises:
          ValueError: There are several.
        """
        try:
            return cls(records.find(folder).folder)
        except FileNotFoundError:
            return None


def _split(prepared: records.Prepared, split: str) -> VideoSource:
    index = prepared.index(split)
    return VideoSource(
        paths=tuple(f"{prepared.folder}/{split}/{name}" for name in index.names),
        labels=index.labels,
        names=index.names,
        classes=prepared.classes,
        records=records.RecordReader(prepared.folder, split),
    )
