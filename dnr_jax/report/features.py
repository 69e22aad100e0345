"""Features of the videos of a run, read and computed some at a time."""

import concurrent.futures
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dnr_jax.config import VideoSource, with_views
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.data.clips.decode import DecodeError
from dnr_jax.data.clips.pipeline import load_clip
from dnr_jax.explain.embedding import film
from dnr_jax.explain.explainer import Explainer
from dnr_jax.progress import Progress


@dataclasses.dataclass(frozen=True, eq=False)
class ClipFeatures:
    """What a network makes of a video in one view.

    Attributes:
      index: which video of its source.
      features: of a layer, averaged over time and space, float32 ``[C]``.
      predicted: number of the class that the network sees.
      film: frames side by side, of a JPEG's bytes.
    """

    index: int
    features: np.ndarray
    predicted: int
    film: bytes


def clip_features(
    explainer: Explainer, source: VideoSource, shown: Sequence[int], layer: str = ""
) -> Iterator[ClipFeatures]:
    """Yield the features of each video that can be decoded, in order; one that cannot is named and left out.

    Args:
      explainer: of the network; that many clips are computed at a time.
      source: the videos.
      shown: which of them.
      layer: by name; empty: what the head reads.

    Raises:
      ValueError: for a layer that there is not.
    """
    size, read = explainer.batch_size, _reader(explainer, source)
    first = "reading clips and compiling the network"
    with (
        concurrent.futures.ThreadPoolExecutor(available_cores()) as pool,
        Progress(len(shown), "features", "video", first=first) as progress,
    ):
        for start in range(0, len(shown), size):
            some = shown[start : start + size]
            clips = {}
            for index, clip in zip(some, pool.map(read, some), strict=True):
                if isinstance(clip, str):
                    progress.print(f"cannot decode {source.names[index]}: {clip}", sys.stderr)
                else:
                    clips[index] = clip
            yield from _of_clips(explainer, clips, layer)
            progress.update(len(some))


def _of_clips(explainer: Explainer, clips: dict[int, np.ndarray], layer: str) -> Iterator[ClipFeatures]:
    if not clips:
        return
    size = explainer.batch_size
    batch = np.resize(np.stack(list(clips.values())), (size, *next(iter(clips.values())).shape))
    features, probabilities = explainer.features(batch, layer)  # one shape, one program
    predicted = probabilities.argmax(axis=1)
    for i, (index, clip) in enumerate(clips.items()):
        yield ClipFeatures(index, features[i], int(predicted[i]), film(clip))


def _reader(explainer: Explainer, source: VideoSource) -> Callable[[int], np.ndarray | str]:
    """Return what reads the clip of a video, uint8 ``[T, H, W, 3]``, or says why it cannot."""
    data = explainer.run.config.data
    evaluation = with_views(explainer.run.config.evaluation, (1, 1))

    def read(index: int) -> np.ndarray | str:
        try:
            return load_clip(source.media(index), data, evaluation)[0]
        except DecodeError as error:
            return str(error)
        except Exception as error:  # whatever it is: the other videos have nothing to do with it
            return f"{type(error).__name__}: {error}"

    return read
