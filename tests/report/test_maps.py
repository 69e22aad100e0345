import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dnr_jax.report import maps, page
from tests.report.made import made_report


class Explainer:
    """Stands in for Grad-CAM: the class's number says which half of the frames is marked."""

    def __init__(self, run):
        self.run = run

    def grad_cam(self, clips, classes):
        values = np.zeros(clips.shape[:4], np.float32)
        for i, label in enumerate(classes):
            values[i, :, :, :4] = label
            values[i, :, :, 4:] = 1 - label
        return SimpleNamespace(maps=values)


def test_the_map_lies_below_the_frames(monkeypatch):
    monkeypatch.setattr(maps, "Explainer", Explainer)
    clips = [np.full((3, 8, 8, 3), 128, np.uint8)] * 2
    first, second = maps.map_strips(SimpleNamespace(classes=("x", "y")), clips, ("a.mp4", "b.mp4"), (0, 1))
    assert (first.name, first.taken_for, second.taken_for) == ("a.mp4", "x", "y")
    content = base64.b64decode(second.data.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert pixels.shape == (224, 3 * 112, 3)
    assert abs(pixels[56] - 128).max() < 8  # the frame as it is
    left, right = pixels[168, 20], pixels[168, 100]
    assert left[0] > left[2] + 40 and abs(right - 128).max() < 12  # red is high, and nothing is not coloured


def test_mistakes_and_hard_videos_are_mapped(monkeypatch):
    report = made_report(40, 4)
    asked = []
    monkeypatch.setattr(page, "map_strips", lambda *arguments: asked.append(arguments) or [])
    videos = SimpleNamespace(clip=lambda name: np.zeros((2, 4, 4, 3), np.uint8))
    run = object()
    page._maps(report, videos, run)
    ((given, clips, names, classes),) = asked
    wrong = page.measures.most_confidently_wrong(report.scores, report.labels, 6)
    assert given is run and len(clips) == len(set(names)) == 6
    assert 0 < len(wrong) < 6 and names[: len(wrong)] == [report.names[i] for i in wrong]
    assert classes[: len(wrong)] == report.scores[wrong].argmax(axis=1).tolist()
    assert page._maps(report, videos, None) == []


def test_a_part_that_cannot_be_made_is_left_out(caplog):
    assert page._tried("maps", lambda: 1 / 0, []) == []
    assert "the page is without maps (ZeroDivisionError: division by zero)" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        page._tried("maps", interrupt, [])


def interrupt():
    raise KeyboardInterrupt
