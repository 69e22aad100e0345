"""Parsers of annotation files: each reads one format and returns plain entries, whatever data set the file belongs to.

A parser of entries maps a file to a list of :class:`Entry`; a parser of classes maps a file to the names of the classes
in the order of their labels. Malformed content raises ``ValueError`` with the file and the line.
"""

import dataclasses
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from etils import epath

from dnr_jax.data.catalogue.textfiles import (
    QUOTED,
    Row,
    has_delimiter,
    is_json,
    numbered_lines,
    read_json,
    read_table,
    readable,
    split_header,
    text_lines,
    unquote,
)
from dnr_jax.data.clips.suffixes import VIDEO_SUFFIXES

_logger = logging.getLogger(__name__)

# Columns that a person's own CSV may call by several names, those that are taken first before the others.
_NAME_COLUMNS = (
    *("path", "video", "file", "filename", "name", "video_path", "file_path", "filepath", "video_file"),
    *("file_name", "video_name", "video_id", "clip", "clip_path", "clip_name"),
)
_LABEL_COLUMNS = (
    *("label", "class", "label_id", "class_id", "label_name", "class_name", "category", "action", "target"),
)
_PART_COLUMNS = (
    *("start", "end", "stop", "start_time", "end_time", "stop_time", "time_start", "time_end", "t_start", "t_end"),
    *("start_sec", "end_sec", "start_seconds", "end_seconds", "start_frame", "end_frame", "stop_frame"),
    *("start_timestamp", "stop_timestamp", "end_timestamp"),
)
_SPLIT_COLUMNS = ("split", "subset", "partition", "set", "phase", "usage")
_SPLIT_NAMES = frozenset("train training val valid validate validation test testing dev eval evaluation".split())
_NO_LABELS = frozenset({"nan", "na", "n/a", "<na>", "null", "none", "-"})
"""What programs write where a number is missing; where labels are names, a class may be called like that."""
# Those of a label map. "label" and "class" are numbers where another column holds the names; an index that pandas wrote
# has no name.
_NUMBER_COLUMNS = (
    *("id", "index", "idx", "number", "label_id", "class_id", "label_index", "class_index", "label", "class", ""),
)
_CLASS_COLUMNS = (*("name", "class_name", "label_name", "display_name", "category", "action", "class", "label"),)
_LONE_HEADERS = frozenset({*_CLASS_COLUMNS, "names", "classes", "labels", "categories", "actions"})
# Label maps of which lines would be taken for names, by what tells them.
_OTHER_MAPS: dict[str, Callable[[Sequence[str]], bool]] = {
    "protobuf's text format": lambda lines: any(re.fullmatch(r"item\s*\{", line) for line in lines),
    "YAML": lambda lines: (
        any(line == "---" or line.endswith(":") for line in lines) or all(line.startswith("- ") for line in lines)
    ),
}


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


def kinetics(file: epath.Path) -> list[Entry]:
    """Read Kinetics' CSV: ``label,youtube_id,time_start,time_end,split,...``; test files may lack labels."""
    return [
        Entry(
            row.fields["youtube_id"],
            row.fields.get("label") or None,
            _seconds(row, "time_start"),
            _seconds(row, "time_end"),
            row.place,
        )
        for row in read_table(file, ("youtube_id", "time_start", "time_end"))
    ]


def identifiers(file: epath.Path) -> list[Entry]:
    """Read one identifier a line, without a label (Mini-Kinetics-200)."""
    return [Entry(line, place=place) for place, line in text_lines(file)]


def semicolons(file: epath.Path) -> list[Entry]:
    """Read ``id;class`` lines without a header (Something-Something V1, Jester); test files may lack classes."""
    rows = [(place, *line.partition(";")) for place, line in text_lines(file)]
    return [Entry(name, label or None, place=place) for place, name, _, label in rows]


def jester(file: epath.Path) -> list[Entry]:
    """Read Jester's ``id;class`` lines, or a CSV ``video_id,label,frames,label_id,...`` (its copy on Kaggle).

    In the CSV of the test split the identifier is called ``id``.
    """
    if not _is_numbered_table(file):
        return semicolons(file)
    rows = [(row.fields, row.place) for row in read_table(file, ("label", "label_id"))]
    return [
        Entry(fields.get("video_id") or fields.get("id") or "", fields["label"] or None, place=place)
        for fields, place in rows
    ]


def something_v2(file: epath.Path) -> list[Entry]:
    """Read Something-Something V2's list of ``{"id", "template", ...}``; the class is the template unbracketed."""
    return [
        Entry(
            str(item["id"]), re.sub(r"[\[\]]", "", str(item["template"])) if "template" in item else None, place=place
        )
        for place, item in _json_items(file, ("id",))
    ]


def diving48(file: epath.Path) -> list[Entry]:
    """Read Diving48's list of ``{"vid_name", "label", "start_frame", "end_frame"}`` with numbers as labels."""
    return [
        Entry(str(item["vid_name"]), item["label"], place=place)
        for place, item in _json_items(file, ("vid_name", "label"))
    ]


def ucf101(file: epath.Path) -> list[Entry]:
    """Read ``Class/video.avi`` lines, in training lists with the label from 1, which the folder says as well."""
    entries = []
    for place, line in text_lines(file):
        folder, slash, video = line.split()[0].replace("\\", "/").rpartition("/")
        if not slash:
            raise ValueError(f"{place}: '{line}'; expected 'Class/video.avi'")
        entries.append(Entry(strip_suffix(video), folder, place=place))
    return entries


def hmdb51(file: epath.Path, use: str) -> list[Entry]:
    """Read ``video.avi use`` lines in a file called ``<class>_test_split<n>.txt``.

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


def video_list(file: epath.Path, may_be_folder: Callable[[str], bool] = lambda name: False) -> list[Entry]:
    """Read a list of one's own, in any format in use; paths may contain spaces, and be quoted as csv.writer does.

    - ``path label``: MMAction2's lists of videos; ``path,label`` or ``path label``: PySlowFast's.
    - ``path frames label``: MMAction2's lists of folders of frames; the number of frames is not needed.
    - a table whose header has the columns ``path`` and ``label``; there a label may be a class's name.

    Args:
      file: The list.
      may_be_folder: Whether a name with the suffix of a video file may be that of a folder of frames; a number behind
        the name of a file would be a second label.

    Raises:
      ValueError: A line fits none of them, or a label is negative.
    """
    lines = text_lines(file)
    columns = _columns(lines[0][1]) if lines else None
    if not columns:
        return _own_lines(lines, may_be_folder)
    if has_delimiter(lines[0][1]):
        return _own_table(file, *columns)
    if split_header(lines[0][1])[:: len(lines[0][1].split()) - 1] != columns:
        raise ValueError(f"{lines[0][0]}: '{lines[0][1]}'; expected commas between columns, or 'path label'")
    return _own_lines(lines[1:], may_be_folder)


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """The classes that a file names.

    Attributes:
      names: In the order of their labels.
      first: The label of the first one: 1 where the file counts from 1.
    """

    names: tuple[str, ...]
    first: int = 0


def label_map(file: epath.Path) -> LabelMap:
    """Read names of classes in any of the formats in use; at least one.

    - one name a line, in the order of the labels;
    - numbered lines, ``0 jump``, ``0,jump`` or ``jump,0``, in any order;
    - a table whose header names the columns, such as ``id,name`` or ``label;class``;
    - JSON: a list of names, or an object of ``"name": number`` or ``"number": "name"``.

    Raises:
      ValueError: Numbers are missing or there twice, a name is there twice, a line is blank between names, or it
        cannot be told what is a number and what a name.
    """
    lines = text_lines(file)
    found = _classes_of(file, lines) if lines else LabelMap(())
    if not found.names:
        raise ValueError(f"{file}: there are no names of classes in it")
    return found


def _classes_of(file: epath.Path, lines: Sequence[tuple[str, str]]) -> LabelMap:
    if file.suffix.lower() == ".json" or is_json(file):
        return _json_classes(file)
    if other := next((name for name, is_it in _OTHER_MAPS.items() if is_it([line for _, line in lines])), ""):
        raise ValueError(f"{file}: a map in {other}; expected one name a line, or the columns id and name")
    header = split_header(lines[0][1])
    if columns := _class_columns(header):
        if has_delimiter(lines[0][1]):
            rows = read_table(file, columns)
            return _numbered([(row.place, row.fields[columns[0]], row.fields[columns[1]]) for row in rows], file)
        return _numbered(_required_numbers(lines[1:]), file)
    if len(header) > 1 and has_delimiter(lines[0][1]) and _LONE_HEADERS.intersection(header):
        raise ValueError(
            f"{lines[0][0]}: '{lines[0][1]}' seems to be a header without a column of numbers; expected the columns id "
            "and name, or one name a line"
        )
    if len(lines) > 1 and len(header) == 1 and header[0] in _LONE_HEADERS:
        _logger.warning("%s: '%s' is taken for the header, not for a class", *lines[0])
        return LabelMap(tuple(_distinct([(place, unquote(line)) for place, line in lines[1:]])))
    if numbers := _numbers(lines):
        return _numbered(numbers, file)
    return LabelMap(tuple(class_lines(file)))


def class_lines(file: epath.Path) -> list[str]:
    """Read one class a line, in the order of the labels.

    Raises:
      ValueError: A line between two classes is blank, which would move all labels behind it, or a class is there twice.
    """
    lines = numbered_lines(file)
    while lines and not lines[-1][1]:
        lines.pop()
    if blank := [place for place, line in lines if not line]:
        raise ValueError(f"{blank[0]}: the line is blank; expected a class, for the labels count the lines")
    return _distinct([(place, unquote(line)) for place, line in lines])


def numbered_classes(file: epath.Path) -> list[str]:
    """Read ``number Class`` lines, numbers from 1 (UCF101's ``classInd.txt``)."""
    pairs = [(place, line, line.split(maxsplit=1)) for place, line in text_lines(file)]
    for number, (place, line, pair) in enumerate(pairs, start=1):
        if len(pair) != 2 or pair[0] != str(number):
            raise ValueError(f"{place}: '{line}'; expected '{number} Class'")
    return [pair[1] for _, _, pair in pairs]


def class_object(file: epath.Path) -> list[str]:
    """Read a JSON object of ``"class": "label"`` (Something-Something V2's ``labels.json``)."""
    return list(_json_classes(file).names)


def jester_classes(file: epath.Path) -> list[str]:
    """Read one class a line, or the columns ``label`` and ``label_id`` of Jester's training CSV on Kaggle."""
    if not _is_numbered_table(file):
        return class_lines(file)
    pairs = {
        (row.fields["label_id"], row.fields["label"]): row.place for row in read_table(file, ("label", "label_id"))
    }
    return list(_numbered([(place, *pair) for pair, place in pairs.items()], file).names)


def class_parts(file: epath.Path) -> list[str]:
    """Read a JSON list of the parts of each class's name (Diving48's vocabulary), here joined by ``+``."""
    return ["+".join(map(str, parts)) if isinstance(parts, list) else str(parts) for parts in read_json(file, list)]


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is nothing to a data set: it was left there by other software.

    Names that begin with ``.`` (macOS's ``._x.mp4`` and ``.DS_Store``, Jupyter's ``.ipynb_checkpoints``) or with ``@``
    (Synology's ``@eaDir``, QNAP's ``@Recycle``), and ``__MACOSX``, which macOS puts into its archives.
    """
    return name.startswith((".", "@")) or name == "__MACOSX"


def strip_suffix(name: str) -> str:
    """Return ``name`` without the suffix of a video file, if it has one."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES else name


def _is_numbered_table(file: epath.Path) -> bool:
    """Return whether a file is a CSV whose header has the columns ``label`` and ``label_id``."""
    lines = text_lines(file)
    return bool(lines) and {"label", "label_id"} <= set(split_header(lines[0][1]))


def _seconds(row: Row, column: str) -> int:
    try:
        return int(float(row.fields[column]))
    except ValueError:
        raise ValueError(f"{row.place}: {column} is '{row.fields[column]}'; expected seconds") from None


def _columns(line: str) -> tuple[str, str] | None:
    """Return the columns of path and label, where a line is a header."""
    header = split_header(line)
    names = [name for name in _NAME_COLUMNS if name in header]
    labels = [name for name in _LABEL_COLUMNS if name in header]
    return (names[0], labels[0]) if names and labels else None


def _own_table(file: epath.Path, name: str, label: str) -> list[Entry]:
    rows = read_table(file, (name, label))
    _refuse_parts(file, rows, name)
    for row in rows:
        if not row.fields[name] or not row.fields[label]:
            raise ValueError(f"{row.place}: the {'path' if not row.fields[name] else 'label'} is empty")
    labels = [_WHOLE_NUMBER.fullmatch(row.fields[label]) for row in rows]
    others = [row for row, number in zip(rows, labels, strict=True) if not number]
    if 0 < len(others) < len(rows) and all(row.fields[label].lower() in _NO_LABELS for row in others):
        raise ValueError(
            f"{others[0].place}: the label is '{others[0].fields[label]}', where others are numbers; expected a number"
        )
    if not all(labels):
        return [Entry(row.fields[name], row.fields[label], place=row.place) for row in rows]
    numbers = [int(number[1]) for number in labels if number]
    if negative := [row for row, number in zip(rows, numbers, strict=True) if number < 0]:
        raise ValueError(f"{negative[0].place}: the label is {negative[0].fields[label]}; expected 0 or more")
    return [Entry(row.fields[name], number, place=row.place) for row, number in zip(rows, numbers, strict=True)]


def _refuse_parts(file: epath.Path, rows: Sequence[Row], name: str) -> None:
    """Refuse a table of parts of videos, or of several splits; warn where columns only look like that."""
    for column in _SPLIT_COLUMNS:
        splits = sorted({row.fields.get(column) or "" for row in rows} - {""})
        if len(splits) < 2 or (column != "split" and not _SPLIT_NAMES.issuperset(map(str.lower, splits))):
            continue  # other columns may hold sets of anything
        raise ValueError(f"{file}: its rows are of several splits ({', '.join(splits)}); expected a list for each")
    columns = [column for column in _PART_COLUMNS if any(row.fields.get(column) for row in rows)]
    parts: dict[str, tuple[str | None, ...]] = {}
    for row in rows:
        part = tuple(row.fields.get(column) for column in columns)
        if parts.setdefault(row.fields[name], part) != part:
            raise ValueError(
                f"{row.place}: another part of '{row.fields[name]}', by {' and '.join(columns)}; a list names whole "
                "videos, so cut the parts into files of their own and list those"
            )
    if columns:
        _logger.warning("%s: not read: %s; each row is the whole video", file, ", ".join(columns))


# As tables hold them: pandas writes whole numbers with ".0" where one is missing. Names may begin with zeros.
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0*)?")
_SEPARATOR = r"[\s,;|]+"
_LAST_NUMBER = re.compile(rf"(.*[^\s,;|])({_SEPARATOR}(\d+))")
_NUMBERS = re.compile(rf'(?:{_SEPARATOR}"?\d+"?){{1,2}}')
_VIDEO_AND_NUMBER = re.compile(
    rf".*\.(?:{'|'.join(suffix[1:] for suffix in VIDEO_SUFFIXES)})[\s,;|]+\d+", re.IGNORECASE
)


def _own_lines(lines: Sequence[tuple[str, str]], may_be_folder: Callable[[str], bool]) -> list[Entry]:
    split = [(place, line, _split_line(line)) for place, line in lines]
    # Only where all lines have two numbers is the first one the number of frames; elsewhere it is a part of the name.
    has_frames = all(fields[1] for _, _, fields in split if fields)
    entries = []
    for place, line, fields in split:
        name = fields and (fields[0] if has_frames else fields[0] + fields[1])
        if not fields or not name or _has_two_labels(name, has_frames, may_be_folder):
            raise ValueError(
                f"{place}: '{line}'; expected 'path label' with a label of 0 or more, or a header with the columns "
                "path and label, separated by commas"
            )
        entries.append(Entry(name, fields[2], place=place))
    return entries


def _has_two_labels(name: str, has_frames: bool, may_be_folder: Callable[[str], bool]) -> bool:
    """Return whether a number behind the name of a video file, taken off or not, is a label as well."""
    is_file = has_frames and strip_suffix(name) != name and not may_be_folder(name)
    return is_file or _VIDEO_AND_NUMBER.fullmatch(name) is not None


def _split_line(line: str) -> tuple[str, str, int] | None:
    """Return the path, the number of frames (as it stands there; empty if there is none) and the label of a line."""
    line = line.rstrip(" ,;|\t")  # spreadsheets write delimiters for empty columns
    if line.startswith('"'):
        return _split_quoted(line)
    match = _LAST_NUMBER.fullmatch(line)
    if not match:
        return None
    name, label = match[1], int(match[3])
    frames = _LAST_NUMBER.fullmatch(name)
    return (frames[1], frames[2], label) if frames else (name, "", label)


def _split_quoted(line: str) -> tuple[str, str, int] | None:
    name = QUOTED.match(line)
    if not name or not _NUMBERS.fullmatch(line, name.end()):
        return None
    *frames, label = re.findall(r"\d+", line[name.end() :])
    return unquote(name[0]), "".join(f" {number}" for number in frames), int(label)


_Numbers: TypeAlias = list[tuple[str, str, str]]  # place, number, name
_BETWEEN = r"(?P<separator>\s*(?:[-=]>|[,;:|=\t])\s*|\s+)"
_NUMBER_FIRST = re.compile(rf"(?P<number>\d+){_BETWEEN}(?P<name>.*\S)")
_NUMBER_LAST = re.compile(rf"(?P<name>.*[^\s,;:|=>]){_BETWEEN}(?P<number>\d+)")


def _class_columns(header: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of number and name in the header of a label map."""
    numbers = [column for column in _NUMBER_COLUMNS if column in header]
    names = [column for column in _CLASS_COLUMNS if column in header and column not in numbers[:1]]
    return (numbers[0], names[0]) if numbers and names else None


def _numbers(lines: Sequence[tuple[str, str]]) -> _Numbers | None:
    """Return the numbers of numbered lines; ``None`` where lines are names, which may have numbers, too."""
    for pattern in (_NUMBER_FIRST, _NUMBER_LAST):
        found = [(place, line, pattern.fullmatch(line)) for place, line in lines]
        numbers = [(place, match["number"], match["name"]) for place, _, match in found if match]
        others = [(place, line) for place, line, match in found if not match]
        is_certain = any(
            match and match["separator"].strip() or match and "\t" in match["separator"] for _, _, match in found
        )
        if numbers and others and is_certain and len(numbers) > len(others):
            raise ValueError(
                f"{others[0][0]}: '{others[0][1]}' is not numbered as the other lines are; expected a number and a "
                "class in each line, or a header with the columns id and name"
            )
        if numbers and not others and (is_certain or pattern is _NUMBER_FIRST or _is_counting(numbers)):
            return numbers
    return None


def _required_numbers(lines: Sequence[tuple[str, str]]) -> _Numbers:
    numbers = _numbers(lines)
    if numbers is None:
        raise ValueError(f"{lines[0][0] if lines else 'the file'}: expected a number and a class in each line")
    return numbers


def _is_counting(numbers: _Numbers) -> bool:
    """Return whether numbers at the end of lines count classes; those of 'gesture 1', 'gesture 2' do not."""
    values = sorted(int(number) for _, number, _ in numbers)
    names = {name for _, _, name in numbers}
    return len(names) == len(numbers) and values in (list(range(len(values))), list(range(1, len(values) + 1)))


def _numbered(numbers: _Numbers, file: epath.Path) -> LabelMap:
    """Return the names in the order of their numbers, which count from 0 or from 1."""
    for place, number, name in numbers:
        if not number.isdecimal() or not name:
            raise ValueError(
                f"{place}: '{number}' and '{name}'; expected a number of 0 or more and the name of a class"
            )
    ordered = sorted(numbers, key=lambda row: int(row[1]))
    values = [int(number) for _, number, _ in ordered]
    first = min(values, default=0)
    if first > 1 or values != list(range(first, first + len(values))):
        raise ValueError(
            f"{file}: the labels are not 0 to {len(values) - 1}, each once (or 1 to {len(values)}); number all "
            "classes, or leave the numbers out"
        )
    names = _distinct([(place, unquote(name)) for place, _, name in ordered])
    if first:
        _logger.warning("%s: the classes are numbered from 1, so label 1 is '%s'", file, names[0])
    return LabelMap(tuple(names), first)


def _distinct(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return the names without their places; two ways to write the same letters are one name."""
    places: dict[str, str] = {}
    for place, name in names:
        if readable(name) in places:
            raise ValueError(f"{place}: the class '{name}' is there twice, at {places[readable(name)]} as well")
        places[readable(name)] = place
    return [name for _, name in names]


def _json_classes(file: epath.Path) -> LabelMap:
    content = read_json(file, object)
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return LabelMap(tuple(_distinct([(f"{file}: item {number}", name) for number, name in enumerate(content)])))
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a list of names, or an object of names and numbers")
    pairs = [(str(key), str(value)) for key, value in content.items()]
    by_value, by_key = (all(pair[side].isdecimal() for pair in pairs) for side in (1, 0))
    if by_value and by_key and any(key != value for key, value in pairs):
        raise ValueError(f"{file}: both sides are numbers; expected names of classes on one")
    if not by_value and not by_key:
        raise ValueError(f'{file}: expected an object of "name": number, or of "number": "name"')
    return _numbered([(str(file), value, key) if by_value else (str(file), key, value) for key, value in pairs], file)


def _json_items(file: epath.Path, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, item in enumerate(read_json(file, list)):
        if not isinstance(item, dict):
            raise ValueError(f"{file}: item {number} is no object; expected one with {', '.join(fields)}")
        if missing := [field for field in fields if field not in item]:
            raise ValueError(f"{file}: item {number} has no {', '.join(missing)}; expected {', '.join(fields)}")
        yield f"{file}: item {number}", item
