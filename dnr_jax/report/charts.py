"""Charts as SVG for pages: text stays text, colours follow the page's light or dark scheme, a description is read out.

The page's style sheet has the classes ``axis``, ``grid``, ``s0`` to ``s5`` (colours of series), ``line``, ``band``,
``dot``, ``bar`` and ``whisker``.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from dnr_jax.report.measures import Calibration, Group

_WIDTH, _HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 28, 26, 40
_POINTS = 400
"""Points of a line; of more, means of neighbours are drawn."""
_number = itertools.count()


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
      name: for the legend; empty where the chart's title says it.
      x: places.
      y: values; those that are not finite are left out.
      half: half the height of a band around the line, of each value; empty: no band.
      marked: whether each point has a dot.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] = ()
    marked: bool = False


def _tag(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element; an underscore in an attribute's name is a dash, one at its end is left out."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    inner = Markup("").join(escape(part) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)


def _svg(title: str, description: str, parts: Iterable[Markup], height: int = _HEIGHT) -> Markup:
    number = next(_number)
    heading = _tag("title", title, id=f"chart{number}t")
    told = _tag("desc", description, id=f"chart{number}d")
    shown = _tag("text", title, x=_LEFT, y=15, class_="title")
    labelled = f"chart{number}t chart{number}d"
    box = f"0 0 {_WIDTH} {height}"
    return _tag("svg", heading, told, shown, *parts, viewBox=box, role="img", aria_labelledby=labelled, class_="chart")


Scale = Callable[[float], float]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: round(start + (value - low) / span * (end - start), 1)


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    found = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return [float(tick) for tick in found if low - slack <= tick <= high + slack]


def _label(value: float, is_share: bool) -> str:
    return f"{100 * value:.0f}%" if is_share else f"{value:g}"


def _axes(
    x: tuple[float, float], y: tuple[float, float], x_label: str, shares: tuple[bool, bool]
) -> tuple[Scale, Scale, list[Markup]]:
    """Return the scales of both axes, and the axes with their grid."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    to_x, to_y = _scale(*x, _LEFT, right), _scale(*y, bottom, _TOP)
    parts = [_tag("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis")]
    for tick in _ticks(*y):
        parts += [
            _tag("line", x1=_LEFT, x2=right, y1=to_y(tick), y2=to_y(tick), class_="grid"),
            _tag("text", _label(tick, shares[1]), x=_LEFT - 6, y=to_y(tick) + 4, text_anchor="end"),
        ]
    parts += [
        _tag("text", _label(tick, shares[0]), x=to_x(tick), y=bottom + 16, text_anchor="middle") for tick in _ticks(*x)
    ]
    parts.append(_tag("text", x_label, x=(_LEFT + right) / 2, y=_HEIGHT - 6, text_anchor="middle"))
    return to_x, to_y, parts


def _thinned(series: Series) -> Series:
    """Return a series of at most ``_POINTS`` finite points, means of neighbours where there are more."""
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    half = np.asarray(series.half, np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y, half = x[finite], y[finite], half[finite] if len(half) else half
    if len(x) > _POINTS:
        parts = [part for part in np.array_split(np.arange(len(x)), _POINTS) if len(part)]
        x, y, half = (
            np.array([column[part].mean() for part in parts]) if len(column) else column for column in (x, y, half)
        )
    return dataclasses.replace(series, x=x.tolist(), y=y.tolist(), half=half.tolist())


def lines(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    is_share: bool = False,
) -> Markup:
    """Return a chart of lines over a common axis; empty where no series has a point.

    Args:
      title: what the values are.
      series: at most six, each with the colour of its place; those without points are left out.
      x_label: what the places are.
      y_range: lowest and highest value. Default: what the values need, from 0 on.
      is_share: whether values are told in percent.
    """
    numbered = [(i, thin) for i, one in enumerate(series) if (thin := _thinned(one)).x]
    if not numbered:
        return Markup("")
    drawn = [one for _, one in numbered]
    xs = [place for one in drawn for place in one.x]
    tops = [value + (one.half[i] if one.half else 0) for one in drawn for i, value in enumerate(one.y)]
    low, high = y_range or (min(0.0, *tops), (max(tops) * 1.05) or 1.0)
    to_x, to_y, parts = _axes((min(xs), max(xs)), (low, high), x_label, (False, is_share))
    for i, one in numbered:
        parts += _line(one, i, to_x, to_y)
    names = _legend([(i, one.name) for i, one in numbered])
    told = "; ".join(
        f"{one.name or title}: from {_exact(one.y[0], is_share)} at {x_label} {one.x[0]:g} "
        f"to {_exact(one.y[-1], is_share)} at {one.x[-1]:g}, "
        f"lowest {_exact(min(one.y), is_share)}, highest {_exact(max(one.y), is_share)}"
        for one in drawn
    )
    return _svg(title, told, [*parts, *names])


def _exact(value: float, is_share: bool) -> str:
    return f"{value:.1%}" if is_share else f"{value:.3g}"


def _line(series: Series, number: int, to_x: Scale, to_y: Scale) -> list[Markup]:
    points = [(to_x(x), to_y(y)) for x, y in zip(series.x, series.y, strict=True)]
    parts = []
    if series.half:
        ends = [
            [
                (to_x(x), to_y(y + sign * (half if math.isfinite(half) else 0)))
                for x, y, half in zip(series.x, series.y, series.half, strict=True)
            ]
            for sign in (1, -1)
        ]
        outline = " ".join(f"{x},{y}" for x, y in [*ends[0], *reversed(ends[1])])
        parts.append(_tag("polygon", points=outline, class_=f"band s{number % 6}"))
    parts.append(_tag("polyline", points=" ".join(f"{x},{y}" for x, y in points), class_=f"line s{number % 6}"))
    if series.marked or len(points) == 1:
        parts += [_tag("circle", cx=x, cy=y, r=3, class_=f"dot s{number % 6}") for x, y in points]
    return parts


def _legend(names: Sequence[tuple[int, str]]) -> list[Markup]:
    """Return the names of series with their numbers, from the right, each with its colour and its own dash."""
    parts, right = [], float(_WIDTH - _RIGHT)
    for i, name in reversed([(i, name) for i, name in names if name]):
        width = 6.0 * len(name)
        parts += [
            _tag("text", name, x=right, y=15, text_anchor="end"),
            _tag("line", x1=right - width - 24, x2=right - width - 6, y1=11, y2=11, class_=f"line s{i % 6}"),
        ]
        right -= width + 36
    return parts


def accuracy_of(title: str, told: Sequence[Group], overall: float) -> Markup:
    """Return the accuracy of each group with its interval, a row a group; a line where that of all videos is."""
    height = _TOP + 24 * len(told) + 34
    left, right = 150, _WIDTH - 64
    to_x = _scale(0, 1, left, right)
    parts = [
        part
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0)
        for part in (
            _tag("line", x1=to_x(tick), x2=to_x(tick), y1=_TOP, y2=height - 30, class_="grid"),
            _tag("text", f"{tick:.0%}", x=to_x(tick), y=height - 14, text_anchor="middle"),
        )
    ]
    parts.append(_tag("line", x1=to_x(overall), x2=to_x(overall), y1=_TOP, y2=height - 30, class_="overall"))
    for i, group in enumerate(told):
        y = _TOP + 24 * i + 14
        parts += [
            _tag("text", group.name, x=left - 8, y=y + 4, text_anchor="end"),
            _tag("line", x1=to_x(group.low), x2=to_x(group.high), y1=y, y2=y, class_="whisker"),
            _tag("circle", cx=to_x(group.accuracy), cy=y, r=4, class_="dot s0"),
            _tag("text", f"n = {group.videos}", x=right + 10, y=y + 4),
        ]
    described = "; ".join(
        f"{group.name}: {group.accuracy:.1%} of {group.videos} videos, interval {group.low:.1%} to {group.high:.1%}"
        for group in told
    )
    return _svg(title, f"{described}; all videos: {overall:.1%}", parts, height)


def reliability(found: Calibration) -> Markup:
    """Return the reliability diagram: accuracy over the mean probability of each bin, with intervals."""
    to_x, to_y, parts = _axes((0, 1), (0, 1), "probability of the best class", (True, True))
    parts.append(_tag("line", x1=to_x(0), y1=to_y(0), x2=to_x(1), y2=to_y(1), class_="overall"))
    largest = max((group.videos for group in found.bins), default=1)
    for group, mean in zip(found.bins, found.confidence, strict=True):
        x = to_x(mean)
        tall = 40 * group.videos / largest
        parts += [
            _tag("rect", x=x - 6, y=round(to_y(0) - tall, 1), width=12, height=round(tall, 1), class_="bar"),
            _tag("line", x1=x, x2=x, y1=to_y(group.low), y2=to_y(group.high), class_="whisker"),
            _tag("circle", cx=x, cy=to_y(group.accuracy), r=4, class_="dot s0"),
        ]
    told = "; ".join(
        f"probability {mean:.2f}: {group.accuracy:.1%} of {group.videos} videos right"
        for group, mean in zip(found.bins, found.confidence, strict=True)
    )
    return _svg("accuracy", f"Reliability diagram; on the diagonal, probabilities are honest. {told}", parts)
