import re
import xml.etree.ElementTree

import numpy as np
import pytest

from dnr_jax.report import charts, measures

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> xml.etree.ElementTree.Element:
    return xml.etree.ElementTree.fromstring(svg)


def points(line: xml.etree.ElementTree.Element) -> np.ndarray:
    return np.array([pair.split(",") for pair in line.attrib["points"].split()], float)


def test_a_line_goes_through_its_points_and_is_described():
    chart = parsed(charts.lines("loss <b>", [charts.Series("a & b", [0, 5, 10], [4, 2, float("nan")])], "step"))
    (line,) = chart.findall("polyline")
    (x0, y0), (x1, y1) = points(line)
    assert x0 < x1 and y0 < y1  # SVG counts from the top
    assert chart.attrib["role"] == "img"
    ids = chart.attrib["aria-labelledby"].split()
    assert [chart.find("title").attrib["id"], chart.find("desc").attrib["id"]] == ids
    assert chart.find("title").text == "loss <b>"
    assert chart.find("desc").text == "a & b: from 4 at step 0 to 2 at 5, lowest 2, highest 4"


def test_a_band_is_as_high_as_it_is_told():
    series = charts.Series("a", [0, 1], [0.5, 0.5], half=[0.1, float("nan")])
    chart = parsed(charts.lines("top-1", [series], "step", (0, 1), is_share=True))
    band, line = points(chart.find("polygon")), points(chart.find("polyline"))
    height = line[0, 1] - band[0, 1]
    assert height == pytest.approx(band[3, 1] - line[0, 1]) and height > 5
    assert band[1, 1] == band[2, 1] == line[1, 1]  # nothing known, no band
    assert "50.0%" in chart.find("desc").text


def test_long_lines_are_thinned_and_empty_charts_left_out():
    chart = parsed(charts.lines("loss", [charts.Series("", range(5000), range(5000))], "step"))
    assert len(points(chart.find("polyline"))) == charts._POINTS
    assert charts.lines("loss", [charts.Series("a", [], [])], "step") == ""


def test_a_series_has_the_colour_of_its_place():
    chart = parsed(charts.lines("loss", [charts.Series("a", [], []), charts.Series("b", [0, 1], [1, 2])], "step"))
    assert chart.find("polyline").attrib["class"] == "line s1"
    assert [text.text for text in chart.findall("text")].count("b") == 1


def test_accuracies_have_intervals_and_numbers():
    told = measures.groups(["short", "long"], [1, 9], [4, 10])
    chart = parsed(charts.accuracy_of("by duration", told, 0.7))
    dots = [float(dot.attrib["cx"]) for dot in chart.findall("circle")]
    whiskers = [line for line in chart.findall("line") if line.attrib["class"] == "whisker"]
    for dot, whisker in zip(dots, whiskers, strict=True):
        assert float(whisker.attrib["x1"]) < dot < float(whisker.attrib["x2"])
    assert dots[0] < dots[1]
    assert re.search(r"short: 25\.0% of 4 videos.*all videos: 70\.0%", chart.find("desc").text)


def test_the_reliability_diagram_has_a_dot_for_each_bin():
    scores = np.float32([[0.9, 0.1], [0.6, 0.4], [0.95, 0.05]])
    found = measures.calibration(scores, np.int32([0, 1, 0]))
    chart = parsed(charts.reliability(found))
    assert len(chart.findall("circle")) == len(found.bins) == 3
    assert "probability 0.60: 0.0% of 1 videos right" in chart.find("desc").text
