"""Parsers of annotation files: each reads one format and returns plain entries, whatever data set the file belongs to.

A parser of entries maps a file to a list of :class:`Entry`; a parser of classes maps a file to the names of the classes
in the order of their labels. Malformed content raises ``ValueError`` with the file and the line.
"""

import csv
import dataclasses
import functools
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from etils import epath

VIDEO_SUFFIXES = frozenset(".3gp .asf .avi .flv .gif .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())

# Columns that a person's own CSV may call by several names.
_NAME_COLUMNS = ("path", "video", "file", "filename", "name")
_LABEL_COLUMNS = ("label", "class")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One annotated video.

    Attributes:
      name: What the annotation calls the video: an identifier, or a path relative to the data set's root.
      label: The name or the number of its class; ``None`` where the annotation does not tell.
      start: Start of the clip in the original video in seconds, where the annotation says it.
      end: End of the clip in seconds.
      place: ``file:line`` (or ``file: item``), for messages.
    """

    name: str
    label: str | int | None = None
    start: int = 0
    end: int = 0
    place: str = ""


EntryParser: TypeAlias = Callable[[epath.Path], list[Entry]]
ClassParser: TypeAlias = Callable[[epath.Path], list[str]]


def text_lines(file: epath.Path) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank, stripped, each with its place ``file:line``."""
    lines = enumerate(_text(file).splitlines(), start=1)
    return [(f"{file}:{number}", line.strip()) for number, line in lines if line.strip()]


def kinetics(file: epath.Path) -> list[Entry]:
    """Kinetics' CSV: ``label,youtube_id,time_start,time_end,split,...`` with a header; test files may lack labels."""
    return [
        Entry(
            row["youtube_id"], row.get("label") or None, _seconds(row, place), _seconds(row, place, "time_end"), place
        )
        for place, row in _table(file, ("youtube_id", "time_start", "time_end"))
    ]


def identifiers(file: epath.Path) -> list[Entry]:
    """One identifier a line, without a label (Mini-Kinetics-200)."""
    return [Entry(line, place=place) for place, line in text_lines(file)]


def semicolons(file: epath.Path) -> list[Entry]:
    """``id;class`` lines without a header (Something-Something V1, Jester); a class may be missing in test files."""
    rows = [(place, *line.partition(";")) for place, line in text_lines(file)]
    return [Entry(name, label or None, place=place) for place, name, _, label in rows]


def jester(file: epath.Path) -> list[Entry]:
    """Jester's ``id;class`` lines, or a CSV with a header, ``video_id,label,frames,label_id,...`` (its copy on Kaggle).

    In the CSV of the test split the identifier is called ``id``.
    """
    if not _is_numbered_table(file):
        return semicolons(file)
    rows = _table(file, ("label", "label_id"))
    return [Entry(row.get("video_id") or row.get("id") or "", row["label"] or None, place=place) for place, row in rows]


def something_v2(file: epath.Path) -> list[Entry]:
    """Something-Something V2's JSON: a list of ``{"id", "template", ...}``; the class is the template unbracketed."""
    return [
        Entry(item["id"], re.sub(r"[\[\]]", "", item["template"]) if "template" in item else None, place=place)
        for place, item in _json_items(file, ("id",))
    ]


def diving48(file: epath.Path) -> list[Entry]:
    """Diving48's JSON: a list of ``{"vid_name", "label", "start_frame", "end_frame"}`` with numbers as labels."""
    return [
        Entry(item["vid_name"], item["label"], place=place) for place, item in _json_items(file, ("vid_name", "label"))
    ]


def ucf101(file: epath.Path) -> list[Entry]:
    """``Class/video.avi`` lines, followed by the label from 1 in training lists, which the folder says as well."""
    entries = []
    for place, line in text_lines(file):
        folder, slash, video = line.split()[0].rpartition("/")
        if not slash:
            raise ValueError(f"{place}: '{line}'; expected 'Class/video.avi'")
        entries.append(Entry(strip_suffix(video), folder, place=place))
    return entries


def hmdb51(file: epath.Path, use: str) -> list[Entry]:
    """``video.avi use`` lines in a file called ``<class>_test_split<n>.txt``.

    Args:
      file: The file of one class and split.
      use: Which videos are wanted: ``1`` for training, ``2`` for testing; ``0`` are in neither.

    Returns:
      The videos of that use.
    """
    label = re.sub(r"_test_split\d+$", "", file.stem)
    fields = [(place, line, line.split()) for place, line in text_lines(file)]
    for place, line, parts in fields:
        if len(parts) != 2 or parts[1] not in ("0", "1", "2"):
            raise ValueError(f"{place}: '{line}'; expected 'video.avi' and 0, 1 or 2")
    return [Entry(strip_suffix(parts[0]), label, place=place) for place, _, parts in fields if parts[1] == use]


def video_list(file: epath.Path) -> list[Entry]:
    """A list of one's own, in any of the formats in use; paths may contain spaces.

    - ``path label``: MMAction2's lists of videos; ``path,label`` or ``path label``: PySlowFast's.
    - ``path frames label``: MMAction2's lists of folders of frames; the number of frames is not needed.
    - a CSV whose header has the columns ``path`` and ``label``; there a label may be a class's name.

    Raises:
      ValueError: A line fits none of them.
    """
    lines = text_lines(file)
    if lines and _columns(lines[0][1]):
        return _own_table(file)
    rows = [(place, line, _split_line(line)) for place, line in lines]
    for place, line, fields in rows:
        if fields is None:
            raise ValueError(f"{place}: '{line}'; expected 'path label' with a label of 0 or more")
    parsed = [(place, *fields) for place, _, fields in rows if fields]
    if parsed and all(frames for _, _, frames, _ in parsed):
        return [Entry(name, label, place=place) for place, name, _, label in parsed]
    return [Entry(f"{name}{frames}", label, place=place) for place, name, frames, label in parsed]


def class_lines(file: epath.Path) -> list[str]:
    """One class a line, in the order of the labels."""
    return [line for _, line in text_lines(file)]


def numbered_classes(file: epath.Path) -> list[str]:
    """``number Class`` lines, numbers from 1 (UCF101's ``classInd.txt``)."""
    pairs = [(place, line, line.split(maxsplit=1)) for place, line in text_lines(file)]
    for number, (place, line, pair) in enumerate(pairs, start=1):
        if len(pair) != 2 or pair[0] != str(number):
            raise ValueError(f"{place}: '{line}'; expected '{number} Class'")
    return [pair[1] for _, _, pair in pairs]


def class_object(file: epath.Path) -> list[str]:
    """A JSON object of ``"class": "label"`` (Something-Something V2's ``labels.json``)."""
    return _in_order(_json(file, dict), file)


def jester_classes(file: epath.Path) -> list[str]:
    """One class a line, or the columns ``label`` and ``label_id`` of the training CSV of Jester's copy on Kaggle."""
    if not _is_numbered_table(file):
        return class_lines(file)
    return _in_order({row["label"]: row["label_id"] for _, row in _table(file, ("label", "label_id"))}, file)


def class_parts(file: epath.Path) -> list[str]:
    """A JSON list of the parts of each class's name (Diving48's vocabulary), here joined by ``+``."""
    return ["+".join(parts) for parts in _json(file, list)]


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is nothing to a data set: it was left there by other software.

    Names that begin with ``.`` (macOS's ``._x.mp4`` and ``.DS_Store``, Jupyter's ``.ipynb_checkpoints``) or with ``@``
    (Synology's ``@eaDir``, QNAP's ``@Recycle``), and ``__MACOSX``, which macOS puts into its archives.
    """
    return name.startswith((".", "@")) or name == "__MACOSX"


def strip_suffix(name: str) -> str:
    """``name`` without the suffix of a video file, if it has one."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES else name


def _in_order(labels: Mapping[str, str], file: epath.Path) -> list[str]:
    """Names of classes in the order of their labels, which are numbers from 0."""
    ordered = sorted(labels, key=lambda name: int(labels[name]))
    if [int(labels[name]) for name in ordered] != list(range(len(labels))):
        raise ValueError(f"{file}: the labels are not 0 to {len(labels) - 1}, each once")
    return ordered


def _is_numbered_table(file: epath.Path) -> bool:
    """Whether a file is a CSV whose header has the columns ``label`` and ``label_id``."""
    header = _text(file).partition("\n")[0].strip().split(",")
    return {"label", "label_id"} <= set(header)


def _text(file: epath.Path) -> str:
    """The text of a file without a byte order mark, which epath's ``read_text`` keeps for any encoding."""
    return file.read_bytes().decode("utf-8-sig")


def _table(file: epath.Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    with io.StringIO(_text(file), newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
            raise ValueError(f"{file}: the header has no column {', '.join(missing)}; expected {', '.join(columns)}")
        for row in reader:
            if any(row[column] is None for column in columns):
                raise ValueError(f"{file}:{reader.line_num}: the line is shorter than the header")
            yield f"{file}:{reader.line_num}", row


def _seconds(row: Mapping[str, str], place: str, column: str = "time_start") -> int:
    try:
        return int(float(row[column]))
    except ValueError:
        raise ValueError(f"{place}: {column} is '{row[column]}'; expected seconds") from None


@functools.lru_cache(maxsize=8)
def _columns(header: str) -> tuple[str, str] | None:
    """The columns of path and label, where a line is the header of a CSV."""
    fields = {field.strip().lower(): field.strip() for field in next(csv.reader([header]))}
    names = [fields[name] for name in _NAME_COLUMNS if name in fields]
    labels = [fields[name] for name in _LABEL_COLUMNS if name in fields]
    return (names[0], labels[0]) if names and labels else None


def _own_table(file: epath.Path) -> list[Entry]:
    name, label = _columns(text_lines(file)[0][1]) or ("", "")
    with io.StringIO(_text(file), newline="") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        entries = [
            Entry((row[name] or "").strip(), (row[label] or "").strip(), place=f"{file}:{reader.line_num}")
            for row in reader
        ]
    for entry in entries:
        if not entry.name or not entry.label:
            raise ValueError(f"{entry.place}: the {'path' if not entry.name else 'label'} is empty")
    numbers = all(str(entry.label).isdecimal() for entry in entries)
    return [dataclasses.replace(entry, label=int(str(entry.label))) for entry in entries] if numbers else entries


_LAST_NUMBER = re.compile(r"(.*\S)((?:\s*,\s*|\s+)\d+)")


def _split_line(line: str) -> tuple[str, str, int] | None:
    """Path, number of frames (as it stands there; empty if there is none) and label of a line."""
    match = _LAST_NUMBER.fullmatch(line)
    if not match:
        return None
    name, label = match[1], int(match[2].strip(" ,\t"))
    frames = _LAST_NUMBER.fullmatch(name)
    if not frames:
        return name.rstrip(" ,\t"), "", label
    # A number after the name of a video file would be a second label; after any other name it may be part of it.
    return (frames[1], frames[2], label) if strip_suffix(frames[1]) == frames[1] else None


def _json(file: epath.Path, kind: type) -> Any:
    try:
        content = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from None
    if not isinstance(content, kind):
        raise ValueError(f"{file}: holds a JSON {type(content).__name__}; expected a {kind.__name__}")
    return content


def _json_items(file: epath.Path, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, item in enumerate(_json(file, list)):
        if missing := [field for field in fields if field not in item]:
            raise ValueError(f"{file}: item {number} has no {', '.join(missing)}; expected {', '.join(fields)}")
        yield f"{file}: item {number}", item
