"""What the page says of a video: labels, labels over time, where the network looks, training clips like it."""

import dataclasses
import pathlib
from collections.abc import Sequence

import jinja2
import numpy as np
from markupsafe import Markup

from dnr_jax.app.reading import Upload, read_upload
from dnr_jax.app.similar import TrainingClips
from dnr_jax.evaluation.metrics import ranking
from dnr_jax.evaluation.predict import Predictor
from dnr_jax.explain.explainer import Explainer
from dnr_jax.explain.pictures import overlay
from dnr_jax.report import charts
from dnr_jax.report.clips import Strip, data_url, strip
from dnr_jax.runs.folder import Run
from dnr_jax.serve.decoding import UNREADABLE, Limits, Readers
from dnr_jax.streaming.segments import Cell, Hysteresis, Segment, seconds_as_clock, segments_of

SIMILAR = 6
"""Training clips that are shown."""
_LINES = 4
"""Classes of which a line over time is drawn."""
_BATCH = 8
"""Windows that are scored at once."""
_TEMPLATES = pathlib.Path(__file__).parent / "templates"


class Refusal(Exception):
    """A video that is not labelled; the message says why, to whoever sent it."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of a video.

    Attributes:
      labels: the probability of each of the best classes, the best first.
      html: the rest, as a part of a page, in which names are text whatever they hold.
    """

    labels: dict[str, float]
    html: str


class Answers:
    """Answers for uploads, by the network of a run.

    Attributes:
      run: the run.
      clips: of its training set, to look for similar ones in; None: none are shown.
      missing: why not, for people.
    """

    def __init__(self, predictor: Predictor, limits: Limits, clips: TrainingClips | None = None, missing: str = ""):
        """Start the processes that read uploads, and compile all that an answer needs.

        Args:
          predictor: the network.
          limits: of an upload.
          clips: of the training set.
          missing: why there are none.
        """
        self.clips, self.missing = clips, missing
        self._predictor, self._limits = predictor, limits
        self._explainer = Explainer(predictor.run)
        self._readers = Readers(self.run.config.data, predictor.evaluation, limits)
        self._warm_up()
        self._readers.wait()

    @property
    def run(self) -> Run:
        """The run."""
        return self._predictor.run

    def close(self) -> None:
        """End the processes that read uploads."""
        self._readers.close()

    def of(self, path: str | None) -> Answer:
        """Answer for an upload.

        Args:
          path: of its file; None: there is none.

        Raises:
          Refusal: where it cannot be labelled.
        """
        if not path:
            raise Refusal("There is no video yet: drop one, or record one with the camera.")
        file = pathlib.Path(path)
        if file.stat().st_size > self._limits.bytes:
            raise Refusal(f"The video is larger than {self._limits.megabytes:g} MB, which is the limit here.")
        try:
            upload: Upload = self._readers.read(file, read_upload).result()
        except UNREADABLE as error:
            raise Refusal(_sentence(self._readers.why(error))) from error
        return self.of_upload(upload)

    def of_upload(self, upload: Upload) -> Answer:
        """Answer for an upload that was read."""
        classes = self.run.classes
        scores = self._predictor.score(upload.views[None])[0]
        best = ranking(scores[None], self._predictor.top)[0]
        content = {
            "label": classes[best[0]],
            "along": self._along(upload),
            "maps": self._maps(upload.clip, int(best[0])),
            "similar": self._similar(upload.clip),
            "missing": self.missing,
        }
        return Answer({_whole(classes[i]): float(scores[i]) for i in best}, _whole(_render("answer.html", content)))

    def _warm_up(self) -> None:
        frames, *_ = self.run.config.data.clip_shape
        evaluation = self._predictor.evaluation
        side = evaluation.crop_size or self.run.config.data.crop_size
        views = np.zeros((evaluation.num_clips * evaluation.crops, frames, side, side, 3), np.uint8)
        self.of_upload(Upload(views, views[0], views[:1], np.zeros((1, 2)), 1.0))

    def _along(self, upload: Upload) -> "_Along":
        """Return the labels along the video."""
        scores = np.concatenate([self._score(windows) for windows in _batches(upload.windows)])
        cells = [Cell(start, end, row) for (start, end), row in zip(upload.times.tolist(), scores, strict=True)]
        segments = segments_of(cells, Hysteresis(min_length=min(upload.length, cells[-1].end)), cells[-1].end)
        chart, drawn = _chart(cells, self.run.classes)
        return _Along(chart, drawn, _rows(segments, self.run.classes), len(cells), upload.length)

    def _score(self, windows: np.ndarray) -> np.ndarray:
        batch = np.zeros((_BATCH, 1, *windows.shape[1:]), np.uint8)  # one shape, one program
        batch[: len(windows), 0] = windows
        return self._predictor.score(batch)[: len(windows)]

    def _maps(self, clip: np.ndarray, label: int) -> "_Maps":
        with self._predictor.device:
            found = self._explainer.grad_cam(clip, label)
        (values,), (shares,) = found.maps, found.frame_shares
        seen, mapped = strip(clip), strip(overlay(clip, values))
        return _Maps(seen, mapped, [f"{share:.0%}" for share in shares] if shares.any() else [])

    def _similar(self, clip: np.ndarray) -> list["_Similar"]:
        if self.clips is None:
            return []
        with self._predictor.device:
            features, _ = self._explainer.features(clip)
        return [
            _Similar(found.name, found.label, f"{found.similarity:.2f}", data_url(found.film, "image/jpeg"))
            for found in self.clips.nearest(features[0], SIMILAR)
        ]


@dataclasses.dataclass(frozen=True)
class _Along:
    """Labels along a video, as the template shows them."""

    chart: Markup
    drawn: Sequence[str]
    rows: Sequence[tuple[str, str, str, str]]
    windows: int
    length: float


@dataclasses.dataclass(frozen=True)
class _Maps:
    """A clip, the same with a map over it, and the share of each frame."""

    clip: Strip
    mapped: Strip
    shares: Sequence[str]


@dataclasses.dataclass(frozen=True)
class _Similar:
    """A training clip."""

    name: str
    label: str
    similarity: str
    film: str


def _batches(windows: np.ndarray) -> list[np.ndarray]:
    return [windows[start : start + _BATCH] for start in range(0, len(windows), _BATCH)]


def _chart(cells: Sequence[Cell], classes: Sequence[str]) -> tuple[Markup, list[str]]:
    """Return lines over time of the classes that are most probable anywhere, and their names; of one window none."""
    if len(cells) < 2:
        return Markup(""), []
    scores = np.stack([cell.scores for cell in cells])
    middles = [(cell.start + cell.end) / 2 for cell in cells]
    drawn = ranking(scores.max(axis=0)[None], _LINES)[0]
    series = [charts.Series("", middles, scores[:, i].tolist(), marked=True) for i in drawn]
    return charts.lines("probability", series, "seconds", (0, 1), True), [classes[i] for i in drawn]


def _rows(segments: Sequence[Segment], classes: Sequence[str]) -> list[tuple[str, str, str, str]]:
    return [
        (seconds_as_clock(one.start), seconds_as_clock(one.end), classes[one.label], f"{one.score:.0%}")
        for one in segments
    ]


def _render(template: str, content: dict[str, object]) -> str:
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(content)


def _whole(text: str) -> str:
    """Return a text in which names of files and classes have no half characters, which no page can hold."""
    return text.encode("utf-8", "replace").decode()


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
