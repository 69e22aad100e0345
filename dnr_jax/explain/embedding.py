"""Clips as points in two dimensions, neighbours where a network finds them alike: the points, and a page to look at."""

import base64
import collections
import dataclasses
import html
import importlib.util
import io
from collections.abc import Sequence

import numpy as np

from dnr_jax.config import ConfigError

_SIDE, _FRAMES, _QUALITY = 64, 8, 60
"""Pixels and frames of a clip on the page, and the quality of its JPEG: about 8 kB a clip."""
_CANVAS = 600


@dataclasses.dataclass(frozen=True)
class Point:
    """A clip on the page.

    Attributes:
      name: of the video.
      label: its class.
      predicted: the class that the network sees.
      x: from 0 to 1.
      y: likewise.
      film: frames side by side, of a JPEG's bytes; see :func:`film`.
    """

    name: str
    label: str
    predicted: str
    x: float
    y: float
    film: bytes


def check_installed() -> None:
    """Raise ConfigError where scikit-learn is missing."""
    if importlib.util.find_spec("sklearn") is None:
        raise ConfigError("dnr features needs scikit-learn, which is not installed: pip install 'dnr-jax[features]'")


def project(features: Sequence[np.ndarray]) -> np.ndarray:
    """Map features of ``N`` clips, each ``[C]``, to the plane by t-SNE: float32 ``[N, 2]``, from 0 to 1.

    The same features give the same points.

    Raises:
      ValueError: for fewer than 4 clips, which are no picture.
    """
    if len(features) < 4:
        raise ValueError(f"{len(features)} clips are too few for a picture of what is alike; expected 4 or more")
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    stacked = np.stack(features)
    deviations = stacked - stacked.mean(axis=0)
    scaled = deviations / max(float(deviations.std()), np.finfo(np.float32).tiny)
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(scaled)
    lowest, highest = found.min(axis=0), found.max(axis=0)
    return ((found - lowest) / np.maximum(highest - lowest, np.finfo(np.float32).tiny)).astype(np.float32)


def film(clip: np.ndarray) -> bytes:
    """Return frames of a clip uint8 ``[T, H, W, 3]``, small and side by side, as the bytes of a JPEG."""
    from PIL import Image  # comes with matplotlib

    strip = Image.new("RGB", (_SIDE * _FRAMES, _SIDE))
    shown = np.linspace(0, len(clip) - 1, _FRAMES).round().astype(int)
    for place, t in enumerate(shown):
        strip.paste(Image.fromarray(clip[t]).resize((_SIDE, _SIDE)), (place * _SIDE, 0))
    file = io.BytesIO()
    strip.save(file, format="JPEG", quality=_QUALITY)
    return file.getvalue()


def page(title: str, points: Sequence[Point]) -> str:
    """Return a self-contained HTML page: points by class, with the clip of the one under the pointer or in focus."""
    counts = collections.Counter(point.label for point in points)
    colours = {
        label: f"hsl({place * 137.5 % 360:.0f} 70% {40 + 12 * (place % 2)}%)"
        for place, label in enumerate(sorted(counts))
    }
    wrong = sum(point.label != point.predicted for point in points)
    legend = "".join(
        f'<li><button type="button" data-label="{_text(label)}" aria-pressed="false">'
        f'<span style="background:{colours[label]}"></span>{_text(label)} ({counts[label]})</button></li>'
        for label in sorted(counts)
    )
    circles = "".join(_circle(point, colours[point.label]) for point in points)
    summary = f"{len(points)} clips of {len(counts)} classes; {wrong} with a dark ring are taken for another class."
    return _PAGE.format(title=_text(title), summary=summary, legend=legend, circles=circles, **_SIZES)


def _circle(point: Point, colour: str) -> str:
    says = f"{point.name}: {point.label}"
    wrong = point.label != point.predicted
    if wrong:
        says += f", taken for {point.predicted}"
    x, y = (12 + (_CANVAS - 24) * value for value in (point.x, 1 - point.y))
    film = base64.b64encode(point.film).decode()
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}"{" class=wrong" if wrong else ""} tabindex="0" '
        f'role="img" aria-label="{_text(says)}" data-label="{_text(point.label)}" data-film="{film}"/>'
    )


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode())


_SIZES = {"canvas": _CANVAS, "side": 2 * _SIDE, "width": 2 * _SIDE * _FRAMES, "frames": _FRAMES}
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff; }}
main {{ display: flex; flex-wrap: wrap; gap: 1.5rem; }}
svg {{ border: 1px solid #ccc; max-width: 100%; height: auto; }}
circle {{ cursor: pointer; opacity: .85; outline: none; }}
circle.wrong {{ stroke: #000; stroke-width: 2; }}
circle:hover, circle:focus {{ r: 9; opacity: 1; stroke: #000; stroke-width: 2; }}
circle.dim {{ opacity: .08; }}
aside {{ width: 20rem; }}
#film {{ width: {side}px; height: {side}px; background: #eee; background-size: {width}px {side}px;
  animation: play 2s steps({frames}) infinite; }}
@keyframes play {{ to {{ background-position-x: -{width}px; }} }}
@media (prefers-reduced-motion: reduce) {{ #film {{ animation: none; }} }}
ul {{ list-style: none; padding: 0; }}
button {{ font: inherit; border: 1px solid transparent; background: none; text-align: left; cursor: pointer; }}
button[aria-pressed=true] {{ border-color: #222; }}
button span {{ display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 50%; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary} Neighbours are clips whose features are alike; distances between groups, and the axes, mean nothing
(t-SNE). Point at a clip, or go through them with the tab key; a class of the list shows its clips alone.</p>
<main><svg viewBox="0 0 {canvas} {canvas}" width="{canvas}" height="{canvas}" role="group" aria-label="{title}">
{circles}
</svg><aside><div id="film" role="img" aria-label="no clip chosen"></div>
<p id="says" aria-live="polite">No clip chosen.</p>
<ul>{legend}</ul></aside></main>
<script>
const film = document.getElementById("film"), says = document.getElementById("says");
const circles = [...document.querySelectorAll("circle")], buttons = [...document.querySelectorAll("button")];
function show(event) {{
  const text = event.target.getAttribute("aria-label");
  film.style.backgroundImage = `url(data:image/jpeg;base64,${{event.target.dataset.film}})`;
  film.setAttribute("aria-label", text);
  says.textContent = text;
}}
for (const circle of circles) for (const name of ["mouseenter", "focus"]) circle.addEventListener(name, show);
for (const button of buttons) button.addEventListener("click", () => {{
  const chosen = button.getAttribute("aria-pressed") !== "true";
  for (const other of buttons) other.setAttribute("aria-pressed", String(chosen && other === button));
  for (const circle of circles) circle.classList.toggle("dim", chosen && circle.dataset.label !== button.dataset.label);
}});
</script></body></html>
"""
