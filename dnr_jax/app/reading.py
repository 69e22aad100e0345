"""What is read of an upload, in a process that the file may crash: views, one clip, and windows along the video."""

import dataclasses
import functools
import pathlib

import numpy as np

from dnr_jax.config import DataConfig, EvaluationConfig, with_views
from dnr_jax.data.clips.decode import DecodeError
from dnr_jax.data.clips.pipeline import evaluation_side, load_clip, views_of_clip
from dnr_jax.serve.decoding import Limits, read_views
from dnr_jax.streaming.sources import Reader, source_of
from dnr_jax.streaming.windows import Assembler, Window, plan

_BYTES = 64_000_000
_FEWEST, _MOST = 8, 64
"""Windows along a video: as many as take the bytes above, within these bounds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Upload:
    """An upload as a network sees it.

    Attributes:
      views: uint8 ``[V, T, H, W, 3]``, those of the run's evaluation.
      clip: uint8 ``[T, H, W, 3]``, one view of the whole video.
      windows: uint8 ``[W, T, H, W, 3]``, along the video.
      times: float64 ``[W, 2]``: where the stretch begins and ends that a window is the nearest one to, in seconds.
      length: seconds of a window.
    """

    views: np.ndarray
    clip: np.ndarray
    windows: np.ndarray
    times: np.ndarray
    length: float


def read_upload(path: pathlib.Path, data: DataConfig, evaluation: EvaluationConfig, limits: Limits) -> Upload:
    """Read an upload.

    Raises:
      DecodeError: where it cannot be read, or must not be; the message does not name the file.
    """
    views = read_views(path, data, evaluation, limits)
    one = with_views(evaluation, (1, 1))
    try:
        clip = load_clip(str(path), data, one)[0]
        found, length = _windows(path, data, one, limits.duration)
    except DecodeError as error:
        raise DecodeError(str(error).removeprefix(f"{path}: ").replace(str(path), "the file")) from error
    windows = np.stack([views_of_clip(window.frames, data, one)[0] for window in found])
    times = np.array([(window.cell_start, window.cell_end) for window in found])
    return Upload(views, clip, windows, times, length)


def _windows(
    path: pathlib.Path, data: DataConfig, evaluation: EvaluationConfig, longest: float
) -> tuple[list[Window], float]:
    """Return windows along a video and their length in seconds; of a long one they lie further apart."""
    side = evaluation_side(data, evaluation)
    most = min(max(_BYTES // int(np.prod(data.clip_shape)), _FEWEST), _MOST)
    with Reader(source_of(str(path))) as frames:
        usual = plan(data.sampler, frames.rate)
        step = max(usual.stride / usual.rate, frames.duration / most)
        assembler = Assembler(plan(data.sampler, frames.rate, stride=step))
        kept = _Thinned(2 * most)
        for frame in frames:
            if frame.time > longest:  # its header said less, or nothing
                raise DecodeError(f"the video takes longer than {longest:g} seconds, which is the limit here")
            load = functools.partial(frame.pixels, side)
            kept.add(assembler.add(frame.number, frame.time, frame.arrived, load))
        kept.add(assembler.close())
        reason = frames.reason
    if not kept.windows:
        raise DecodeError(reason or "no frame could be decoded")
    return kept.windows, usual.length / usual.rate


class _Thinned:
    """Keeps fewer windows than ``most``, an even number, of a video that does not tell how long it is.

    Those are every second one, then every fourth, and so on; each stands for the stretches of those behind it too.
    """

    def __init__(self, most: int):
        self.windows: list[Window] = []
        self._most, self._every, self._count = most, 1, 0

    def add(self, windows: list[Window]) -> None:
        for window in windows:
            if self._count % self._every:
                self.windows[-1] = dataclasses.replace(self.windows[-1], cell_end=window.cell_end)
            else:
                self.windows.append(window)
            self._count += 1
            if len(self.windows) == self._most:
                pairs = zip(self.windows[::2], self.windows[1::2], strict=True)
                self.windows = [dataclasses.replace(first, cell_end=second.cell_end) for first, second in pairs]
                self._every *= 2
