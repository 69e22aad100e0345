"""``dnr prepare``: from the videos on the disk to sharded records, with a card that says what they are.

Work is divided into parts of a fixed number of videos, which become files of records. A part that is complete is not
made again: an interrupted preparation goes on at the first part that is not, and ends with the same files as one that
ran through. Several processes, on one machine or on several, make every n-th part each (``--shard i/n``); when all are
complete, they are put together (``--merge``). That is a command of its own, and not left to the shard that ends last:
which one that is, a network disk does not tell reliably, and shards in folders of their own never know.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from etils import epath

from dnr_jax.config import Catalogue
from dnr_jax.data.catalogue import records
from dnr_jax.data.catalogue.card import left_out_name, write_card
from dnr_jax.data.catalogue.media import Reencoding
from dnr_jax.data.catalogue.parallel import ordered_map
from dnr_jax.data.catalogue.records import Shard, json_lines
from dnr_jax.data.catalogue.tasks import PLAN_FILE, Task, check_plan, load, lost, plan_of, tasks_of, write_shard
from dnr_jax.data.catalogue.textfiles import first_of
from dnr_jax.locks import HeldError, hold
from dnr_jax.progress import Progress

_logger = logging.getLogger(__name__)

Rows: TypeAlias = list[dict[str, Any]]

# At about a megabyte a video, shards have the size that TFDS recommends, and an interrupted preparation loses little.
_SHARD_VIDEOS = 256
_GUARD = "guard.lock"
# A reader keeps all shards open, and many systems allow a process 1024 files.
_MAX_SHARDS = 512


@dataclasses.dataclass(frozen=True)
class Part:
    """What one file of records is made of.

    Attributes:
      split: The split.
      name: What the file is called while the data set is not complete.
      tasks: Its videos.
    """

    split: str
    name: str
    tasks: Sequence[Task]


class Preparation:
    """The work of making one data set, by one process or by several, in one folder or in several.

    What is complete is in a folder of its own, ``out/.<name>.incomplete``, until the data set is put together: a file
    of records for each part, and beside it a list of its videos, which is written last and says that it is complete.

    Attributes:
      catalogue: The data set.
      home: Folder of the records, once all are there.
      work: Folder of what is complete until then.
      parts: All there is to do, in the order of the records.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        out: str,
        reencoding: Reencoding | None = None,
        limit: int = 0,
        shard_videos: int = 0,
    ):
        """Divide the work; nothing is written.

        Args:
          catalogue: The data set.
          out: Folder on a local or a network disk; the records come to ``out/<name>/<version>``, with ``card.json``,
            ``card.md`` and ``class_histogram.png`` beside them.
          reencoding: How videos are encoded anew; ``None``: their files as they are.
          limit: At most so many videos a split, evenly spaced; 0: all.
          shard_videos: Videos a file of records; 0: 256, or as many more as keep a split within 512 files.

        Raises:
          ValueError: ``out`` is a bucket, or holds another preparation of the same name, or a video has two labels.
        """
        if "://" in out:
            raise ValueError(
                f"--out is {out}; expected a folder on a local disk, which can be copied to a bucket afterwards"
            )
        catalogue.require_one_label()
        self.catalogue, self._out, self._reencoding = catalogue, out, reencoding
        self.home = epath.Path(out) / catalogue.name / records.VERSION
        self.work = self._work_in(out)
        self._splits = {split: tasks_of(source, limit) for split, source in catalogue.splits.items()}
        largest = max(map(len, self._splits.values()), default=0)
        self._shard_videos = shard_videos or max(_SHARD_VIDEOS, -(-largest // _MAX_SHARDS))
        self._plan = plan_of(catalogue, self._splits, reencoding, self._shard_videos)
        if self.home.is_dir():
            check_plan(self.home, self._plan)

    @functools.cached_property
    def parts(self) -> list[Part]:
        """Return the parts in the order of the records."""
        return [
            # By the layout, so that those that an older version left are made again.
            Part(
                split,
                f"{split}-{start // self._shard_videos:05d}-{records.LAYOUT}",
                tasks[start : start + self._shard_videos],
            )
            for split, tasks in self._splits.items()
            for start in range(0, len(tasks), self._shard_videos)
        ]

    def run(self, workers: int = 1, title: str = "", homepage: str = "") -> records.Prepared:
        """Make all that is not complete, and put the data set together.

        Args:
          workers: Number of processes.
          title: What the card calls the data set; empty: its name.
          homepage: Where the data set comes from, for the card.

        Raises:
          ValueError: The folder holds another preparation of that name, or another process works in it.
          RuntimeError: No video of a split could be read.
        """
        with self._locked():
            if self.home.is_dir():
                self._warn_of_changes(self._prepared_rows())
            else:
                self._write(self.parts, workers)
            return self._put_together([self.work], title, homepage)

    def run_shard(self, shard: tuple[int, int], workers: int = 1) -> tuple[int, int]:
        """Make every n-th part, from the i-th on, so that n processes make all.

        Args:
          shard: The numbers i, from 1 on, and n.
          workers: Number of processes that work on this one.

        Returns:
          How many videos of this shard there are, and how many of all shards are complete in this folder.

        Raises:
          ValueError: As :meth:`run` raises it.
        """
        number, count = shard
        mine = self.parts[number - 1 :: count]
        if self.home.is_dir():
            return _count(mine), _count(self.parts)
        with self._locked(number, count):
            self._write(mine, workers)
            complete = [part for part in self.parts if self._is_complete(part, self.work)]
        return _count(mine), _count(complete)

    def merge(self, folders: Sequence[str] = (), title: str = "", homepage: str = "") -> records.Prepared:
        """Put the data set together of parts that are complete; the records are those that :meth:`run` writes.

        Args:
          folders: Other folders that shards were written to, beside the own one.
          title: As for :meth:`run`.
          homepage: As for :meth:`run`.

        Raises:
          ValueError: A part is not there, or damaged; or as :meth:`run` raises it.
          RuntimeError: No video of a split could be read.
        """
        others = [self._work_in(folder) for folder in folders]
        for folder, work in zip(folders, others, strict=True):
            if not (work / PLAN_FILE).is_file():
                raise ValueError(f"'{folder}' holds no shard of {self.catalogue.name}; expected the --out of one")
            check_plan(work, self._plan)
        with self._locked():
            return self._put_together([self.work, *others], title, homepage)

    def _work_in(self, out: str) -> epath.Path:
        return epath.Path(out) / f".{self.catalogue.name}.incomplete"

    @contextlib.contextmanager
    def _locked(self, number: int = 1, count: int = 1) -> Iterator[None]:
        """Hold a shard, so that nobody else works on it, nor on shards of another division, which overlap with it."""
        if problem := records.why_not_writable(self.work):
            raise ValueError(f"--out: {problem}")
        folder = pathlib.Path(self.work)
        own = folder / f"{number}_of_{count}.lock"
        with contextlib.ExitStack() as stack:
            try:
                with hold(folder / _GUARD, wait=60.0):  # one process at a time looks who works here
                    for other in folder.glob("*_of_*.lock"):
                        if not other.match(f"*_of_{count}.lock"):
                            with hold(other):
                                pass
                    stack.enter_context(hold(own))
                    check_plan(self.work, self._plan)
            except HeldError as held:
                raise ValueError(
                    f"'{self._out}' is in use: {held} prepares {self.catalogue.name} there. Wait for its end, stop it, "
                    "or choose another --out; side by side work those with --shard i/n, each i once and n the same"
                ) from None
            yield

    def _write(self, parts: Sequence[Part], workers: int) -> None:
        """Write those of the parts that are not complete."""
        todo = [part for part in parts if not self._is_complete(part, self.work)]
        self._warn_of_changes((part.split, row) for part in parts if part not in todo for row in self._rows(part))
        read = functools.partial(load, reencoding=self._reencoding, frame_rate=self.catalogue.frame_rate)
        results = ordered_map(read, (task for part in todo for task in part.tasks), workers, lost)
        total = _count(parts)
        with contextlib.closing(results), Progress(total, "preparing", "video", initial=total - _count(todo)) as bar:
            for part in todo:
                own = itertools.islice(results, len(part.tasks))
                write_shard(self.work, part.name, own, self.catalogue.classes, bar)

    def _is_complete(self, part: Part, work: epath.Path) -> bool:
        return (work / f"{part.name}.jsonl").is_file()

    def _rows(self, part: Part, work: epath.Path | None = None) -> Rows:
        """Return what is noted of the videos of a complete part, by default in the own folder of work."""
        return [json.loads(line) for line in ((work or self.work) / f"{part.name}.jsonl").read_text().splitlines()]

    def _prepared_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what is noted of all videos of a data set that was put together, with their splits."""
        for split in self._splits:
            for file in (records.index_name(split), left_out_name(split)):
                yield from ((split, json.loads(line)) for line in (self.home / file).read_text().splitlines())

    def _warn_of_changes(self, noted: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Warn of videos that an earlier call could not read or that have another size now: none is read again."""
        paths = {(split, task.name): task.path for split, tasks in self._splits.items() for task in tasks}
        unread, changed = [], []
        for split, row in noted:
            if "error" in row:
                unread.append(row["name"])
            elif not self._reencoding and _has_other_size(paths[split, row["name"]], row["bytes"]):
                changed.append(row["name"])
        for names, what in ((unread, "could not be read then"), (changed, "have another size now")):
            if names:
                _logger.warning(
                    "'%s' was begun before, and what is complete is not read again: %d videos that %s, such as %s. To "
                    "read them, delete '%s'",
                    self._out,
                    len(names),
                    what,
                    first_of(names),
                    self.home if self.home.is_dir() else self.work,
                )

    def _put_together(self, works: Sequence[epath.Path], title: str, homepage: str) -> records.Prepared:
        """Make the data set of complete parts, and its card; the own folder of work is not needed any more."""
        name, title = self.catalogue.name, title or self.catalogue.name
        if not self.home.is_dir():
            shards, left_out = self._collect(works)
            notes = {PLAN_FILE: self._plan} | {
                left_out_name(split): json_lines(rows) for split, rows in left_out.items()
            }
            records.assemble(self._out, name, self.catalogue.classes, title, homepage, shards, notes)
        self.work.rmtree()
        prepared = records.find(str(self.home))
        write_card(prepared, self.catalogue, title, homepage)
        return prepared

    def _collect(self, works: Sequence[epath.Path]) -> tuple[list[Shard], dict[str, Rows]]:
        """Return the files of all parts, and the videos that could not be read."""
        places = {part.name: [work for work in works if self._is_complete(part, work)] for part in self.parts}
        if missing := [part for part in self.parts if not places[part.name]]:
            raise ValueError(
                f"{len(missing)} of {len(self.parts)} parts of {self.catalogue.name} are not there, with "
                f"{_count(missing)} videos: {first_of([part.name for part in missing])}. Start the shards that stopped "
                "again, name the folders of others behind --merge, or leave it out to make here what is missing"
            )
        shards: list[Shard] = []
        left_out: dict[str, Rows] = {split: [] for split in self._splits}
        for part in self.parts:
            work = places[part.name][0]
            rows = self._rows(part, work)
            shard = Shard(part.split, str(work / f"{part.name}.array_record"), [r for r in rows if "error" not in r])
            _check_records(shard)
            shards.append(shard)
            left_out[part.split] += [row for row in rows if "error" in row]
        for split, rows in left_out.items():
            if len(rows) == len(self._splits[split]):
                raise RuntimeError(
                    f"no video of the split '{split}' could be read; {rows[0]['name']}: {rows[0]['error']}. To try "
                    f"them again, delete '{self.work}'"
                )
        return shards, left_out


def prepare(
    catalogue: Catalogue,
    out: str,
    reencoding: Reencoding | None = None,
    workers: int = 1,
    limit: int = 0,
    title: str = "",
    homepage: str = "",
    shard_videos: int = 0,
) -> records.Prepared:
    """Write the videos of a data set as records; for the arguments see :class:`Preparation`.

    Returns:
      The prepared data set.

    Raises:
      ValueError: As :class:`Preparation` and its ``run`` raise it.
      RuntimeError: No video of a split could be read.
    """
    return Preparation(catalogue, out, reencoding, limit, shard_videos).run(workers, title, homepage)


def _count(parts: Iterable[Part]) -> int:
    """Return the number of videos of some parts."""
    return sum(len(part.tasks) for part in parts)


def _has_other_size(path: str, size: int) -> bool:
    """Return whether a local file has not the size that was noted; folders of frames and buckets are not looked at."""
    return "://" not in path and os.path.isfile(path) and os.path.getsize(path) != size


def _check_records(shard: Shard) -> None:
    """Raise ValueError where a file has not all of its records, as one that was not wholly copied."""
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        with contextlib.closing(ArrayRecordReader(shard.file)) as reader:
            found = reader.num_records()
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"'{shard.file}' is damaged ({error}); copy it again from where it was written") from error
    if found != len(shard.rows):
        raise ValueError(
            f"'{shard.file}' is damaged: it has {found} of {len(shard.rows)} records; copy it again from where it was "
            "written"
        )
