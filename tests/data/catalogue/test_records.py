import os
import pathlib
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from etils import epath

from dnr_jax.data.catalogue import prepare, records, sources
from dnr_jax.data.clips import decode
from tests.data import zoo
from tests.paths import REPOSITORY

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def prepared(video_folder, tmp_path_factory) -> records.Prepared:
    out = tmp_path_factory.mktemp("records")
    return prepare.prepare(sources.Folder(str(video_folder)).open(), str(out), shard_videos=4)


@pytest.fixture
def files(video_folder) -> sources.VideoSource:
    return sources.Folder(str(video_folder)).open().splits["train"]


def test_the_index_says_what_the_records_are(prepared, files):
    index = prepared.index("train")
    assert index.names == files.names and index.labels.dtype == np.int32
    np.testing.assert_array_equal(index.labels, files.labels)
    with pytest.raises(FileNotFoundError, match="no split 'test' was prepared; there are train, val"):
        prepared.index("test")


def test_a_reader_works_in_threads_and_in_other_processes(prepared, files):
    reader = records.RecordReader(prepared.folder, "train")
    expected = [pathlib.Path(path).read_bytes() for path in files.paths]
    copy = pickle.loads(pickle.dumps(reader))
    assert len(reader) == len(copy) == 11
    assert reader[2:5] == expected[2:5] and copy[-1 % 11] == expected[-1]
    read: dict[int, bytes] = {}
    threads = [threading.Thread(target=lambda i=i: read.update({i: copy[i]})) for i in range(11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [read[i] for i in range(11)] == expected


def test_tfds_reads_it_into_grain_without_tensorflow(prepared, files):
    """By its own public functions, in a process of its own; the label of a record is that of the index."""
    program = (
        "import sys, grain, tensorflow_datasets as tfds\n"
        "source = tfds.builder_from_directory(sys.argv[1]).as_data_source('train')\n"
        "examples = list(grain.MapDataset.source(source))\n"
        "print([(e['id'].decode(), int(e['label']), len(e['video'])) for e in examples])\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, prepared.folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sizes = [os.path.getsize(path) for path in files.paths]
    assert eval(done.stdout) == list(zip(files.names, files.labels.tolist(), sizes, strict=True))


def test_a_record_has_an_index_of_its_packets(prepared, files, monkeypatch):
    """With which its frames are read without opening the file."""
    video = records.RecordReader(prepared.folder, "train")[3]
    expected, total = decode.decode_frames(files.paths[3], np.arange)
    assert isinstance(video, decode.StoredVideo) and video.packets == decode.index_packets(bytes(video)) != b""
    assert not video.counted
    monkeypatch.setattr(decode, "open_video", None)
    frames, count = decode.decode_frames(video, np.arange)
    assert count == total
    np.testing.assert_array_equal(frames, expected)


def test_records_of_the_older_layout_are_read(files, tmp_path, monkeypatch):
    features = records._features

    def older(tfds, classes):
        new = features(tfds, classes)
        return tfds.features.FeaturesDict({name: new[name] for name in ("video", "id", "label")})

    monkeypatch.setattr(records, "_features", older)
    content = pathlib.Path(files.paths[0]).read_bytes()
    writer = records.RecordWriter(str(tmp_path / "shard"), files.classes)
    monkeypatch.setattr(writer._features, "encode_example", lambda e: {"video": content, "id": e["id"], "label": 1})
    writer.write(content, files.names[0], 1)
    writer.close()
    shard = records.Shard("train", str(tmp_path / "shard"), [{"name": files.names[0], "label": 1, "frames": 9}])
    folder = records.assemble(str(tmp_path), "older", files.classes, "", "", [shard], {})
    monkeypatch.undo()
    (video,) = records.RecordReader(folder, "train")[0:1]
    assert type(video) is bytes and video == content


def test_find_looks_below_the_folder_and_refuses_what_is_not_clear(prepared, tmp_path):
    home = os.path.dirname(os.path.dirname(prepared.folder))
    assert records.find(prepared.folder) == records.find(os.path.dirname(prepared.folder)) == records.find(home)
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(prepared.folder)
    with pytest.raises(ValueError, match="several prepared data sets"):
        records.find(str(tmp_path))
    (tmp_path / "b").rename(tmp_path / "incomplete.XYZ_1.0.0")  # what a killed preparation leaves
    assert records.find(str(tmp_path)).name == "folder"
    with pytest.raises(FileNotFoundError, match="expected the folder that 'dnr prepare' wrote to"):
        records.find(str(tmp_path / "none"))


def test_a_video_whose_frames_are_counted_is_decoded_with_the_number_that_is_stored(tmp_path, monkeypatch):
    """Others, and those of older records, without one."""
    root = tmp_path / "root" / "train" / "jump"
    root.mkdir(parents=True)
    stream = zoo.write("libx264", "mpegts", {"g": "12", "bf": "3"}, zoo.numbered_frames())
    (root / "cut.ts").write_bytes(stream[len(stream) // 8 // 188 * 188 :])
    (root / "whole.ts").write_bytes(stream)
    files = sources.Folder(str(tmp_path / "root")).open(["train"])
    prepared = prepare.prepare(files, str(tmp_path / "out"))
    rows = {row["name"]: row for row in prepared.index("train").rows}
    assert rows["jump/cut.ts"]["counted"] and not rows["jump/whole.ts"]["counted"]
    cut, whole = records.RecordReader(prepared.folder, "train")[0:2]
    assert not isinstance(whole, decode.StoredVideo) and cut.counted == rows["jump/cut.ts"]["frames"] < zoo.FRAMES
    card = pathlib.Path(prepared.folder, "card.md").read_text()
    assert "## Slow in train" in card and "The packets of 1 of 2 videos" in card

    decoded = []
    in_order = decode.decode_in_order
    monkeypatch.setattr(decode, "decode_in_order", lambda media: map(lambda f: decoded.append(f) or f, in_order(media)))
    clip = np.array([4, 2, 9])
    frames, total = decode.decode_frames(cut, lambda total: clip)
    assert total == cut.counted and len(decoded) == 10
    np.testing.assert_array_equal(frames, decode.decode_frames(bytes(cut), lambda total: clip)[0])
    assert len(decoded) == 10 + total + 10  # once to count, and once more with the right number
    wrong = decode.StoredVideo(cut, total + 5)  # counted with another decoder
    assert decode.decode_frames(wrong, lambda total: np.array([total - 1]))[1] == total

    index = pathlib.Path(prepared.folder, records.index_name("train"))
    index.write_text(index.read_text().replace(', "counted": true', ""))
    assert not isinstance(records.RecordReader(prepared.folder, "train")[0], decode.StoredVideo)


def test_whether_a_folder_can_be_written_to_is_known_before(tmp_path):
    assert records.why_not_writable(tmp_path / "new" / "folder") == ""
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "nothing can be written to" in records.why_not_writable(tmp_path / "file")


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDWR), "rb", buffering=0) as reader:
        records.write_text(epath.Path(pipe), "lines")
        assert pipe.is_fifo() and reader.read(5) == b"lines"
