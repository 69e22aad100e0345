"""Draws overview-light.svg and overview-dark.svg, the picture of the README.

Run it in this folder's parent project: ``python docs/images/draw_overview.py``.
"""

import dataclasses
import pathlib

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours of one version of the picture."""

    text: str
    faint: str
    feature: str
    temporal: str
    layer: str
    static: str


LIGHT = Palette("#1f2328", "#656d76", "#d8dee4", "#f9c784", "#9fc5f8", "#eaeef2")
DARK = Palette("#e6edf3", "#9198a1", "#3d444d", "#9a5b00", "#1f5aa6", "#262c36")


@dataclasses.dataclass(frozen=True)
class Canvas:
    """Axes with a palette, and the few shapes that the picture is made of."""

    axes: Axes
    palette: Palette

    def text(self, x: float, y: float, content: str, size: float = 9, color: str = "", **style: object) -> None:
        """Write centred text."""
        style = {"ha": "center", "va": "center"} | style
        self.axes.text(x, y, content, size=size, color=color or self.palette.text, **style)

    def box(self, x: float, y: float, width: float, height: float, label: str, color: str, size: float = 9) -> None:
        """Draw a labelled box with its centre at ``(x, y)``."""
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=0.08"
        patch = FancyBboxPatch(corner, width, height, style, fc=color, ec=self.palette.text, lw=0.9)
        self.axes.add_patch(patch)
        self.text(x, y, label, size)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], bold: bool = False) -> None:
        """Draw an arrow; bold ones are the relay."""
        width, head = (2.2, 13) if bold else (1.0, 9)
        color = self.palette.text if bold else self.palette.faint
        style = {"arrowstyle": "-|>", "mutation_scale": head, "lw": width, "color": color}
        self.axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **style))

    def frames(self, x: float, y: float, count: int, color: str) -> None:
        """Draw ``count`` feature maps, one behind the other, around ``(x, y)``."""
        side, depth = 0.4, 0.3
        for i in reversed(range(count)):
            offset = depth * (i / (count - 1) - 0.5)
            corner = (x - side / 2 + offset, y - side / 2 + offset)
            self.axes.add_patch(Rectangle(corner, side, side, fc=color, ec=self.palette.text, lw=0.7))

    def relay(self, left: float, columns: list[str], frames: int, color: str, cell: str, state: str) -> None:
        """Draw a row of cells from left to right, each between the features it reads and those it modulates."""
        pitch = 1.9
        low, mid, high = 0.75, 1.9, 3.05
        self.text(left + 0.1, mid, "$0$", 11)
        self.arrow((left + 0.25, mid), (left + 0.72, mid), bold=True)
        for i, column in enumerate(columns):
            x = left + 1.25 + i * pitch
            self.frames(x, low, frames, self.palette.feature)
            self.frames(x, high, frames, color)
            self.text(x + 0.47, high, r"$\gamma\hat{x}+\beta$", 9.5, ha="left")
            self.text(x + 0.47, low, "$x$", 9.5, ha="left")
            self.text(x, low - 0.56, column, 8.5, self.palette.faint)
            self.box(x, mid, 0.98, 0.5, cell, color)
            self.arrow((x, low + 0.42), (x, mid - 0.28))
            self.text(x + 0.1, low + 0.68, "mean", 8, self.palette.faint, ha="left")
            self.arrow((x, mid + 0.27), (x, high - 0.42))
            self.text(x + 0.1, mid + 0.52, r"$\gamma,\ \beta$", 9, ha="left")
            if i + 1 < len(columns):
                self.arrow((x + 0.5, mid), (x + pitch - 0.51, mid), bold=True)
                self.text(x + pitch / 2, mid + 0.2, state, 9)


def draw_block(canvas: Canvas, y: float) -> None:
    """Draw a residual block with its norms."""
    palette = canvas.palette
    parts = [
        ("interlace", palette.static, 0.9),
        ("1×1 conv", palette.feature, 0.98),
        ("CL", palette.layer, 0.5),
        ("3×3 conv", palette.feature, 0.98),
        ("CT", palette.temporal, 0.5),
        ("1×1 conv", palette.feature, 0.98),
        ("BN", palette.static, 0.5),
    ]
    canvas.text(0.1, y, "A residual block:", 9.5, ha="left", weight="bold")
    x, gap = 1.75, 0.28
    fork = x + 0.14
    for label, color, width in parts:
        canvas.arrow((x, y), (x + gap, y))
        x += gap
        canvas.box(x + width / 2, y, width, 0.38, label, color, 8.5)
        x += width
    canvas.arrow((x, y), (x + gap, y))
    x += gap + 0.12
    canvas.text(x, y, "$+$", 13)
    canvas.arrow((x + 0.12, y), (x + 0.12 + gap, y))
    above = y + 0.36
    canvas.axes.plot([fork, fork, x], [y, above, above], color=palette.faint, lw=1.0)
    canvas.arrow((x, above), (x, y + 0.1))


def draw(palette: Palette) -> Figure:
    """Return the whole picture."""
    figure = Figure(figsize=(10.6, 5.2), facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10.6), ylim=(-1.0, 4.2), aspect="equal")
    axes.axis("off")
    canvas = Canvas(axes, palette)
    canvas.text(0.1, 3.92, "CT: cross-temporal relay", 11, ha="left", weight="bold")
    canvas.text(0.1, 3.68, "along the frame groups of one layer", 8.5, palette.faint, ha="left")
    canvas.relay(0.1, ["frames 1 to 4", "frames 5 to 8"], 4, palette.temporal, "cell", "$h,\\ c$")
    canvas.text(4.6, 3.92, "CL: cross-layer relay", 11, ha="left", weight="bold")
    canvas.text(4.6, 3.68, "along the blocks of one stage, whole clip", 8.5, palette.faint, ha="left")
    canvas.relay(4.6, ["block 1", "block 2", "block 3"], 8, palette.layer, "cell", "$h,\\ c$")
    draw_block(canvas, -0.65)
    return figure


def main() -> None:
    """Write both files beside this one."""
    folder = pathlib.Path(__file__).parent
    with rc_context({"svg.hashsalt": "dnr_jax", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        for name, palette in (("light", LIGHT), ("dark", DARK)):
            draw(palette).savefig(folder / f"overview-{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
