"""The page of a run, its text and what a browser makes of it."""

import html.parser
import json
import pathlib
import re
import time

import numpy as np
import pytest

from dnr_jax.config import load_config
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.report import page
from dnr_jax.report.clips import Videos
from dnr_jax.report.page import write_page
from tests.browser import browser, needs_chromium
from tests.report.made import made_report, write_rows


class Plain(Videos):
    """Videos of one colour each, without durations."""

    def clip(self, name):
        return np.full((2, 8, 8, 3), len(name), np.uint8)

    def facts(self, names):
        return {name: (i % 10 + 1.0, 240 + i % 2) for i, name in enumerate(names[:200])}


class Noise(Plain):
    """Videos of noise, which is what takes most room as a picture."""

    def clip(self, name):
        seed = int(re.sub(r"\D", "", name))
        return np.random.default_rng(seed).integers(0, 256, (8, 112, 112, 3), np.uint8)


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr(page, "open_videos", lambda config: Plain(None, "", config))


def written(report: Report, folder: pathlib.Path) -> pathlib.Path:
    write_rows(folder)
    (folder / "evaluation.json").write_text(json.dumps({"step": 40, "views": "2x2 of 224"}))
    return write_page(report, load_config("demo"), folder)


class _Outline(html.parser.HTMLParser):
    """Headings, identities, links and pictures of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.headings, self.ids, self.links, self.addresses, self.unnamed = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.links += [values["href"][1:]] if tag == "a" else []
        self.addresses += [values[name] for name in ("src", "href") if name in values and tag != "a"]
        self.unnamed += [tag] if tag == "img" and not values.get("alt") else []


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """The page of 64 videos of 8 classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "open_videos", lambda config: Plain(None, "", config))
        return written(made_report(64, 8), tmp_path_factory.mktemp("few"))


def test_a_page_needs_no_other_file(few):
    text = few.read_text()
    outline = _Outline(text)
    assert outline.addresses and all(address.startswith("data:") for address in outline.addresses)
    assert "default-src 'none'" in text and not re.search(r"(?:src|url\(|@import)\W*https?:", text)


def test_a_page_is_in_order_for_whoever_reads_it_aloud(few):
    outline = _Outline(few.read_text())
    assert outline.unnamed == []
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.links) <= set(outline.ids)


def test_a_page_says_what_the_report_says(few):
    text, report = few.read_text(), made_report(64, 8)
    assert f"{report.top1:.1%}" in text and "bad.mp4" in text and "2x2 of 224" in text
    assert "top-1 by the number of views" in text and "top-1 by duration" in text
    true, predicted = np.argwhere(report.confusion * ~np.eye(8, dtype=bool))[0]
    assert f'id="pair-{true}-{predicted}"' in text


def test_names_are_text_whatever_they_hold(tmp_path, plain):
    report = made_report(4, 2)
    evil = ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>")
    names = ("\udcff1.mp4", "2'\"&<b>.mp4", "3\n.mp4", "4.mp4")
    hostile = Report(report.scores[:, ::-1], report.labels, names, evil)
    text = written(hostile, tmp_path).read_text()
    assert "<script>alert" not in text and "<img src=x" not in text
    assert "2&#39;&#34;&amp;&lt;b&gt;.mp4" in text and "?1.mp4" in text


@pytest.mark.parametrize("videos", [0, 1])
def test_a_page_of_next_to_nothing_is_a_page(videos, tmp_path, plain):
    report = made_report(1, 2)
    few_left = Report(report.scores[:videos], report.labels[:videos], report.names[:videos], report.classes)
    text = written(few_left, tmp_path).read_text()
    assert "No video is taken for another class" in text and "Every video could be decoded" in text


def test_what_is_missing_is_told(tmp_path):
    report = made_report(6, 2)
    config = load_config("own_videos")
    config.data.source.root = str(tmp_path / "moved")
    text = write_page(report, config, tmp_path, path=tmp_path / "page.html").read_text()
    assert "The videos cannot be shown" in text and "moved" in text
    assert "<svg" in text and 'id="curves"' not in text


@needs_chromium
@pytest.mark.slow
def test_a_browser_shows_a_page_without_complaint(few, tmp_path):
    with browser(tmp_path / "profile") as tab:
        tab.open(few.as_uri())
        assert tab.evaluate("document.images.length") > 10
        assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        shown = "document.querySelector('.pair img').checkVisibility()"
        assert not tab.evaluate(shown)
        tab.click(".pair summary")
        assert tab.becomes(shown) and tab.evaluate("document.querySelector('.pair .told').checkVisibility()")
        tab.press("Enter")  # the keyboard closes what the mouse opened
        assert tab.becomes(f"!{shown}")
        tab.click(".matrix td a")
        assert tab.becomes("location.hash && document.querySelector(location.hash).open")
        tab.click("#motion")
        assert tab.becomes("getComputedStyle(document.querySelector('.film img')).animationPlayState == 'paused'")
        assert tab.problems == []


@needs_chromium
@pytest.mark.slow
def test_classes_are_found_among_many(tmp_path, plain):
    path = written(made_report(120, 40), tmp_path)
    with browser(tmp_path / "profile") as tab:
        tab.open(path.as_uri())
        assert not tab.evaluate("document.querySelector('.matrix')")
        tab.evaluate(
            "(() => { const field = document.getElementById('filter');"
            " field.value = 'Class 17'; field.dispatchEvent(new Event('input')); })()"
        )
        assert (
            tab.evaluate("[...document.querySelectorAll('#class-rows tr')].filter(r => r.checkVisibility()).length")
            == 1
        )
        assert tab.problems == []


@pytest.mark.slow
def test_the_page_of_kinetics_is_below_ten_megabytes(tmp_path, monkeypatch):
    """20,000 videos of noise in 400 classes."""
    monkeypatch.setattr(page, "open_videos", lambda config: Noise(None, "", config))
    report = made_report(20_000, 400)
    start = time.process_time()
    path = write_page(report, load_config("demo"), tmp_path)
    assert path.stat().st_size < 10e6
    assert time.process_time() - start < 60  # most of it for the film strips; of real clips, a part of that
