"""What the pictures of results have in common: means with their intervals, a row each, coloured by verdict."""

import math
import pathlib
from collections.abc import Sequence

from dnr_jax.reproduce import statistics


def colour_of(verdict: statistics.Verdict) -> str:
    """Return the colour of a verdict in pictures: green where it supports the claim, red where it contradicts it."""
    return {"supported": "#2a7f3f", "contradicted": "#b03030"}.get(verdict, "#555555")


def point(  # type: ignore[no-untyped-def]
    axes, place: float, mean: float, bounds: tuple[float, float], values: Sequence[float], colour: str
) -> None:
    """Draw a mean in a row, with the bounds of its interval (NaN: none) and the values that it is of."""
    low, high = (0.0 if math.isnan(bound) else abs(bound - mean) for bound in bounds)
    axes.plot(values, [place] * len(values), "|", color=colour, alpha=0.5, markersize=9)
    axes.errorbar(mean, place, xerr=[[low], [high]], fmt="o", color=colour, capsize=3, markersize=5)


def label(axes, names: Sequence[str], unit: str, title: str) -> None:  # type: ignore[no-untyped-def]
    """Name the rows of a picture from top to bottom, the axis below them, and all."""
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(unit, fontsize=9)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure, file: pathlib.Path) -> None:  # type: ignore[no-untyped-def]
    """Write a picture, and its folder where there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
