import csv
import json

import cv2
import numpy as np
import pytest

from dnr_jax.streaming import outputs
from dnr_jax.streaming.segments import Segment

CLASSES = ("jump", "run <fast> & far", "sit, down")
SEGMENTS = [Segment(0.0, 2.5, 0, 0.9), Segment(2.5, 3725.0625, 1, 0.512345678), Segment(3726.0, 3727.0, 2, 1.0)]
ABOUT = {"video": "a.mp4", "seconds": 3800.0}


def test_json_and_csv_hold_times_labels_and_scores(tmp_path):
    for name in ("a.json", "a.csv"):
        outputs.write(str(tmp_path / name), SEGMENTS, CLASSES, ABOUT)
    written = json.loads((tmp_path / "a.json").read_text())
    assert (written["video"], written["seconds"]) == ("a.mp4", 3800.0)
    assert written["segments"][1] == {"start": 2.5, "end": 3725.062, "label": CLASSES[1], "score": 0.512346}
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == list(CLASSES)
    assert (rows[0]["start"], rows[0]["end"], rows[0]["score"]) == ("0.0", "2.5", "0.9")


def test_subtitles():
    assert outputs.as_srt(SEGMENTS[:2], CLASSES, ABOUT) == (
        "1\n00:00:00,000 --> 00:00:02,500\njump 90%\n\n2\n00:00:02,500 --> 01:02:05,062\nrun <fast> & far 51%\n\n"
    )
    assert outputs.as_vtt(SEGMENTS[1:2], CLASSES, ABOUT) == (
        "WEBVTT\n\n00:00:02.500 --> 01:02:05.062\nrun &lt;fast&gt; &amp; far 51%\n"
    )


@pytest.mark.parametrize("segments", [[], SEGMENTS])
def test_a_picture_of_the_timeline(segments):
    picture = cv2.imdecode(np.frombuffer(outputs.as_png(segments, CLASSES, ABOUT), np.uint8), cv2.IMREAD_COLOR)
    coloured = picture.max(axis=2).astype(int) - picture.min(axis=2) > 60
    assert coloured.any() == bool(segments)


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    file = tmp_path / "a.csv"
    outputs.write(str(file), SEGMENTS, CLASSES, ABOUT)
    before = file.read_text()
    monkeypatch.setattr("os.replace", lambda *arguments: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        outputs.write(str(file), SEGMENTS[:1], CLASSES, ABOUT)
    assert file.read_text() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]
