"""Batches of clips: shuffled, sharded over processes, decoded in threads or worker processes, resumable.

The order of the videos and every random number follow from the seed and the step alone. Threads, workers and processes
change who does the work, not what comes out: the global batch of a step is the same for any number of processes, row by
row, of which each process reads as many neighbours. So statistics of several clips and mixtures of them are the same.

A video that cannot be decoded costs its sample only; it is logged, marked in the batch, and counted by
:class:`FailureLog`.
"""

import dataclasses
import functools
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import grain
import numpy as np
from absl import flags

from dnr_jax.config import DataConfig, EvaluationConfig, RunError, VideoSource
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.data.clips.decode import DecodeError, FrameCount, decode_frames
from dnr_jax.data.clips.transforms import TestTransform, TrainTransform

_logger = logging.getLogger(__name__)

Sample: TypeAlias = dict[str, np.ndarray | np.generic]

# How many of the following videos may stand in for one that cannot be decoded.
_MAX_SUBSTITUTES = 8
_BUS_ERROR = "exit code -7"

# Between clips' decoding there is Python, of which a process runs one thread at a time: from about 8 threads on, those
# that decode H.264 wait for each other (benchmarks/input_pipeline.py --scaling).
_CORES_A_WORKER = 8
_MAX_THREADS = 16


class BatchIterator(Iterator[dict[str, np.ndarray]]):
    """An iterator over batches that owns threads and processes: close it, or use it in a ``with`` statement."""

    def __init__(self, dataset: grain.IterDataset, num_batches: int | None = None):
        """Start reading ``dataset``; ``num_batches`` is its length, ``None`` if it has no end."""
        # Held by nobody else, so that grain's iterator is gone when it is closed, and closed before the interpreter
        # ends: its own finalizer fails there.
        self._open = [iter(dataset)]
        self._num_batches = num_batches
        self._finalizer = weakref.finalize(self, _close_all, self._open)

    def __next__(self) -> dict[str, np.ndarray]:
        """Return the next batch.

        Raises:
          RunError: A worker process ended for want of shared memory.
          ValueError: The iterator is closed.
        """
        if not self._open:
            raise ValueError("the iterator is closed")
        try:
            return next(self._open[0])
        except RuntimeError as error:
            if _BUS_ERROR not in str(error):
                raise
            raise RunError(
                "a worker process died of a bus error: shared memory (/dev/shm) is too small for the clips. Enlarge it "
                "(docker run --shm-size=8g), or set data.num_workers to 0 to decode in threads"
            ) from error

    def __len__(self) -> int:
        """Return the number of batches of the whole pass; training batches have no end, and no length."""
        if self._num_batches is None:
            raise TypeError("the training batches have no end")
        return self._num_batches

    def close(self) -> None:
        """Stop threads and workers."""
        self._finalizer()

    def __enter__(self) -> "BatchIterator":
        """Return the iterator itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop threads and workers."""
        self.close()


def _close_all(iterators: list[grain.DatasetIterator]) -> None:
    while iterators:
        iterators.pop().close()


def train_iterator(
    source: VideoSource,
    data: DataConfig,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """Return endless training batches, reshuffled every epoch.

    An epoch has ``len(source) // (batch_size * process_count)`` steps; the videos left over differ from epoch to epoch.
    A video that cannot be decoded is replaced by the next one in the source, and that by the one after, up to 8 times.

    Args:
      source: The videos.
      data: Sampling, transforms, threads and workers.
      batch_size: Clips a step of this process, b: of the global batch, the rows from ``process_index * b`` on.
      seed: Seed of order, sampling and transforms.
      start_step: Step of the first batch returned: resuming gives what an uninterrupted run would have seen.
      process_index: This process among all.
      process_count: All processes.

    Returns:
      An iterator of batches of B = ``batch_size`` samples: ``video`` uint8 ``[B, T, H, W, 3]``; ``label`` int32
      ``[B]``; ``index`` int64 ``[B]``, position in ``source`` of the video shown; ``failed`` int64 ``[B]``, position of
      the video that should have been shown, or -1; ``weight`` float32 ``[B]``, 0 (and a black clip) where nothing could
      be shown, otherwise 1.

    Raises:
      ValueError: There are fewer videos than fit in a batch.
    """
    global_batch = batch_size * process_count
    if len(source) < global_batch:
        raise ValueError(
            f"a batch of {global_batch} clips ({batch_size} in each of {process_count} processes) needs as many "
            f"training videos, but there are {len(source)}; lower train.batch_size or add videos"
        )
    epoch = len(source) // global_batch * global_batch
    order = grain.MapDataset.range(len(source)).seed(seed).shuffle()[:epoch].repeat()
    # Random numbers depend on the place in the global order, so they are drawn before the order is cut.
    samples = order.random_map(_TrainReader(source, data))
    start = start_step * global_batch + process_index * batch_size
    return BatchIterator(_read(_Rows(samples, start, batch_size, global_batch), data, batch_size))


def evaluation_iterator(
    source: VideoSource,
    data: DataConfig,
    evaluation: EvaluationConfig,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchIterator:
    """Return one pass over all videos; every process gets the same number of batches.

    Args:
      source: The videos.
      data: Sampling, transforms, threads and workers.
      evaluation: Clips and crops a video.
      batch_size: Videos a step of this process.
      process_index: This process among all.
      process_count: All processes.

    Returns:
      An iterator, with a length, of batches of B = ``batch_size`` videos of V = clips x crops views each: ``video``
      uint8 ``[B, V, T, H, W, 3]``, the crops of a clip next to each other; ``label`` int32 ``[B]``; ``index`` int64
      ``[B]``, position in ``source``, -1 for the padding of the last batches; ``failed`` int64 ``[B]``, the same
      position where the video could not be decoded, otherwise -1; ``weight`` float32 ``[B]``, 0 for padding and
      failures, which are black, otherwise 1.
    """
    global_batch = batch_size * process_count
    num_batches = -(-len(source) // global_batch)
    padding = [-1] * (num_batches * global_batch - len(source))
    order = [*range(len(source)), *padding][process_index::process_count]
    samples = grain.MapDataset.source(order).map(_EvaluationReader(source, data, evaluation))
    return BatchIterator(_read(samples, data, batch_size), num_batches)


def threads_and_workers(data: DataConfig, cores: int) -> tuple[int, int]:
    """Return how many threads decode in a process or worker, and in how many worker processes.

    Args:
      data: ``num_threads`` and ``num_workers`` say it, or leave it to the number of cores.
      cores: That this process may use.

    Returns:
      Threads of each worker, or of this process, at least 1; workers, 0: none.
    """
    automatic = cores // _CORES_A_WORKER if cores >= 2 * _CORES_A_WORKER else 0
    workers = automatic if data.num_workers < 0 else data.num_workers
    return data.num_threads or min(max(cores // max(workers, 1), 1), _MAX_THREADS), workers


def load_clip(video: str | bytes, data: DataConfig, evaluation: EvaluationConfig) -> np.ndarray:
    """Read one video as the evaluation does.

    Args:
      video: The video file or folder of frames, or the bytes of a file or record.
      data: Sampling and transforms.
      evaluation: Clips and crops.

    Returns:
      uint8 ``[V, T, H, W, 3]`` with V = clips x crops; the crops of a clip are neighbours.

    Raises:
      DecodeError: The video cannot be decoded.
      ValueError: ``evaluation.crops`` is none of the numbers there are.
    """
    transform = _test_transform(data, evaluation)
    pick = functools.partial(data.sampler.test, clips=evaluation.clips, twice=evaluation.twice_sample)
    frames, _ = decode_frames(video, pick, evaluation_side(data, evaluation))
    return _views(frames, transform, evaluation.num_clips)


def clip_of_frames(frames: np.ndarray, rate: float, data: DataConfig, evaluation: EvaluationConfig) -> np.ndarray:
    """Make of the frames of a video what :func:`load_clip` makes of its file.

    Args:
      frames: All of them, uint8 ``[T, H, W, 3]`` RGB; they may have the short side of :func:`evaluation_side` already.
      rate: Frames per second; 0: not known.
      data: Sampling and transforms.
      evaluation: Clips and crops.

    Returns:
      uint8 ``[V, T, H, W, 3]``, as :func:`load_clip`.
    """
    indices = data.sampler.test(FrameCount(len(frames), rate), evaluation.clips, evaluation.twice_sample)
    return _views(frames[np.asarray(indices).ravel()], _test_transform(data, evaluation), evaluation.num_clips)


def views_of_clip(frames: np.ndarray, data: DataConfig, evaluation: EvaluationConfig) -> np.ndarray:
    """Return the crops of one clip whose frames are chosen already: uint8 ``[crops, T, H, W, 3]``.

    Args:
      frames: uint8 ``[T, H, W, 3]`` RGB.
      data: Size of the frames.
      evaluation: Number and size of the crops.
    """
    return _views(frames, _test_transform(data, evaluation), 1)


def evaluation_side(data: DataConfig, evaluation: EvaluationConfig) -> int:
    """Return the short side, in pixels, that the frames of an evaluation are resized to; 0: they keep their size."""
    return _needed_side(data.short_side, evaluation.crop_size or data.crop_size)


def _test_transform(data: DataConfig, evaluation: EvaluationConfig) -> TestTransform:
    return TestTransform(data.short_side, evaluation.crop_size or data.crop_size, evaluation.crops)


def _views(frames: np.ndarray, transform: TestTransform, clips: int) -> np.ndarray:
    """Crop the frames of all clips, uint8 ``[clips * T, H, W, 3]``, and return them as views."""
    crops = transform(frames)
    views = crops.reshape(transform.crops, clips, -1, *crops.shape[2:]).swapaxes(0, 1)
    return views.reshape(-1, *views.shape[2:])


class _Rows(grain.MapDataset[Sample]):
    """The samples of one process: neighbouring rows of each global batch."""

    def __init__(self, samples: grain.MapDataset[Sample], start: int, rows: int, global_batch: int):
        """Take ``rows`` samples from ``start`` on, as many ``global_batch`` samples later, and so on."""
        super().__init__(samples)
        self._samples, self._start, self._rows, self._global_batch = samples, start, rows, global_batch

    def __len__(self) -> int:
        return (len(self._samples) - self._start) // self._global_batch * self._rows

    def __getitem__(self, index: Any) -> Any:
        """Return a sample, or for a slice a data set."""
        if isinstance(index, slice):
            return self.slice(index)
        step, row = divmod(index, self._rows)
        return self._samples[self._start + step * self._global_batch + row]


@dataclasses.dataclass(frozen=True, eq=False)
class _TrainReader:
    """Position in the source, random numbers -> one sample."""

    source: VideoSource
    data: DataConfig

    def __call__(self, index: int, rng: np.random.Generator) -> Sample:
        for attempt in range(_MAX_SUBSTITUTES + 1):
            position = (index + attempt) % len(self.source)
            frames = _decode_or_warn(self.source, position, functools.partial(self._frames, rng=rng))
            if frames is not None:
                clip, label = self._transform(frames, int(self.source.labels[position]), rng)
                return _sample(clip, np.int32(label), position, failed=index if attempt else -1)
        return _blank(self.data.clip_shape, self.source.labels[index], index, failed=index)

    @functools.cached_property
    def _transform(self) -> TrainTransform:
        return TrainTransform.from_config(self.data, self.source.classes)

    def _frames(self, video: str | bytes, rng: np.random.Generator) -> np.ndarray:
        side = _needed_side(self.data.short_side, self.data.crop_size)
        return decode_frames(video, functools.partial(self.data.sampler.train, rng=rng), side)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _EvaluationReader:
    """Position in the source, or -1 for padding -> one sample."""

    source: VideoSource
    data: DataConfig
    evaluation: EvaluationConfig

    def __call__(self, index: int) -> Sample:
        side = self.evaluation.crop_size or self.data.crop_size
        shape = (self.evaluation.num_clips * self.evaluation.crops, self.data.clip_shape[0], side, side, 3)
        if index < 0:
            return _blank(shape, np.int32(0), index, failed=-1)
        views = _decode_or_warn(self.source, index, lambda video: load_clip(video, self.data, self.evaluation))
        if views is None:
            return _blank(shape, self.source.labels[index], index, failed=index)
        return _sample(views, self.source.labels[index], index, failed=-1)


def _sample(video: np.ndarray, label: np.int32, index: int, failed: int, weight: float = 1.0) -> Sample:
    return {
        "video": video,
        "label": label,
        "index": np.int64(index),
        "failed": np.int64(failed),
        "weight": np.float32(weight),
    }


def _blank(shape: tuple[int, ...], label: np.int32, index: int, failed: int) -> Sample:
    return _sample(np.zeros(shape, np.uint8), label, index, failed, weight=0.0)


def _decode_or_warn(source: VideoSource, index: int, read: Callable[[str | bytes], np.ndarray]) -> np.ndarray | None:
    try:
        return read(source.media(index))
    except DecodeError as error:
        _warn_once(source.names[index], str(error))
        return None


@functools.cache
def _warn_once(name: str, reason: str) -> None:
    _logger.warning("cannot decode %s (%s)", name, reason)


def _needed_side(short_side: int, crop_size: int) -> int:
    """Return the short side, in pixels, that frames are resized to before cropping; 0: they keep their size."""
    return short_side and max(short_side, crop_size)


def _read(samples: grain.MapDataset, data: DataConfig, batch_size: int) -> grain.IterDataset:
    """Decode samples ahead of time in threads or workers, and batch them in a thread of this process.

    Workers hand over samples, not batches: so the batches are the same for any number of workers, and no more samples
    are in memory than are being decoded.
    """
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain reads flags that nobody parses outside absl.app
    threads, workers = threads_and_workers(data, available_cores())
    dataset = samples.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    batches = dataset.batch(batch_size, drop_remainder=True)
    return grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=2)
