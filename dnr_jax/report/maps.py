"""Where a network sees the class that it took a video for, as strips of frames with Grad-CAM over them."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from dnr_jax.explain.explainer import Explainer
from dnr_jax.explain.pictures import evenly, overlay
from dnr_jax.report.clips import FRAMES, SIDE, encoded
from dnr_jax.runs.folder import Run


@dataclasses.dataclass(frozen=True)
class MapStrip:
    """Frames of a clip, and below each the map over it.

    Attributes:
      name: of the video.
      taken_for: the class whose map it is.
      data: the picture, a URL that holds it.
    """

    name: str
    taken_for: str
    data: str


def map_strips(run: Run, clips: Sequence[np.ndarray], names: Sequence[str], classes: Sequence[int]) -> list[MapStrip]:
    """Return a strip for each clip.

    Args:
      run: the network.
      clips: uint8 ``[T, H, W, 3]`` each, as the network takes them.
      names: of their videos.
      classes: the class of each whose map is wanted.

    Raises:
      ValueError: for a network that has no layer to make a map of.
    """
    found = Explainer(run).grad_cam(np.stack(clips), list(classes))
    return [
        MapStrip(name, run.classes[label], _picture(clip, values))
        for name, label, clip, values in zip(names, classes, clips, found.maps, strict=True)
    ]


def _picture(clip: np.ndarray, values: np.ndarray) -> str:
    shown = evenly(len(clip), FRAMES)
    rows = [
        np.concatenate([cv2.resize(frames[t], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for t in shown], axis=1)
        for frames in (clip, overlay(clip, values))
    ]
    return encoded(np.concatenate(rows, axis=0))
