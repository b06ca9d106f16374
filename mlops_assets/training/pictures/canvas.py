"""What a picture is drawn on: SVG that takes its colours from the page, or a small PNG.

`svg` leaves the colours to the page, as CSS variables, so that one picture serves light and dark;
`png` has colours of its own.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Palette:
    """Colours of a picture: ink, muted ink, grid lines, background, and one a series."""

    ink: str
    muted: str
    grid: str
    surface: str
    series: tuple[str, ...]
    yes: str
    no: str


_PAGE = Palette(
    ink="#010101",
    muted="#020202",
    grid="#030303",
    surface="#040404",
    series=tuple(f"#{i:02x}{i:02x}{i:02x}" for i in range(5, 13)),
    yes="#0d0d0d",
    no="#0e0e0e",
)
_CSS = {
    _PAGE.ink: "var(--ink)",
    _PAGE.muted: "var(--muted)",
    _PAGE.grid: "var(--grid)",
    _PAGE.surface: "var(--surface)",
    **{color: f"var(--series-{i})" for i, color in enumerate(_PAGE.series, start=1)},
    _PAGE.yes: "var(--yes)",
    _PAGE.no: "var(--no)",
}
LIGHT = Palette(
    ink="#1d2530",
    muted="#5c6776",
    grid="#e4e8ee",
    surface="#ffffff",
    series=(
        "#2458d3", "#d9580d", "#0f8a6d", "#8a3ffc", "#b0336e", "#a67c00", "#0085a1", "#7a5230",
    ),
    yes="#d9580d",
    no="#7c8da3",
)  # fmt: skip
"""Colours of the PNG pictures."""

Draw = Callable[["Axes", Palette], None]

_WIDTH, _WIDE = 5.2, 9.6  # inches

DASHES: Any = (0, (4, 4))
"""Line style of what is compared with: a diagonal, a base rate, a nominal level."""


@dataclass(frozen=True)
class Plot:
    """A picture of an evaluation, with what people read above it.

    Attributes
    ----------
    name
        Key in metadata and in the page.
    title, caption
        What it shows, and how to read it.
    draw
        Draws it.
    small
        Whether it is worth a place where there is room for a few.
    height
        In inches, for the page.
    wide
        Whether it needs the page's whole width.
    """

    name: str
    title: str
    caption: str
    draw: Draw
    small: bool = False
    height: float = 3.6
    wide: bool = False

    def svg(self) -> str:
        """Draw it for a page, as `svg` does."""
        return svg(self.draw, width=_WIDE if self.wide else _WIDTH, height=self.height)


def colored(palette: Palette, names: Iterable[str]) -> Iterator[tuple[str, Any, str]]:
    """Give each name a colour, and a line style once the colours are used up."""
    styles = [(color, style) for style in ("solid", (0, (5, 1.5))) for color in palette.series]
    for (color, style), name in zip(cycle(styles), names, strict=False):
        yield color, style, name


def svg(draw: Draw, width: float = _WIDTH, height: float = 3.6) -> str:
    """Draw into an SVG element whose colours are the page's CSS variables.

    Parameters
    ----------
    draw
        Draws on the axes given to it.
    width, height
        In inches of 72 points.
    """
    import matplotlib as mpl

    figure = _figure(draw, _PAGE, width, height)
    target = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mlops"}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    for sentinel, variable in _CSS.items():
        text = text.replace(sentinel, variable)
    return text


def png(draw: Draw, width: float = 4.8, height: float = 3.2) -> bytes:
    """Draw into a small PNG, at most some 40 kB, for places that cannot show SVG.

    Parameters
    ----------
    draw
        Draws on the axes given to it.
    width, height
        In inches of 100 pixels.
    """
    from PIL import Image

    figure = _figure(draw, LIGHT, width, height)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=100, facecolor=LIGHT.surface)
    small = io.BytesIO()
    with Image.open(target) as image:
        image.convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def _figure(draw: Draw, palette: Palette, width: float, height: float) -> "Figure":
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.5,
        "text.color": palette.ink,
        "axes.edgecolor": palette.grid,
        "axes.labelcolor": palette.muted,
        "axes.labelsize": 8.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "grid.color": palette.grid,
        "grid.linewidth": 0.7,
        "xtick.color": palette.grid,
        "ytick.color": palette.grid,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.muted,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, palette)
        figure.canvas.draw()
    return figure
