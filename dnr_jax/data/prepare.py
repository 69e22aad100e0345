"""``dnr prepare``: from the videos on the disk to sharded records, with a card that says what they are.

Work is divided into shards of a fixed number of videos. A shard that is complete is not made again: an interrupted
preparation goes on at the first shard that is not, and ends with the same files as one that ran through.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from etils import epath

from dnr_jax.data import media, records
from dnr_jax.data.card import left_out_name, write_card
from dnr_jax.data.decode import DecodeError, StoredVideo, index_packets
from dnr_jax.data.media import Reencoding
from dnr_jax.data.parallel import ordered_map
from dnr_jax.data.records import RecordWriter, Shard, json_lines, write_text
from dnr_jax.data.sources import Catalogue, VideoSource
from dnr_jax.progress import Progress

PLAN_FILE = "preparation.json"

# At about a megabyte a video, shards have the size that TFDS recommends, and an interrupted preparation loses little.
_SHARD_VIDEOS = 256
# A reader keeps all shards open, and many systems allow a process 1024 files.
_MAX_SHARDS = 512


@dataclasses.dataclass(frozen=True)
class Task:
    """A video to be read.

    Attributes:
      path: Where it is.
      name: What it is called in the index.
      label: Position of its class.
    """

    path: str
    name: str
    label: int


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A video that was read, or the reason why it could not be.

    Attributes:
      task: Which one.
      video: What goes into the record.
      packets: The index of its packets; empty where there is none.
      facts: What it is.
      error: Why there is no record; empty where there is one.
    """

    task: Task
    video: bytes = b""
    packets: bytes = b""
    facts: media.Facts | None = None
    error: str = ""

    def row(self) -> dict[str, Any]:
        """The line of the index, or of the list of videos left out."""
        named = {"name": self.task.name, "label": self.task.label}
        return named | (dataclasses.asdict(self.facts) if self.facts else {"error": self.error})


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
    """Writes the videos of a data set as records.

    Args:
      catalogue: The data set.
      out: Folder on a local disk; the records come to ``out/<name>/<version>``, with ``card.json``, ``card.md`` and
        ``class_histogram.png`` beside them.
      reencoding: How videos are encoded anew; ``None``: their files as they are.
      workers: Number of processes.
      limit: At most so many videos a split, evenly spaced; 0: all.
      title: What the card calls the data set; empty: its name.
      homepage: Where the data set comes from, for the card.
      shard_videos: Videos a shard; 0: 256, or as many more as keep a split within 512 shards.

    Returns:
      The prepared data set.

    Raises:
      ValueError: ``out`` is a bucket, or holds another preparation of the same name, or a video has two labels.
      RuntimeError: No video of a split could be read.
    """
    if "://" in out:
        raise ValueError(
            f"--out is {out}; expected a folder on a local disk, which can be copied to a bucket afterwards"
        )
    catalogue.require_one_label()
    home = epath.Path(out) / catalogue.name / records.VERSION
    work = epath.Path(out) / f".{catalogue.name}.incomplete"
    splits = {split: _tasks(source, limit) for split, source in catalogue.splits.items()}
    largest = max(map(len, splits.values()), default=0)
    shard_videos = shard_videos or max(_SHARD_VIDEOS, -(-largest // _MAX_SHARDS))
    plan = _plan(catalogue, splits, reencoding, shard_videos)
    if home.is_dir():
        _check_plan(home, plan)
    else:
        work.mkdir(parents=True, exist_ok=True)
        _check_plan(work, plan)
        shards, left_out = _write_shards(work, splits, catalogue, reencoding, workers, shard_videos)
        for split, rows in left_out.items():
            if len(rows) == len(splits[split]):
                raise RuntimeError(
                    f"no video of the split '{split}' could be read; {rows[0]['name']}: {rows[0]['error']}. To try "
                    f"them again, delete '{work}'"
                )
        notes = {PLAN_FILE: plan} | {left_out_name(split): json_lines(rows) for split, rows in left_out.items()}
        records.assemble(out, catalogue.name, catalogue.classes, title or catalogue.name, homepage, shards, notes)
    if work.is_dir():  # also where a preparation was interrupted after its last step but this
        work.rmtree()
    prepared = records.find(str(home))
    write_card(prepared, catalogue, title or catalogue.name, homepage)
    return prepared


def load(task: Task, reencoding: Reencoding | None = None, frame_rate: float = 0.0) -> Loaded:
    """Reads one video, looks into it and encodes it anew if asked to; a broken one gives the reason."""
    try:
        video = media.read_media(task.path)
        if reencoding:
            video = media.reencode(video, reencoding, frame_rate)
        indexed = StoredVideo(video, packets=index_packets(video))
        return Loaded(task, video, indexed.packets, media.probe(indexed, frame_rate))
    except DecodeError as error:
        return Loaded(task, error=str(error))


def lost(task: Task, reason: str) -> Loaded:
    """The outcome of a video that ended the process which read it, or took too long."""
    return Loaded(task, error=reason)


def _tasks(source: VideoSource, limit: int) -> list[Task]:
    chosen = np.arange(len(source))
    if 0 < limit < len(source):
        chosen = np.arange(limit) * len(source) // limit
    return [Task(source.paths[i], source.names[i], int(source.labels[i])) for i in chosen.tolist()]


def _plan(catalogue: Catalogue, splits: dict[str, list[Task]], reencoding: Reencoding | None, shard_videos: int) -> str:
    """What a preparation depends on: two with the same plan give the same records."""
    videos = {split: [(task.name, task.label) for task in tasks] for split, tasks in splits.items()}
    content = json.dumps([catalogue.classes, videos])
    plan = {
        "splits": {split: len(tasks) for split, tasks in splits.items()},
        "videos": hashlib.sha256(content.encode()).hexdigest(),
        "reencoding": dataclasses.asdict(reencoding) if reencoding else None,
        "shard_videos": shard_videos,
    }
    return json.dumps(plan, indent=2) + "\n"


def _check_plan(folder: epath.Path, plan: str) -> None:
    """Notes the plan in a folder, or compares it with the one that is noted there."""
    file = folder / PLAN_FILE
    if not file.is_file():
        write_text(file, plan)
    elif file.read_text() != plan:
        raise ValueError(
            f"'{folder}' was prepared from other videos or with other settings; delete it, or choose another --out"
        )


Rows: TypeAlias = list[dict[str, Any]]


def _write_shards(
    work: epath.Path,
    splits: dict[str, list[Task]],
    catalogue: Catalogue,
    reencoding: Reencoding | None,
    workers: int,
    shard_videos: int,
) -> tuple[list[Shard], dict[str, Rows]]:
    """Writes the shards that are not complete; returns all, and the videos that could not be read."""
    parts = [
        # By the layout, so that those that an older version left are made again.
        (split, f"{split}-{start // shard_videos:05d}-{records.LAYOUT}", tasks[start : start + shard_videos])
        for split, tasks in splits.items()
        for start in range(0, len(tasks), shard_videos)
    ]
    todo = [part for part in parts if not (work / f"{part[1]}.jsonl").is_file()]
    read = functools.partial(load, reencoding=reencoding, frame_rate=catalogue.frame_rate)
    results = ordered_map(read, (task for _, _, tasks in todo for task in tasks), workers, lost)
    total = sum(map(len, splits.values()))
    done = total - sum(len(tasks) for _, _, tasks in todo)
    with contextlib.closing(results), Progress(total, "preparing", "video", initial=done) as bar:
        for _, name, tasks in todo:
            _write_shard(work, name, itertools.islice(results, len(tasks)), catalogue.classes, bar)
    shards, left_out = [], {split: [] for split in splits}  # type: tuple[list[Shard], dict[str, Rows]]
    for split, name, _ in parts:
        rows = [json.loads(line) for line in (work / f"{name}.jsonl").read_text().splitlines()]
        shards.append(Shard(split, str(work / f"{name}.array_record"), [row for row in rows if "error" not in row]))
        left_out[split] += [row for row in rows if "error" in row]
    return shards, left_out


def _write_shard(work: epath.Path, name: str, results: Iterator[Loaded], classes: Sequence[str], bar: Progress) -> None:
    """Writes one shard; its list of videos, which is written last, says that it is complete."""
    rows = []
    with contextlib.closing(RecordWriter(str(work / f"{name}.array_record"), classes)) as writer:
        for loaded in results:
            rows.append(loaded.row())
            if not loaded.error:
                writer.write(loaded.video, loaded.task.name, loaded.task.label, loaded.packets)
            bar.update()
    write_text(work / f"{name}.jsonl", json_lines(rows))
