"""Prepared data sets: videos as records of sharded ArrayRecord files, in TFDS's layout and read through TFDS.

A record holds the encoded video (or, for a folder of frames, an archive of its files), its label and its name, and an
index of the video's packets, with which clips are read without opening the video as a file (older records have none).
Beside the shards lies an index, a line of JSON for each video, from which names and labels are known without reading
any record. TFDS works without TensorFlow here; it is imported when a data set is written or its first record is read.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
from etils import epath

from dnr_jax.data.clips.decode import StoredVideo

VERSION = "1.0.0"
"""Of the layout of the records; part of a prepared data set's folder."""

LAYOUT = 2
"""Of the records that are written here; in 1 they had no index of packets, and are read like all that need none."""

_UNFINISHED = "incomplete.*"  # what TFDS calls the folder until everything is in it
_INFO_FILE = "dataset_info.json"
_FEATURES_FILE = "features.json"
_CLASSES_FILE = "label.labels.txt"


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """What the records of a split are.

    Attributes:
      names: Of the videos, relative to the root that they were prepared from.
      labels: int32 ``[len(names)]``.
      rows: All that was noted about each video: name, label, frames, height, width, duration, codec, bytes, and
        ``counted``, which older records have not: whether it took decoding the whole video to tell ``frames``.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    rows: Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes:
      folder: The folder with its shards.
      name: What the data set is called.
      classes: Names of the classes.
    """

    folder: str
    name: str
    classes: tuple[str, ...]

    def splits(self) -> list[str]:
        """Return the names of the splits."""
        return sorted(path.stem.removeprefix("index_") for path in epath.Path(self.folder).glob(index_name("*")))

    def index(self, split: str) -> Index:
        """Read the index of a split.

        Raises:
          FileNotFoundError: There is no such split.
        """
        file = epath.Path(self.folder) / index_name(split)
        if not file.is_file():
            there = ", ".join(self.splits())
            raise FileNotFoundError(f"{self.folder}: no split '{split}' was prepared; there are {there}")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        return Index(tuple(row["name"] for row in rows), np.array([row["label"] for row in rows], np.int32), rows)


def index_name(split: str) -> str:
    """Return the name of the index file of a split."""
    return f"index_{split}.jsonl"


def find(folder: str) -> Prepared:
    """Find the prepared data set in a folder.

    Args:
      folder: The one that ``dnr prepare`` wrote to, or a folder in it.

    Raises:
      FileNotFoundError: There is none.
      ValueError: There are several.
    """
    root = epath.Path(folder)
    globs = [f"{depth}{_INFO_FILE}" for depth in ("", "*/", "*/*/")] if root.is_dir() else []
    found = [file for pattern in globs for file in root.glob(pattern) if not file.parent.match(_UNFINISHED)]
    if not found:
        raise FileNotFoundError(
            f"'{folder}' holds no prepared data set; expected the folder that 'dnr prepare' wrote to, or one in it"
        )
    if len(found) > 1:
        raise ValueError(
            f"'{folder}' holds several prepared data sets: {', '.join(str(f.parent) for f in sorted(found))}"
        )
    home = found[0].parent
    classes = tuple((home / _CLASSES_FILE).read_text().splitlines())
    return Prepared(str(home), json.loads(found[0].read_text())["name"], classes)


class RecordReader(Sequence[bytes]):
    """The encoded videos of one split, read one by one when they are asked for.

    It can be sent to other processes and used by several threads. Each process opens the shards for itself, at the
    first video that it reads.
    """

    def __init__(self, folder: str, split: str):
        """Open nothing yet.

        Args:
          folder: Of a prepared data set.
          split: One of its splits.
        """
        self._folder = folder
        self._split = split
        self._lock = threading.Lock()

    @functools.cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self._folder).as_data_source(self._split)

    @functools.cached_property
    def _counted(self) -> Mapping[int, int]:
        """Return the number of frames of the videos that do not tell it, by position."""
        file = epath.Path(self._folder) / index_name(self._split)
        lines = file.read_text().splitlines() if file.is_file() else []
        rows = ((place, json.loads(line)) for place, line in enumerate(lines) if '"counted": true' in line)
        return {place: row["frames"] for place, row in rows}

    @functools.cached_property
    def version(self) -> str:
        """A hash of what the index says of the videos: other ones where they were prepared again, with other bytes."""
        file = epath.Path(self._folder) / index_name(self._split)
        return hashlib.sha256(file.read_bytes() if file.is_file() else b"").hexdigest()

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self._opened())

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        """Return the bytes of a video, or those of several, with what is known of its packets and its frames."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        record = self._opened()[index]
        frames = self._counted.get(range(len(self))[index], 0)
        packets = record.get("packets", b"")
        return StoredVideo(record["video"], frames, packets) if frames or packets else record["video"]

    def _opened(self) -> Any:
        with self._lock:
            return self._source

    def __getstate__(self) -> dict[str, str]:
        """Return where the records are, without open files."""
        return {"folder": self._folder, "split": self._split}

    def __setstate__(self, state: dict[str, str]) -> None:
        """Start anew."""
        self.__init__(**state)  # type: ignore[misc]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished file of records, still in the folder of the preparation.

    Attributes:
      split: The split that it is a part of.
      file: The ArrayRecord file.
      rows: What is noted in the index about each of its records.
    """

    split: str
    file: str
    rows: Sequence[Mapping[str, Any]]


class RecordWriter:
    """Writes the records of one shard; the file is complete when :meth:`close` returns."""

    def __init__(self, file: str, classes: Sequence[str]):
        """Open the file.

        Args:
          file: The ArrayRecord file, on a local disk.
          classes: Names of the classes.
        """
        import tensorflow_datasets as tfds
        from array_record.python.array_record_module import ArrayRecordWriter

        self._features = _features(tfds, classes)
        self._serializer = tfds.core.example_serializer.ExampleSerializer(self._features.get_serialized_info())
        # One record a group: random access reads nothing else. Videos do not compress, and trying costs much of a read.
        self._writer = ArrayRecordWriter(file, "group_size:1,uncompressed")

    def write(self, video: bytes, name: str, label: int, packets: bytes = b"") -> None:
        """Add a record.

        Args:
          video: The bytes of its file, or an archive of frames.
          name: Of the video.
          label: Position of its class.
          packets: The index of its packets (:func:`dnr_jax.data.clips.decode.index_packets`), or empty.
        """
        example = self._features.encode_example({"video": video, "id": name, "label": label, "packets": packets})
        # TFDS's own serialization has the fields in an order that differs between processes.
        self._writer.write(self._serializer.get_tf_example(example).SerializeToString(deterministic=True))

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def assemble(
    folder: str,
    name: str,
    classes: Sequence[str],
    description: str,
    homepage: str,
    shards: Iterable[Shard],
    notes: Mapping[str, str],
) -> str:
    """Make a data set of finished shards, which stay where they are as well: on the same disk they take no more room.

    Args:
      folder: The data set will be ``folder/name/VERSION``, all at once.
      name: What the data set is called: lower case letters, digits and underscores.
      classes: Names of the classes.
      description: A sentence about it.
      homepage: Where its videos come from.
      shards: In the order of the records.
      notes: Contents of text files beside the records, by name.

    Returns:
      The folder of the data set.
    """
    import tensorflow_datasets as tfds

    files = [shard for shard in shards if shard.rows]
    for leftover in (epath.Path(folder) / name).glob(_UNFINISHED):  # of an assembly that was killed
        leftover.rmtree()

    class PreparedVideos(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        """Puts the shards to where TFDS expects them instead of generating examples one after the other."""

        def __init__(self) -> None:
            self.name = name
            super().__init__(data_dir=folder, file_format="array_record", version=VERSION)

        VERSION = tfds.core.Version(VERSION)
        code_path = None  # no file of checksums lies beside this module: nothing is downloaded

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                features=_features(tfds, classes),
                description=description,
                homepage=homepage,
                disable_shuffling=True,
            )

        def _shard_iterators_per_split(self, dl_manager: Any) -> Any:
            raise NotImplementedError

        def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
            splits = dict.fromkeys(shard.split for shard in files)
            infos = [self._place(split, [shard for shard in files if shard.split == split]) for split in splits]
            for file, text in notes.items():
                (epath.Path(self.data_dir) / file).write_text(text)
            self.info.set_splits(tfds.core.SplitDict(infos))

        def _place(self, split: str, parts: Sequence[Shard]) -> Any:
            template = self._get_filename_template(split_name=split)
            size = sum(os.path.getsize(part.file) for part in parts)
            for number, part in enumerate(parts):
                _link(part.file, os.fspath(template.sharded_filepath(shard_index=number, num_shards=len(parts))))
            rows = json_lines(row for part in parts for row in part.rows)
            (epath.Path(self.data_dir) / index_name(split)).write_text(rows)
            lengths = [len(part.rows) for part in parts]
            return tfds.core.SplitInfo(split, lengths, size, template)

    # TFDS says on the standard output that it downloads, which it does not, and makes an empty folder for that.
    with tempfile.TemporaryDirectory() as nothing, contextlib.redirect_stdout(None):
        builder = PreparedVideos()
        builder.download_and_prepare(download_dir=nothing)
    return str(builder.data_dir)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return one line of JSON for each row."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Return whether there is something that is neither a file nor a folder, such as a pipe or a device."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def write_text(file: epath.Path, text: str) -> None:
    """Write a file that appears when it is complete; what is there and no file, such as /dev/null, is not replaced."""
    if is_special(file):
        file.write_text(text)
        return
    temporary = file.with_name(f"{file.name}.incomplete")
    temporary.write_text(text)
    temporary.replace(file)


def why_not_writable(folder: str | os.PathLike[str]) -> str:
    """Return why no file can be written in a folder, which is made if need be; empty where one can."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"nothing can be written to '{os.fspath(folder)}' ({error.strerror or error})"


def _link(source: str, target: str) -> None:
    """Give a file a second name; copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _features(tfds: Any, classes: Sequence[str]) -> Any:
    return tfds.features.FeaturesDict(
        {
            "video": tfds.features.Tensor(shape=(), dtype=np.object_),
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(classes)),
            "packets": tfds.features.Tensor(shape=(), dtype=np.object_),
        }
    )
