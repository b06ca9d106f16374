"""Pictures of monitoring: a metric over time with its estimate, drift by column and day, latency.

Each is a `Draw` for `mlops_assets.training.pictures`: `svg` for pages, `png` for metadata.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.pictures import Draw, Palette
from mlops_assets.training.pictures.canvas import DASHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STEPS = (0, 0.5, 1, 2, 3)  # of a statistic over its threshold, at which the colour changes
_MOST_DATES = 6  # on an axis
_MOST_COLUMNS = 30  # of a heat map; the others are the ones furthest from drifting


@dataclass(frozen=True)
class Mark:
    """Something that happened on a day, drawn as a line through the plot.

    Attributes
    ----------
    day
        When.
    text
        What, in a word or two: ``retrained``, ``rolled back``.
    """

    day: date
    text: str


def performance_over_time(
    realised: Mapping[date, Estimate],
    estimated: Mapping[date, Estimate],
    title: str,
    *,
    reference: float | None = None,
    marks: Sequence[Mark] = (),
) -> Draw:
    """Draw a metric by day, realised and estimated, each with its interval.

    Parameters
    ----------
    realised, estimated
        By day; either may be empty, and days without a value are gaps.
    title
        Of the metric, for people.
    reference
        Its value when the model was chosen; drawn dashed.
    marks
        What happened.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        for color, name, points in (
            (palette.series[1], "estimated", estimated),
            (palette.series[0], "realised", realised),
        ):
            if points:
                _line(axes, points, color, name, solid=name == "realised")
        if reference is not None:
            axes.axhline(reference, color=palette.muted, linewidth=0.9, linestyle=DASHES,
                         label="when it was chosen")  # fmt: skip
        _marks(axes, palette, marks)
        axes.set(ylabel=title)
        if not realised and not estimated:
            _nothing(axes, palette)
            return
        axes.legend(loc="best")
        _dates(axes, [*realised, *estimated])

    return draw


def drift_map(
    values: Mapping[str, Mapping[date, float | None]],
    *,
    marks: Sequence[Mark] = (),
    most: int = _MOST_COLUMNS,
) -> Draw:
    """Draw drift as a map of columns by days.

    Parameters
    ----------
    values
        Column to day to a statistic divided by its threshold, so that above 1 it has drifted; None
        where nothing was judged. The columns that drifted most are shown, most on top.
    marks
        What happened.
    most
        How many columns are shown.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        from matplotlib.colors import BoundaryNorm, ListedColormap

        days = sorted({day for by_day in values.values() for day in by_day})
        if not days:
            _nothing(axes, palette)
            return
        worst = {
            name: max((v for v in by_day.values() if v is not None), default=0.0)
            for name, by_day in values.items()
        }
        names = sorted(values, key=lambda name: (-worst[name], name))[:most]
        grid = np.array(
            [[_number(values[name].get(day)) for day in days] for name in names], dtype=float
        )
        # The palette's own colours and none between them, or a page could not replace them.
        colors = ListedColormap([palette.surface, palette.grid, palette.series[0], palette.yes])
        image = axes.pcolormesh(
            np.arange(len(days) + 1), np.arange(len(names) + 1), np.clip(grid, 0, _STEPS[-1]),
            cmap=colors, norm=BoundaryNorm(_STEPS, colors.N),
        )  # fmt: skip
        axes.invert_yaxis()
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.tick_params(axis="y", labelcolor=palette.ink, length=0)
        every = max(1, -(-len(days) // _MOST_DATES))
        axes.set_xticks(np.arange(0, len(days), every) + 0.5, [f"{d:%d %b}" for d in days[::every]])
        axes.grid(visible=False)
        for mark in marks:
            if mark.day in days:
                axes.axvline(days.index(mark.day), color=palette.ink, linewidth=0.9)
        bar = axes.figure.colorbar(image, ax=axes, ticks=_STEPS[:-1], shrink=0.8)
        bar.set_label("of the threshold; above 1 it has drifted")
        bar.outline.set_visible(False)

    return draw


def latency_over_time(latency: Mapping[date, Mapping[float, float]]) -> Draw:
    """Draw latency quantiles by day, in milliseconds.

    Parameters
    ----------
    latency
        Day to quantile to seconds; a day without a request is empty.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        quantiles = sorted({q for found in latency.values() for q in found})
        if not quantiles:
            _nothing(axes, palette)
            return
        for color, quantile in zip(palette.series, quantiles, strict=False):
            days = sorted(latency)
            values = [_number(latency[day].get(quantile)) * 1000 for day in days]
            axes.plot(_days(days), values, color=color, label=f"p{100 * quantile:g}")
        axes.set(ylabel="latency, ms")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")
        _dates(axes, latency)

    return draw


def _line(
    axes: "Axes", points: Mapping[date, Estimate], color: str, name: str, *, solid: bool
) -> None:
    days = sorted(points)
    value = np.array([_number(points[day].value) for day in days])
    low = np.array([_number(points[day].low) for day in days])
    high = np.array([_number(points[day].high) for day in days])
    axes.fill_between(_days(days), low, high, color=color, alpha=0.16, linewidth=0)
    axes.plot(_days(days), value, color=color, label=name, marker="o", markersize=2.5,
              linestyle="solid" if solid else DASHES)  # fmt: skip


def _marks(axes: "Axes", palette: Palette, marks: Sequence[Mark]) -> None:
    for mark in marks:
        place = _days([mark.day])[0]
        axes.axvline(place, color=palette.muted, linewidth=0.9)
        axes.annotate(
            mark.text, (place, 1.0), (2, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, va="top", fontsize=7, color=palette.muted,
        )  # fmt: skip


def _nothing(axes: "Axes", palette: Palette) -> None:
    axes.text(0.5, 0.5, "nothing to show yet", transform=axes.transAxes, ha="center",
              color=palette.muted)  # fmt: skip


def _dates(axes: "Axes", days: Iterable[date]) -> None:
    """Mark some of the days, evenly spaced."""
    shown = sorted(set(days))
    shown = shown[:: max(1, -(-len(shown) // _MOST_DATES))]
    axes.set_xticks(_days(shown), [f"{day:%d %b}" for day in shown])


def _days(days: Sequence[date]) -> Any:
    return np.array(days, dtype="datetime64[D]")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
