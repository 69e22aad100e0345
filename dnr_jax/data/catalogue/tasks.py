"""What a preparation does with each video: it is read, looked into, and written into a file of records.

A plan says what all of it depends on; a file of records is complete when the list of its videos lies beside it.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from dnr_jax.config import Catalogue, VideoSource
from dnr_jax.data.catalogue import media
from dnr_jax.data.catalogue.media import Reencoding
from dnr_jax.data.catalogue.records import RecordWriter, json_lines, write_text
from dnr_jax.data.clips.decode import DecodeError, StoredVideo, index_packets
from dnr_jax.progress import Progress

PLAN_FILE = "preparation.json"


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
        """Return the line of the index, or of the list of videos left out."""
        named = {"name": self.task.name, "label": self.task.label}
        return named | (dataclasses.asdict(self.facts) if self.facts else {"error": self.error})


def load(task: Task, reencoding: Reencoding | None = None, frame_rate: float = 0.0) -> Loaded:
    """Read one video, look into it and encode it anew if asked to; a broken one gives the reason."""
    try:
        video = media.read_media(task.path)
        if reencoding:
            video = media.reencode(video, reencoding, frame_rate)
        indexed = StoredVideo(video, packets=index_packets(video))
        return Loaded(task, video, indexed.packets, media.probe(indexed, frame_rate))
    except DecodeError as error:
        return Loaded(task, error=str(error))


def lost(task: Task, reason: str) -> Loaded:
    """Return the outcome of a video that ended the process which read it, or took too long."""
    return Loaded(task, error=reason)


def tasks_of(source: VideoSource, limit: int) -> list[Task]:
    """Return the videos of a source, or so many of them, evenly spaced, where ``limit`` is not 0."""
    chosen = np.arange(len(source))
    if 0 < limit < len(source):
        chosen = np.arange(limit) * len(source) // limit
    return [Task(source.paths[i], source.names[i], int(source.labels[i])) for i in chosen.tolist()]


def plan_of(
    catalogue: Catalogue, splits: dict[str, list[Task]], reencoding: Reencoding | None, shard_videos: int
) -> str:
    """Return what a preparation depends on: two with the same plan give the same records."""
    videos = {split: [(task.name, task.label) for task in tasks] for split, tasks in splits.items()}
    content = json.dumps([catalogue.classes, videos])
    plan = {
        "splits": {split: len(tasks) for split, tasks in splits.items()},
        "videos": hashlib.sha256(content.encode()).hexdigest(),
        "reencoding": dataclasses.asdict(reencoding) if reencoding else None,
        "shard_videos": shard_videos,
    }
    return json.dumps(plan, indent=2) + "\n"


def check_plan(folder: epath.Path, plan: str) -> None:
    """Note the plan in a folder, or compare it with the one that is noted there.

    Raises:
      ValueError: It is another one.
    """
    file = folder / PLAN_FILE
    if not file.is_file():
        write_text(file, plan)
    elif file.read_text() != plan:
        raise ValueError(
            f"'{folder}' was prepared from other videos or with other settings; delete it, or choose another --out"
        )


def write_shard(work: epath.Path, name: str, results: Iterator[Loaded], classes: Sequence[str], bar: Progress) -> None:
    """Write one shard; its list of videos, which is written last, says that it is complete."""
    rows = []
    with contextlib.closing(RecordWriter(str(work / f"{name}.array_record"), classes)) as writer:
        for loaded in results:
            rows.append(loaded.row())
            if not loaded.error:
                writer.write(loaded.video, loaded.task.name, loaded.task.label, loaded.packets)
            bar.update()
    write_text(work / f"{name}.jsonl", json_lines(rows))
