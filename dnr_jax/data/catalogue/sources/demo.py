"""The generated data set."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge

from dnr_jax.config import Catalogue, Location, Source, VideoSource, register
from dnr_jax.data.catalogue import demo
from dnr_jax.data.catalogue.sources.folder import Folder

_Videos = Annotated[int, Ge(len(demo.CLASSES))]


@register
@dataclasses.dataclass
class Demo(Source):
    """Videos that are generated when they are first asked for."""

    train_videos: _Videos = 480
    """How many training videos, over all classes."""
    val_videos: _Videos = 120
    """How many validation videos."""
    cache_dir: Annotated[str, Location(kind="cache")] = ""
    """Where they are kept; empty: the user's cache folder."""

    def load(self) -> tuple[VideoSource, VideoSource]:
        """Generate the videos, unless they are there."""
        return self._generated().load()

    def open(self, splits: Sequence[str] | None = None) -> Catalogue:
        """Generate the videos, unless they are there."""
        return self._generated().open(splits)

    def _generated(self) -> Folder:
        return Folder(demo.make_demo(self.cache_dir, self.train_videos, self.val_videos))
