"""Pictures that every task has: calibration lines, learning curves, slices."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.curves import Curves
from mlops_assets.training.estimators import LearningCurve
from mlops_assets.training.evaluation import Evaluation, SliceResult
from mlops_assets.training.metrics import Floats
from mlops_assets.training.number_text import number_text
from mlops_assets.training.pictures.canvas import DASHES, Draw, Palette, Plot, colored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW_ITERATIONS = 30  # up to which each iteration is a point of its own
_STEEP = 3

_Kind = TypeVar("_Kind", bound=Curves)


def curves_of_kind(
    evaluations: Mapping[str, Evaluation], kind: type[_Kind]
) -> dict[str, tuple[Evaluation, _Kind]]:
    """Return each evaluation with its curves.

    Raises
    ------
    TypeError
        When one is of another task.
    """
    found: dict[str, tuple[Evaluation, _Kind]] = {}
    for name, evaluation in evaluations.items():
        if not isinstance(evaluation.curves, kind):
            raise TypeError(
                f"{name} was evaluated as {evaluation.task.name}, which has no {kind.__name__}"
            )
        found[name] = (evaluation, evaluation.curves)
    return found


def short(found: Estimate) -> str:
    """Return a value for a legend."""
    return "n/a" if found.value is None else number_text(found.value)


def dot(color: str, palette: Palette, size: float = 4.5) -> dict[str, Any]:
    """Return how a point of a line is marked."""
    return {
        "color": color, "marker": "o", "markersize": size, "markeredgecolor": palette.surface,
    }  # fmt: skip


def calibration_lines(
    points: Mapping[str, tuple[Floats, Floats, Estimate]], xlabel: str, ylabel: str
) -> Draw:
    """Draw what came true over what was promised, with the calibration error in the legend.

    Parameters
    ----------
    points
        Promised, observed and calibration error of each model.
    xlabel, ylabel
        Of the axes.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        every = np.concatenate([np.r_[x, y] for x, y, _ in points.values()])
        low, high = float(every.min()), float(every.max())
        low = 0.0 if low < 0.25 * high else low  # keep the origin unless it is far away
        margin = 0.05 * (high - low) or 0.05
        for color, style, name in colored(palette, points):
            promised, observed, error = points[name]
            axes.plot(promised, observed, linestyle=style, label=f"{name}  {short(error)}",
                      **dot(color, palette))  # fmt: skip
        axes.plot([low, high], [low, high], color=palette.muted, linewidth=0.9, linestyle=DASHES)
        start = low - margin if low else 0.0
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set(xlim=(start, high + margin), ylim=(start, high + margin))
        axes.legend(loc="upper left", title="Calibration error", title_fontsize=8)

    return draw


def load_bars(axes: "Axes", palette: Palette, hour: Floats, rows: Floats, top: float) -> None:
    """Draw behind a plot over the day how many rows each hour has, up to a third of its height."""
    axes.bar(hour, rows / rows.max() * top * 0.3, width=0.8, color=palette.grid, label="rows")


def hours_axis(axes: "Axes", hour: Floats) -> None:
    """Mark the hours of a day, as far as there are rows."""
    axes.set_xticks(np.arange(0, 24, 3))
    axes.set(xlabel="hour of day", xlim=(hour.min() - 0.7, hour.max() + 0.7))


def learning_curves(curves: Mapping[str, LearningCurve], loss: str = "Log loss") -> list[Plot]:
    """Return a picture for each iterative model, as a few epochs and many trees share no axis.

    Parameters
    ----------
    curves
        By model.
    loss
        Its name, for people.
    """
    return [
        Plot(
            f"learning_{name}",
            f"Learning curve of {name}",
            _kept(curve),
            learning_curve(curve, loss),
            height=2.8,
        )
        for name, curve in curves.items()
        if curve.train
    ]


def _kept(curve: LearningCurve) -> str:
    best = curve.best_iteration
    if best is None:
        return "Every iteration was kept."
    return f"Validation was best after {best + 1} of {len(curve.validation)} iterations; kept."


def learning_curve(curve: LearningCurve, loss: str) -> Draw:
    """Draw the loss of an iterative model after each iteration, the first being 1."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes", palette: Palette) -> None:
        few = len(curve.train) <= _FEW_ITERATIONS
        marker: dict[str, Any] = {"marker": "o", "markersize": 3} if few else {}
        for values, color, label in (
            (curve.train, palette.no, "train"),
            (curve.validation, palette.series[0], "validation"),
        ):
            iterations, shown = _thin(values)
            axes.plot(iterations, shown, color=color, label=label, **marker)
        if curve.best_iteration is not None:
            axes.plot(
                [curve.best_iteration + 1], [curve.validation[curve.best_iteration]], "o",
                color=palette.yes, markersize=7, markeredgecolor=palette.surface, label="kept",
            )  # fmt: skip
        # The first of many iterations fall so steeply that they would flatten the rest.
        skipped = 0 if few else _STEEP
        later = [*curve.train[skipped:], *curve.validation[skipped:]]
        low, high = min(later), max(later)
        margin = 0.07 * (high - low) or 0.01 * abs(high) or 1.0
        axes.set(xlabel="iteration", ylabel=loss, ylim=(low - margin, high + margin))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper right")

    return draw


def slice_plots(
    slices: Sequence[SliceResult], metric: str, overall: Estimate, title: str
) -> list[Plot]:
    """Return a picture of a metric for each column of slices that has a value somewhere.

    Parameters
    ----------
    slices
        Of all columns.
    metric, title
        Name of the metric, and its name for people.
    overall
        The metric over all rows.
    """
    shown = []
    for column in dict.fromkeys(found.column for found in slices):
        chosen = [found for found in slices if found.column == column]
        if any(found.metrics[metric].value is not None for found in chosen):
            shown.append(
                Plot(
                    column,
                    column,
                    "Beside each slice its rows; the dashed line is the value over all.",
                    forest(chosen, metric, overall, title),
                    height=max(1.3, 0.6 + 0.235 * len(chosen)),
                )
            )
    return shown


def forest(slices: Sequence[SliceResult], metric: str, overall: Estimate, title: str) -> Draw:
    """Draw a metric of every slice with its interval, against the value over all rows."""

    def draw(axes: "Axes", palette: Palette) -> None:
        shown = [found for found in slices if found.metrics[metric].value is not None][::-1]
        if overall.value is not None:
            axes.axvline(overall.value, color=palette.muted, linewidth=0.9, linestyle=DASHES)
        for height, found in enumerate(shown):
            number = found.metrics[metric]
            if number.value is None:
                continue
            color = palette.muted if found.small else palette.series[0]
            if number.low is not None and number.high is not None:
                axes.plot([number.low, number.high], [height, height], color=color, linewidth=2)
            axes.plot([number.value], [height], linestyle="", **dot(color, palette, 6))
        axes.set_yticks(range(len(shown)), [f"{s.value}  ·  {s.rows:,}" for s in shown])
        axes.tick_params(axis="y", labelcolor=palette.ink, length=0)
        axes.set(xlabel=title, ylim=(-0.6, len(shown) - 0.4))
        axes.grid(visible=False, axis="y")

    return draw


def _thin(values: Sequence[float], points: int = 300) -> tuple[list[int], list[float]]:
    """Return some of the values with their iterations, counted from 1."""
    chosen: Any = np.unique(np.linspace(0, len(values) - 1, min(points, len(values))).astype(int))
    return (chosen + 1).tolist(), [values[i] for i in chosen]
