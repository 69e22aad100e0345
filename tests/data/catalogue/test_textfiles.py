import logging
import os
import unicodedata

import pytest
from etils import epath

from dnr_jax.data.catalogue import textfiles

TEXT = "jump/a.mp4 0\nrun/déjà.mp4 1\n"


@pytest.fixture
def write(tmp_path):
    def write_file(content: bytes | str) -> epath.Path:
        file = epath.Path(tmp_path) / "file.txt"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write_file


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_text_is_read_in_any_unicode_encoding_and_with_any_line_ends(write, encoding, ends):
    mark = "\ufeff" if encoding == "utf-32-be" else ""
    assert textfiles.read_text(write((mark + TEXT.replace("\n", ends)).encode(encoding))) == TEXT


def test_byte_order_marks_in_the_middle_are_nothing(write):
    """Files that were put together have them."""
    assert textfiles.read_text(write("\ufeffa 0\n\ufeffb 1\n")) == "a 0\nb 1\n"


@pytest.mark.parametrize("ends", ["\n", "\r"])
def test_lines_that_are_not_utf_8_are_read_as_windows_1252_and_named(write, caplog, ends):
    file = write(ends.join(["good/é.mp4 0", ""]).encode() + ends.join(["a€ 1", "déjà 2", ""]).encode("cp1252"))
    with caplog.at_level(logging.WARNING):
        assert textfiles.read_text(file) == "good/é.mp4 0\na€ 1\ndéjà 2\n"
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{file}:2: byte 15 of the file, 0x80, is not UTF-8; such lines are read as Windows-1252: 'a€ 1'"
    )


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a 0\nb\0 1\n", "txt:2: byte 5 of the file is NUL; it is damaged, or not a text file"),
        (b"a 0\nb 1\n" + bytes(100), "txt:3: byte 8 of the file is NUL"),
        (b"PK\x03\x04\0\0\0\x08", "txt:1: byte 4 of the file is NUL"),
        (TEXT.encode("utf-16")[:-1], "byte 56 is no UTF-16-LE (truncated data)"),
    ],
)
def test_what_is_no_text_is_refused(write, content, message):
    with pytest.raises(ValueError) as refused:
        textfiles.read_text(write(content))
    assert message in str(refused.value)


def test_a_file_that_may_not_be_read_is_named(write, monkeypatch):
    def read_bytes(self):
        raise PermissionError(13, "Permission denied")

    file = write(TEXT)
    monkeypatch.setattr(type(file), "read_bytes", read_bytes)
    with pytest.raises(ValueError, match="file.txt: Permission denied; expected a file that may be read"):
        textfiles.read_text(file)


def test_lines_have_places_and_comments_are_none(write):
    file = write("# comment\n\n  a 0  \n#b 1\n#\n")
    assert textfiles.text_lines(file) == [(f"{file}:3", "a 0"), (f"{file}:4", "#b 1")]
    assert textfiles.numbered_lines(file) == [
        *((f"{file}:2", ""), (f"{file}:3", "a 0"), (f"{file}:4", "#b 1"), (f"{file}:6", "")),
    ]


@pytest.mark.parametrize(
    "line, columns",
    [
        (" Path ,Class-Name", ("path", "class_name")),
        ("id;Video Path;label", ("id", "video_path", "label")),
        ("a\tb", ("a", "b")),
        ('"path","label"', ("path", "label")),
        ("path label", ("path", "label")),
        (",name", ("", "name")),
    ],
)
def test_headers(line, columns):
    assert textfiles.split_header(line) == columns
    assert textfiles.has_delimiter(line) == (line != "path label")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables(write, delimiter):
    text = '\nsep=,\n# comment\nLabel,Path,Note,\n1,"a, b;|\t.mp4",,\n,,,\n\n2,"say ""hi""\nthere",x\n3,c.mp4\n'
    if delimiter != ",":
        text = text.replace(",", delimiter).replace(f"a{delimiter} b", "a, b").replace(";|\t", ",")
    file = write(text)
    rows = textfiles.read_table(file, ("path", "label"))
    name = "a, b;|\t.mp4" if delimiter == "," else "a, b,.mp4"
    assert [(row.place, row.fields["label"], row.fields["path"], row.fields["note"]) for row in rows] == [
        (f"{file}:5", "1", name, ""),
        (f"{file}:8", "2", 'say "hi"\nthere', "x"),
        (f"{file}:10", "3", "c.mp4", ""),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the header has no column path, label; expected path, label"),
        ("path,name\n", "the header has no column label; expected path, label"),
        ("path,label,path\n", "txt:1: the header has several columns path; expected one"),
        ("path,label\na, b.mp4,1\n", "txt:2: the line has 3 fields, the header 2"),
        ("path,label\n\na.mp4\n", "txt:3: the line is shorter than the header"),
        ('path,label\n"a.mp4,1\nb.mp4,2\n', "txt:2: the quotes do not fit"),
        ('path,label\n"a"b.mp4,1\n', "txt:2: the quotes do not fit"),
    ],
)
def test_malformed_tables_are_named(write, text, message):
    with pytest.raises(ValueError) as refused:
        textfiles.read_table(write(text), ("path", "label"))
    assert message in str(refused.value)


def test_json(write):
    assert textfiles.read_json(write(b"\xef\xbb\xbf[1]"), list) == [1]
    assert textfiles.read_json(write('{"a": 1}'.encode("utf-16")), dict) == {"a": 1}
    for text, message in [
        ("[", "not valid JSON"),
        ("{}", "holds a JSON dict; expected a list"),
        ('[{"a": 1, "b": 2, "a": 3}]', "an object has the name 'a' twice"),
    ]:
        with pytest.raises(ValueError, match=message):
            textfiles.read_json(write(text), list)
    assert textfiles.is_json(write('["a"]')) and textfiles.is_json(write('{"a"'))
    assert not textfiles.is_json(write("[Something] falling\n"))


def test_quotes_are_taken_off_as_csv_writer_sets_them():
    fields = {'"a, b"': "a, b", '"say ""hi"""': 'say "hi"', "plain": "plain", '"a" b': '"a" b', '"a" "b"': '"a" "b"'}
    assert {field: textfiles.unquote(field) for field in fields} == fields


def test_names_are_made_readable():
    for name, expected in {
        "plain name": "plain name",
        os.fsdecode(b"d\xe9j\xe0"): "déjà",
        os.fsdecode(b"\x81"): "\\x81",
        unicodedata.normalize("NFD", "déjà"): "déjà",
        "a\nb\x1b": "a\\nb\\x1b",
        "a\u2028b": "a\\u2028b",
        "क्‍ष 走る": "क्‍ष 走る",
    }.items():
        assert textfiles.readable(name) == expected
        textfiles.readable(name).encode()


def test_examples():
    assert textfiles.first_of(["a", "b"]) == "a, b"
    assert textfiles.first_of(["a", "b", "c"], 2) == "a, b, ..."


def test_spellings_of_a_name():
    assert list(textfiles.spellings("a/b.mp4")) == ["a/b.mp4"]
    assert list(textfiles.spellings("a\\b.mp4")) == ["a\\b.mp4", "a/b.mp4"]
    spelled = list(textfiles.spellings("é"))
    assert spelled[0] == "é" and {unicodedata.normalize("NFD", "é"), "\udce9"} <= set(spelled)
    assert all("?" not in name and name for name in textfiles.spellings("走é"))
