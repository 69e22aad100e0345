"""The timeline as files: JSON, CSV, subtitles and a picture."""

import contextlib
import csv
import io
import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dnr_jax.streaming.segments import Segment, seconds_as_clock

_ROWS = 30
"""Labels that a picture has room for; the others share a row."""
_OTHERS = "others"


def as_record(segment: Segment, classes: Sequence[str]) -> dict[str, Any]:
    """Return a segment as numbers and words for programs."""
    times = {"start": round(segment.start, 3), "end": round(segment.end, 3)}
    return times | {"label": classes[segment.label], "score": round(segment.score, 6)}


def as_json(segments: Sequence[Segment], classes: Sequence[str], about: Mapping[str, Any]) -> str:
    """Return a JSON object: what ``about`` says, and the segments in order."""
    return json.dumps({**about, "segments": [as_record(segment, classes) for segment in segments]}, indent=2) + "\n"


def as_csv(segments: Sequence[Segment], classes: Sequence[str], about: Mapping[str, Any]) -> str:
    """Return a table with a line a segment."""
    text = io.StringIO()
    rows = csv.DictWriter(text, ["start", "end", "label", "score"], lineterminator="\n")
    rows.writeheader()
    rows.writerows(as_record(segment, classes) for segment in segments)
    return text.getvalue()


def as_srt(segments: Sequence[Segment], classes: Sequence[str], about: Mapping[str, Any]) -> str:
    """Return SubRip subtitles."""
    return "".join(
        f"{number}\n{_times(segment, ',')}\n{_caption(segment, classes)}\n\n"
        for number, segment in enumerate(segments, start=1)
    )


def as_vtt(segments: Sequence[Segment], classes: Sequence[str], about: Mapping[str, Any]) -> str:
    """Return WebVTT subtitles, in which three characters have to be written otherwise."""
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    cues = [f"{_times(segment, '.')}\n{_caption(segment, classes).translate(escape)}\n" for segment in segments]
    return "\n".join(["WEBVTT\n", *cues])


def _times(segment: Segment, mark: str) -> str:
    return " --> ".join(seconds_as_clock(time, 3, mark).zfill(12) for time in (segment.start, segment.end))


def _caption(segment: Segment, classes: Sequence[str]) -> str:
    return f"{' '.join(classes[segment.label].split())} {segment.score:.0%}"


def as_png(segments: Sequence[Segment], classes: Sequence[str], about: Mapping[str, Any]) -> bytes:
    """Return a picture of the timeline: a row a label, the most seen first, and the darker the surer."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    lengths: dict[int, float] = {}
    for segment in segments:
        lengths[segment.label] = lengths.get(segment.label, 0.0) + segment.length
    labels = sorted(lengths, key=lambda label: (-lengths[label], label))
    names = [classes[label][:40].encode("utf-8", "replace").decode() for label in labels[:_ROWS]]
    names += [_OTHERS] * (len(labels) > _ROWS)
    figure = Figure(figsize=(12, 1.6 + 0.3 * max(len(names), 1)), layout="constrained")
    axes = figure.subplots()
    for row, label in enumerate(labels):
        shown = [segment for segment in segments if segment.label == label]
        spans = [(segment.start, segment.length) for segment in shown]
        # Grey that a sure label does not have tells where the network hesitated.
        colours = [(*_COLOURS[row % len(_COLOURS)], 0.35 + 0.65 * min(segment.score, 1.0)) for segment in shown]
        axes.broken_barh(spans, (min(row, _ROWS) - 0.4, 0.8), facecolors=colours)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_xlim(0, max(float(about.get("seconds", 0.0)), *(segment.end for segment in segments), 1e-3))
    axes.xaxis.set_major_locator(MultipleLocator(_tick(axes.get_xlim()[1])))
    axes.xaxis.set_major_formatter(lambda seconds, _: seconds_as_clock(max(seconds, 0.0), 0))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    title = str(about.get("video", "")).encode("utf-8", "replace").decode()
    axes.set_title(title, parse_math=False, fontsize=10, loc="left")
    picture = io.BytesIO()
    with drawn_as_boxes():
        figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


@contextlib.contextmanager
def drawn_as_boxes() -> Iterator[None]:
    """Draw characters that the font does not have as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def _tick(seconds: float) -> float:
    """Return how far the marks of a time line of this length are apart, as clocks have them; at most 12 fit."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 6 * 3600)
    return next((step for step in steps if seconds / step <= 12), seconds / 12)


_COLOURS = [
    tuple(np.array(colour) / 255)
    for colour in (
        (31, 119, 180),
        (214, 96, 14),
        (44, 140, 44),
        (180, 40, 44),
        (120, 90, 170),
        (130, 80, 70),
        (200, 90, 170),
        (90, 90, 90),
    )
]
"""Dark enough on white."""

WRITERS: dict[str, Callable[[Sequence[Segment], Sequence[str], Mapping[str, Any]], str | bytes]] = {
    ".json": as_json,
    ".csv": as_csv,
    ".srt": as_srt,
    ".vtt": as_vtt,
    ".png": as_png,
}
"""What writes a file, by its suffix."""


def write(path: str, segments: Sequence[Segment], classes: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write a timeline; its suffix is one of :data:`WRITERS`. A file that is there is replaced at once, as a whole.

    Args:
      path: of the file.
      segments: in order.
      classes: their names.
      about: of the video: ``video``, ``seconds`` and whatever else a program may want to know.
    """
    target = pathlib.Path(path)
    content = WRITERS[target.suffix.lower()](segments, classes, about)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.chmod(file.name, 0o666 & ~_umask())
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
