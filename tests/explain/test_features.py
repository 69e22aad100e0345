"""Which clips a network finds alike: features, points, and the page that shows them."""

import base64
import html.parser
import importlib.util
import io

import numpy as np
import PIL.Image
import pytest

from dnr_jax import cli
from dnr_jax.data.catalogue.sources import Folder
from dnr_jax.data.clips.decode import encode_video
from dnr_jax.explain import Explainer, embedding
from tests.browser import browser, needs_chromium
from tests.explain.colours import SIDE, T, colours_run, literal_scores, log_softmax


class Circles(html.parser.HTMLParser):
    """Collects the attributes of circles and what leads out of the page."""

    def __init__(self, page: str):
        super().__init__()
        self.circles: list[dict[str, str | None]] = []
        self.scripts = self.links = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.circles += [found] if tag == "circle" else []
        self.scripts += tag == "script"
        self.links += "src" in found or "href" in found


def test_features_are_means_over_time_and_space():
    clips = np.random.default_rng(0).integers(0, 256, (2, T, SIDE, SIDE, 3), np.uint8)
    features, probabilities = Explainer(colours_run()).features(clips)
    for clip, found, chances in zip(clips, features, probabilities, strict=True):
        scores, expected, _ = literal_scores(clip)
        np.testing.assert_allclose(found, expected.mean((0, 1, 2)), rtol=1e-4)
        np.testing.assert_allclose(chances, np.exp(log_softmax(scores)), rtol=1e-3)


def test_a_film_is_frames_side_by_side():
    clip = np.zeros((4, 10, 20, 3), np.uint8)
    clip[3] = 255
    with PIL.Image.open(io.BytesIO(embedding.film(clip))) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (64, 8 * 64, 3)
    assert (pixels[:, : 6 * 64] < 20).all() and (pixels[:, 7 * 64 + 8 :] > 235).all()


def test_a_page_shows_each_clip_and_runs_nothing_that_names_hold():
    names = ["a.mp4", '"><script>alert(1)</script>', "{0}\udc80"]
    labels, predicted = ["x", "x", "</script>"], ["x", "</script>", "</script>"]
    points = [
        embedding.Point(n, x, y, at, 1 - at, b"film")
        for n, x, y, at in zip(names, labels, predicted, (0, 0.5, 1), strict=True)
    ]
    text = embedding.page("Videos of <run>", points)
    text.encode()
    found = Circles(text)
    assert (found.scripts, found.links) == (1, 0)
    assert [circle["aria-label"] for circle in found.circles] == [
        "a.mp4: x",
        f"{names[1]}: x, taken for </script>",
        "{0}?: </script>",
    ]
    assert [circle.get("class") for circle in found.circles] == [None, "wrong", None]
    assert all(base64.b64decode(circle["data-film"] or "") == b"film" for circle in found.circles)
    assert [circle["cx"] for circle in found.circles] == ["12.0", "300.0", "588.0"] == [c["cy"] for c in found.circles]
    assert "3 clips of 2 classes; 1 with a dark ring" in text
    assert found.circles[0]["fill"] == found.circles[1]["fill"] != found.circles[2]["fill"]


@needs_chromium
@pytest.mark.slow
def test_in_a_browser_the_clip_under_the_pointer_and_in_focus_plays_and_a_class_is_shown_alone(tmp_path):
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 10, 20, 3), np.uint8)
    points = [
        embedding.Point(f"{name}.mp4", label, label, at, at, embedding.film(clip))
        for name, label, at, clip in zip("abc", "xyy", (0.1, 0.5, 0.9), clips, strict=True)
    ]
    (tmp_path / "features.html").write_text(embedding.page("Videos", points))
    films = [base64.b64encode(point.film).decode() for point in points]
    shown = "getComputedStyle(document.getElementById('film')).backgroundImage"
    dim = "[...document.querySelectorAll('circle')].map(c => Number(getComputedStyle(c).opacity) < .5)"
    with browser(tmp_path / "profile") as tab:
        tab.open((tmp_path / "features.html").as_uri())
        assert tab.evaluate(f"{shown}") == "none"
        tab.point("circle:nth-of-type(2)")
        assert tab.becomes(f"{shown}.includes({films[1]!r})")
        assert tab.evaluate("document.getElementById('says').textContent") == "b.mp4: y"
        assert tab.evaluate("document.getElementById('film').getAnimations().length") == 1
        picture = f"Object.assign(new Image(), {{src: 'data:image/jpeg;base64,{films[1]}'}})"
        assert tab.evaluate(f"(async () => {{ const i = {picture}; await i.decode(); return i.width; }})()") == 8 * 64
        tab.press("Tab")  # to the first circle
        assert tab.becomes(f"{shown}.includes({films[0]!r})")
        tab.click("button[data-label=y]")
        assert tab.becomes(f"JSON.stringify({dim}) === '[true,false,false]'")
        tab.click("button[data-label=y]")
        assert tab.becomes(f"JSON.stringify({dim}) === '[false,false,false]'")
        assert tab.problems == []


def test_the_command_needs_scikit_learn(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["features", "run"]) == 2
    assert "pip install 'dnr-jax[features]'" in capsys.readouterr().err


@pytest.mark.slow
def test_clips_that_are_alike_are_neighbours():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(3 * group, 0.1, (10, 6)) for group in range(3)])
    points = embedding.project(list(features))
    assert points.min() == 0 and points.max() == 1 and points.shape == (30, 2)
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + 9 * np.eye(30)
    assert (distances.argmin(axis=1) // 10 == np.arange(30) // 10).all()
    np.testing.assert_array_equal(points, embedding.project(list(features)))
    with pytest.raises(ValueError, match="3 clips are too few"):
        embedding.project(list(features[:3]))


@pytest.mark.slow
def test_the_command_writes_a_page_of_the_validation_videos(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    for number in range(7):
        for split in ("train", "val"):
            folder = tmp_path / split / ("red", "green", "blue")[number % 3]
            folder.mkdir(parents=True, exist_ok=True)
            frames = np.zeros((T, 16, 16, 3), np.uint8)
            frames[..., number % 3] = 200
            encode_video(str(folder / f"{number}.mp4"), frames)
    (tmp_path / "val" / "red" / "broken.mp4").write_bytes(b"no video")
    run = colours_run()
    run.config.data.source = Folder(str(tmp_path))
    monkeypatch.setattr("dnr_jax.runs.folder.load_run", lambda workdir, mesh, checkpoint: run)
    assert cli.main(["features", "run", "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert "7 videos" in out and "cannot decode red/broken.mp4: " in err
    circles = Circles((tmp_path / "out" / "features.html").read_text()).circles
    assert len(circles) == 7 and {circle["data-label"] for circle in circles} == {"red", "green", "blue"}
    assert cli.main(["features", "run", "--out", str(tmp_path), "--limit", "5"]) in (0, 1)
    assert " of 8 videos" in capsys.readouterr().out
    assert cli.main(["features", "run", "--layer", "hal"]) == 2
    assert "--layer: there is no layer 'hal'; the nearest of 1 are half" in capsys.readouterr().err
