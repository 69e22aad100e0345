"""Videos that cannot be decoded: counted, named, and too many of them."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from dnr_jax.config import RunError, VideoSource
from dnr_jax.data.clips.decode import DecodeError, decode_frames

# A share of failures means nothing before so many videos, nor a batch of failures that holds fewer than these.
_MIN_READ = 20
_MIN_BATCH = 4


def check_share(undecoded: Sequence[str], videos: int, max_fraction: float) -> None:
    """Refuse a validation of which too many videos could not be decoded: its scores are of some others.

    Args:
      undecoded: names of the videos that could not be decoded.
      videos: how many there were.
      max_fraction: largest share of failures, of 20 videos and more; of fewer, one has to be left.

    Raises:
      RunError: for more.
    """
    count = len(undecoded)
    if count and (count == videos or (videos >= _MIN_READ and count > max_fraction * videos)):
        limit = "all" if count == videos else f"more than data.max_failures = {max_fraction}"
        raise RunError(
            _advice(f"{limit} of the validation videos could not be decoded: {count} of {videos}", undecoded)
        )


def _advice(reason: str, names: Sequence[str], where: str = "The warnings above say") -> str:
    return (
        f"{reason}, among them {', '.join(names[:5])}. {where} why; check that the files are whole ('dnr check' lists "
        "all that are not), or raise data.max_failures"
    )


class FailureLog:
    """Counts the videos that could not be decoded, names them, and ends the run when there are too many.

    It sees the batches of one process.
    """

    def __init__(self, source: VideoSource, max_fraction: float, report: str | os.PathLike[str] = ""):
        """Start at zero.

        Args:
          source: The videos that the batches' indices refer to.
          max_fraction: Largest share of failures among the videos read, once 20 have been read.
          report: File that gets a line for each of these videos when it is met first: a JSON object with ``index``,
            ``name``, ``path`` and ``reason``. Empty: none.
        """
        self._source = source
        self._max_fraction = max_fraction
        self._report = epath.Path(report) if report else None
        if self._report:
            self._report.unlink(missing_ok=True)
        self._read = 0
        self._count = 0
        self._failed: dict[int, None] = {}  # a set that keeps the order

    @property
    def count(self) -> int:
        """How often a video could not be decoded; one that fails in every epoch counts in each."""
        return self._count

    @property
    def names(self) -> list[str]:
        """The videos that could not be decoded, in the order in which they were met."""
        return [self._source.names[index] for index in self._failed]

    def update(self, batch: Mapping[str, np.ndarray]) -> None:
        """Take note of a batch.

        Raises:
          RunError: More than ``max_fraction`` of the videos read failed, or a whole batch did. The batch then counts in
            the message and in the report, but not in :meth:`state`: whoever goes on reads it again.
        """
        failed = np.asarray(batch["failed"])
        in_batch = int(np.sum(np.asarray(batch["index"]) >= 0))
        read, count = self._read + in_batch, self._count + int(np.sum(failed >= 0))
        new = dict.fromkeys(index for index in failed[failed >= 0].tolist() if index not in self._failed)
        self._write(new, "a")
        reason = ""
        if read >= _MIN_READ and count > self._max_fraction * read:
            reason = f"more than data.max_failures = {self._max_fraction} of the videos could not be decoded"
        if in_batch >= _MIN_BATCH and not np.any(batch["weight"]):
            reason = "a whole batch of videos could not be decoded"
        if reason:
            names = [self._source.names[index] for index in (*self._failed, *new)]
            where = f"{self._report} says" if self._report else "The warnings above say"
            raise RunError(_advice(f"{reason}: {count} of {read}", names, where))
        self._read, self._count = read, count
        self._failed.update(new)

    def state(self) -> dict[str, Any]:
        """Return everything to go on from, as numbers and lists that JSON can hold."""
        return {"read": self._read, "count": self._count, "failed": list(self._failed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self._read, self._count = state["read"], state["count"]
        self._failed = dict.fromkeys(state["failed"])
        self._write(self._failed, "w")

    def _write(self, indices: Iterable[int], mode: str) -> None:
        """Add videos to the report, or start it anew with them."""
        if self._report is not None and (mode == "w" or indices):
            with self._report.open(mode) as file:
                file.writelines(json.dumps(self._describe(index)) + "\n" for index in indices)

    def _describe(self, index: int) -> dict[str, Any]:
        source = self._source
        named = {"index": index, "name": source.names[index], "path": source.paths[index]}
        return named | {"reason": _why_broken(source, index)}


def _why_broken(source: VideoSource, index: int) -> str:
    """Return what decoding says, in this process: the one where it failed may be another."""
    try:
        decode_frames(source.media(index), lambda total: np.zeros(1, np.int64))
    except DecodeError as error:
        return str(error)
    return "the frames of the clip could not be decoded"
