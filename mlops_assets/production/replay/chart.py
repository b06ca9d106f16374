"""The picture of a replay: the metric over time, and below it what happened when.

It is written as a PNG and as one HTML page that needs nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.production.replay.record import Replayed
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.pictures import Draw, Palette
from mlops_assets.training.pictures.canvas import DASHES, png, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 9.6, 5.4  # inches
_LANES = 0.34  # of the height, for what happened
_MOST_DATES = 10  # on the axis


@dataclass(frozen=True)
class _Lane:
    """One kind of thing that happened.

    Attributes
    ----------
    name
        What people read.
    days
        When.
    marker
        As matplotlib names it.
    color
        Which of the palette's series.
    """

    name: str
    days: Sequence[date]
    marker: str
    color: int


def write_chart(found: Replayed, folder: Path) -> tuple[Path, Path]:
    """Write the picture and the page of a replay; return their paths.

    Parameters
    ----------
    found
        What happened.
    folder
        Where to; it exists.
    """
    draw = draw_replay(found)
    picture, page = folder / "replay.png", folder / "replay.html"
    picture.write_bytes(png(draw, width=_WIDTH, height=_HEIGHT))
    page.write_text(_page(found, svg(draw, width=_WIDTH, height=_HEIGHT)), encoding="utf-8")
    return picture, page


def draw_replay(found: Replayed) -> Draw:
    """Return what draws a replay: its metric, realised and estimated, and what happened."""

    def draw(axes: "Axes", palette: Palette) -> None:
        days = [day.day for day in found.days]
        for color, name, solid, of in (
            (palette.series[1], "estimated", False, "estimated"),
            (palette.series[0], "realised", True, "realised"),
        ):
            points = {day.day: getattr(day, of) for day in found.days}
            _line(axes, points, color, name, solid=solid)
        axes.step(
            _instants(days),
            [np.nan if day.reference is None else day.reference for day in found.days],
            color=palette.muted, linewidth=0.9, linestyle=DASHES, where="mid",
            label="when the champion was chosen",
        )  # fmt: skip
        low, high = axes.get_ylim()
        axes.set_ylim(low - (high - low) * _LANES / (1 - _LANES), high)
        _lanes(axes, palette, found)
        axes.set_ylabel(found.metric, loc="top")
        axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
        shown = days[:: max(1, -(-len(days) // _MOST_DATES))]
        axes.set_xticks(_instants(shown), [f"{day:%d %b}" for day in shown])
        axes.legend(loc="upper left", ncols=3)

    return draw


def lanes_of(found: Replayed) -> tuple[_Lane, ...]:
    """Return what happened, by kind, the rarest last."""
    drifted = [day.day for day in found.days if day.drifted]
    trained = [day for day, _ in found.trainings]
    promoted = [day for day, training in found.trainings if training.promoted]
    faults = [day.day for day in found.days if day.notes]
    return (
        _Lane("a feature drifted", drifted, "|", 1),
        _Lane("alert", [day for day, _ in found.alerts], "^", 4),
        _Lane("trained again", trained, "o", 0),
        _Lane("promoted", promoted, "*", 2),
        _Lane("rolled back", found.rollbacks, "v", 3),
        _Lane("fault injected", faults, "x", 5),
    )


def _lanes(axes: "Axes", palette: Palette, found: Replayed) -> None:
    """Mark what happened below the lines, a row for each kind."""
    lanes = lanes_of(found)
    across = axes.get_xaxis_transform()
    for number, lane in enumerate(lanes):
        height = _LANES * (1 - (number + 0.9) / (len(lanes) + 0.6))
        axes.axhline(
            axes.get_ylim()[0] + height * np.diff(axes.get_ylim())[0],
            color=palette.grid, linewidth=0.7,
        )  # fmt: skip
        axes.scatter(
            _instants(lane.days), np.full(len(lane.days), height), marker=lane.marker, s=26,
            color=palette.series[lane.color], transform=across, zorder=3, clip_on=False,
        )  # fmt: skip
        axes.annotate(
            lane.name, (1.005, height), xycoords="axes fraction", va="center", fontsize=7.5,
            color=palette.muted, annotation_clip=False,
        )  # fmt: skip


def _line(
    axes: "Axes", points: Mapping[date, Estimate | None], color: str, name: str, *, solid: bool
) -> None:
    days = sorted(points)
    value, low, high = (
        np.array([_number(points[day], of) for day in days]) for of in ("value", "low", "high")
    )
    axes.fill_between(_instants(days), low, high, color=color, alpha=0.16, linewidth=0)
    axes.plot(
        _instants(days), value, color=color, label=name, linestyle="solid" if solid else DASHES
    )


def _number(found: Estimate | None, of: str) -> float:
    value = None if found is None else getattr(found, of)
    return np.nan if value is None else float(value)


def _instants(days: Sequence[date]) -> Any:
    return np.array(days, dtype="datetime64[D]")


def _page(found: Replayed, picture: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("mlops_assets.production"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("replay.html.j2").render(
        it=found,
        picture=Markup(picture),  # noqa: S704 - drawn here
        first=found.days[0].day,
        last=found.days[-1].day,
        happened=[day for day in found.days if any(day.lines())],
    )
