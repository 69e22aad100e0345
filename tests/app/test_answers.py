"""What the page says of a video, without the page."""

import re

import numpy as np
import pytest

from dnr_jax.app import answers
from dnr_jax.app.answers import Answers, Refusal
from dnr_jax.app.reading import Upload
from dnr_jax.data.clips.decode import DecodeError, encode_video
from dnr_jax.serve.decoding import Limits
from tests.app.stub import ThreadReaders, coloured, colours_answers
from tests.explain.colours import SIDE, T

LIMITS = Limits(megabytes=0.05, duration=20, seconds=20)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Answers:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "Readers", ThreadReaders)
        made = colours_answers(tmp_path_factory.mktemp("run"), LIMITS)
        yield made
        made.close()


def upload(*channels: int) -> Upload:
    """One second of each colour."""
    windows = np.stack([coloured(channel, T, SIDE) for channel in channels])
    times = np.array([(i, i + 1.0) for i in range(len(channels))])
    return Upload(windows[:1], windows[0], windows, times, 1.0)


def test_labels_over_time_are_lines_and_segments(found):
    answer = found.of_upload(upload(*[0] * 5, *[1] * 6))  # more windows than are scored at once
    assert list(answer.labels)[0] == "red" and len(answer.labels) == 2
    assert answer.labels["red"] > 0.5
    rows = re.findall(r"<td>([\d:.]+)</td><td>([\d:.]+)</td><td>(\w+)</td>", answer.html)
    assert rows == [("0:00:00.0", "0:00:05.0", "red"), ("0:00:05.0", "0:00:11.0", "green")]
    assert "11 windows of 1 s" in answer.html
    lines = re.findall(r"<polyline points=\"([^\"]*)\"", answer.html)
    assert len(lines) == 3 and all(len(line.split()) == 11 for line in lines)


def test_one_window_is_one_label(found):
    text = found.of_upload(upload(1)).html
    assert "one label for all of it" in text and "<polyline" not in text and "<td>green</td>" in text


def test_the_map_is_of_the_best_label(found):
    text = found.of_upload(upload(1)).html
    assert "what speaks for <b>green</b>" in text
    shares = re.search(r"Share of each frame: ([^<]*)</p>", text)[1]
    assert sum(int(share.strip(" %")) for share in shares.split(",")) == pytest.approx(100, abs=T)


def test_the_most_similar_training_clip_comes_first_and_names_are_text(found):
    text = found.of_upload(upload(1)).html
    assert re.findall(r"alt=\"8 frames of ([^\"]*)\"", text)[0] == "&lt;img src=x&gt;.mp4"
    assert "<img src=x>" not in text and "b?.mp4" in text and "<b>&lt;b&gt;&amp;?</b>" in text
    text.encode()


def test_names_that_no_page_can_hold_are_told_otherwise(found):
    assert "<b>&?" in found.of_upload(upload(2)).labels


def test_without_training_clips_the_page_says_why(found, monkeypatch):
    monkeypatch.setattr(found, "clips", None)
    monkeypatch.setattr(found, "missing", "They are <gone>.")
    text = found.of_upload(upload(0)).html
    assert "They are &lt;gone&gt;." in text and "similarity" not in text


def test_a_file_is_read_and_answered(found, tmp_path):
    path = tmp_path / "a.mp4"
    encode_video(str(path), coloured(0, 20), fps=10, options={"preset": "ultrafast"})
    answer = found.of(str(path))
    assert list(answer.labels)[0] == "red" and "Where it looks" in answer.html


def test_what_cannot_be_labelled_is_refused_with_a_sentence(found, tmp_path, monkeypatch):
    path = tmp_path / "secret.mp4"
    path.write_text("no video")
    with pytest.raises(Refusal, match="^This is no video file that is read here.*$") as refused:
        found.of(str(path))
    assert "secret" not in str(refused.value)
    path.write_bytes(bytes(50_001))
    with pytest.raises(Refusal, match="larger than 0.05 MB"):
        found.of(str(path))
    for nothing in (None, ""):
        with pytest.raises(Refusal, match="There is no video yet"):
            found.of(nothing)

    def slow(file, how):
        raise TimeoutError

    path.write_bytes(b"x")
    monkeypatch.setattr(found._readers, "read", slow)
    with pytest.raises(Refusal, match="Reading the video took longer than 20 seconds"):
        found.of(str(path))
    assert issubclass(DecodeError, answers.UNREADABLE)
