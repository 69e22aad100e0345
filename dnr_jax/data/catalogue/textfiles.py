"""Text files as people and programs save them: any usual encoding, line ends of any system, tables, JSON.

What cannot be read for sure is refused with the file and the line (``ValueError``), never guessed in silence.
"""

import codecs
import contextlib
import csv
import dataclasses
import functools
import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

_logger = logging.getLogger(__name__)

# The longer marks first: that of UTF-32 begins with that of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LINE_END = re.compile(r"\r\n|\r|\n")
_DELIMITERS = ",;\t|"
QUOTED = re.compile(r'"((?:[^"]|"")*)"')
"""A field as csv.writer quotes it; group 1 is its content, with quotes doubled."""


def read_text(file: epath.Path) -> str:
    r"""Return the text of a file, without byte order marks, its lines ended by ``\n``.

    It may be UTF-8, UTF-16 or UTF-32; without a byte order mark, UTF-16 is told by its NUL bytes. Lines that are not
    UTF-8 are read as Windows-1252, of which Latin-1's letters are a part, with a warning that names the first one.

    Raises:
      ValueError: There are NUL bytes where no text has any, UTF-16 is damaged, or the file may not be read.
    """
    try:
        content = file.read_bytes()
    except PermissionError as error:
        raise ValueError(f"{file}: {error.strerror}; expected a file that may be read") from None
    encoding = _encoding(content)
    try:
        text = content.decode(encoding) if encoding else _decode_lines(content, file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: byte {error.start} is no {encoding.upper()} ({error.reason})") from None
    before, nul, _ = text.partition("\0")
    if nul:
        line, offset = len(_LINE_END.findall(before)) + 1, len(before.encode(encoding or "utf-8"))
        raise ValueError(f"{file}:{line}: byte {offset} of the file is NUL; it is damaged, or not a text file")
    return _LINE_END.sub("\n", text.replace("\ufeff", ""))


def numbered_lines(file: epath.Path) -> list[tuple[str, str]]:
    """Return all lines of a text file, stripped, blank ones too, each with its place ``file:line``; no comments.

    A comment is a line that begins with ``#`` and a space: HMDB51 has videos whose names begin with ``#``.
    """
    lines = enumerate(read_text(file).split("\n"), start=1)
    name = str(file)
    return [(f"{name}:{number}", line.strip()) for number, line in lines if not _is_comment(line)]


def text_lines(file: epath.Path) -> list[tuple[str, str]]:
    """Return the lines of a text file that are neither blank nor comments, stripped, each with its place."""
    return [(place, line) for place, line in numbered_lines(file) if line]


def split_header(line: str) -> tuple[str, ...]:
    """Return the names of columns in a header, in lower case, with ``_`` for spaces.

    The delimiter is the most frequent of comma, semicolon, tab and ``|``, or spaces where there is none of these.
    """
    delimiter = _delimiter(line)
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) if delimiter else line.split()
    return tuple(re.sub(r"[\s-]+", "_", field.strip().lower()) for field in fields)


def has_delimiter(line: str) -> bool:
    """Return whether a header separates its columns by something else than spaces."""
    return bool(_delimiter(line))


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
      place: ``file:line``.
      fields: Its values, stripped, by the names of the columns as :func:`split_header` gives them.
    """

    place: str
    fields: dict[str, str]


def read_table(file: epath.Path, columns: Sequence[str]) -> list[Row]:
    """Read a table (CSV, or separated by semicolons, tabs or ``|``) whose first line is a header.

    Args:
      file: The file. Blank lines and comments are nothing.
      columns: Those that must be there, in any order and letter case.

    Raises:
      ValueError: A column is missing or there twice, a line is longer than the header, ends before these columns, or
        has quotes that do not fit.
    """
    lines = text_lines(file)
    header = split_header(lines[0][1]) if lines else ()
    if missing := [column for column in columns if column not in header]:
        raise ValueError(f"{file}: the header has no column {', '.join(missing)}; expected {', '.join(columns)}")
    if twice := [column for column in columns if header.count(column) > 1]:
        raise ValueError(f"{lines[0][0]}: the header has several columns {', '.join(twice)}; expected one")
    rows = _records(file, _delimiter(lines[0][1]) or " ")
    next(rows)  # the header
    return [_row(place, fields, header, columns) for place, fields in rows]


def read_json(file: epath.Path, kind: type) -> Any:
    """Return the content of a JSON file, which must be an object (``dict``) or a list.

    Raises:
      ValueError: It is not, or an object has a name twice.
    """
    try:
        content = json.loads(read_text(file), object_pairs_hook=functools.partial(_object, file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from None
    if not isinstance(content, kind):
        raise ValueError(f"{file}: holds a JSON {type(content).__name__}; expected a {kind.__name__}")
    return content


def is_json(file: epath.Path) -> bool:
    """Return whether a file holds a JSON object or list, or begins like an object: text may begin with ``[``."""
    text = read_text(file).strip()
    try:
        return text.startswith("{") or isinstance(json.loads(text), list)
    except json.JSONDecodeError:
        return False


def unquote(text: str) -> str:
    """Return a field without the quotes that csv.writer put around it, if it did."""
    quoted = QUOTED.fullmatch(text)
    return quoted[1].replace('""', '"') if quoted else text


def readable(name: str) -> str:
    r"""Return a name of a file, folder or class such that it can be printed, written and compared.

    Bytes of names on the disk that are not UTF-8 (surrogates in Python) are read as Windows-1252, letters with accents
    are composed (macOS takes them apart), and line ends and other control characters are written as escapes (``\n``).
    """
    if name.isascii() and name.isprintable():
        return name
    if any("\ud800" <= character <= "\udfff" for character in name):
        name = _decode_line(name.encode(errors="surrogateescape"))
    name = unicodedata.normalize("NFC", name)
    return "".join(_escape(character) for character in name)


def first_of(names: Sequence[str], count: int = 3) -> str:
    """Return the first of many names as examples, with ``...`` where there are more."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def spellings(name: str) -> Iterator[str]:
    r"""Return the ways in which a name out of a text may be written on the disk, as it stands there first.

    With ``/`` for the ``\`` of Windows; letters with accents composed, taken apart, or in Windows-1252 or Latin-1.
    """
    for slashed in dict.fromkeys((name, name.replace("\\", "/"))):
        yield slashed
        if not slashed.isascii():
            yield from (unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed))
            for encoding in ("cp1252", "latin-1"):
                with contextlib.suppress(UnicodeEncodeError):
                    yield os.fsdecode(slashed.encode(encoding))


def _encoding(content: bytes) -> str:
    """Return the encoding that a byte order mark or the NUL bytes of ASCII characters in UTF-16 tell; empty: none."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return "" if encoding == "utf-8" else encoding
    even, odd = content[::2].count(0), content[1::2].count(0)
    if max(even, odd) * 5 < len(content) or min(even, odd):  # at least two of five characters are ASCII
        return ""
    return "utf-16-be" if even else "utf-16-le"


def _decode_lines(content: bytes, file: epath.Path) -> str:
    """Read each line as UTF-8, or as Windows-1252 where it is not: files are put together from several sources."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        offset = error.start
    lines = content.splitlines(keepends=True)
    number = len(content[: offset + 1].splitlines())
    _warn_of_encoding(str(file), number, offset, content[offset], _decode_line(lines[number - 1]).strip()[:80])
    return "".join(map(_decode_line, lines))


@functools.cache  # a list is read more than once
def _warn_of_encoding(file: str, line: int, offset: int, byte: int, shown: str) -> None:
    message = "%s:%d: byte %d of the file, 0x%02x, is not UTF-8; such lines are read as Windows-1252: '%s'"
    _logger.warning(message, file, line, offset, byte, shown)


def _decode_line(line: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")


def _escape(character: str) -> str:
    is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape").decode() if is_control else character


def _object(file: epath.Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; Python would take the last of several values."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{file}: an object has the name '{twice}' twice")
    return content


def _is_comment(line: str) -> bool:
    """Return whether a line is a comment, or Excel's ``sep=;``, which the header tells as well."""
    return line.lstrip()[:1] in ("#", "s") and re.match(r"\s*(#(\s|$)|sep=.?$)", line) is not None


def _delimiter(line: str) -> str:
    """Return the most frequent delimiter of a header; empty where there are only spaces."""
    best = max(_DELIMITERS, key=line.count)
    return best if best in line else ""


def _records(file: epath.Path, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the lines of a table that hold anything, split; a quoted field may go on over several lines."""
    lines = ["" if _is_comment(line) else line for line in read_text(file).split("\n")]
    name = str(file)
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        place = f"{name}:{reader.line_num + 1}"
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{place}: the quotes do not fit ({error}); expected them as csv.writer sets them"
            ) from None
        if any(fields):
            yield place, fields


def _row(place: str, fields: Sequence[str], header: Sequence[str], columns: Sequence[str]) -> Row:
    if len(fields) > len(header) and any(fields[len(header) :]):
        raise ValueError(
            f"{place}: the line has {len(fields)} fields, the header {len(header)}; a field with a delimiter in it "
            "needs quotes"
        )
    values = dict(zip(header, fields, strict=False))
    if any(column not in values for column in columns):
        raise ValueError(f"{place}: the line is shorter than the header")
    return Row(place, dict.fromkeys(header, "") | values)
