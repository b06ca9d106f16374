"""Pictures that every task has: calibration lines, importances, learning curves, slices."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.curves import Curves
from mlops_assets.training.estimators import LearningCurve
from mlops_assets.training.evaluation import Evaluation, SliceResult
from mlops_assets.training.metrics import Floats
from mlops_assets.training.pictures.canvas import DASHES, Draw, Palette, colored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    return "n/a" if found.value is None else f"{found.value:.3f}"


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
        axes.legend(loc="upper left", title="calibration error", title_fontsize=8)

    return draw


def load_bars(axes: "Axes", palette: Palette, hour: Floats, rows: Floats, top: float) -> None:
    """Draw behind a plot over the day how many rows each hour has, up to a third of its height."""
    axes.bar(hour, rows / rows.max() * top * 0.3, width=0.8, color=palette.grid, label="rows")


def hours_axis(axes: "Axes", hour: Floats) -> None:
    """Mark the hours of a day, as far as there are rows."""
    axes.set_xticks(np.arange(0, 24, 3))
    axes.set(xlabel="hour of day", xlim=(hour.min() - 0.7, hour.max() + 0.7))


def importance(values: Mapping[str, float], top: int = 20, *, of: str = "log-odds of yes") -> Draw:
    """Draw the largest mean absolute SHAP values.

    Parameters
    ----------
    values
        By feature, largest first.
    top
        How many to show.
    of
        What they add up to, as the explanation says it.
    """

    def draw(axes: "Axes", palette: Palette) -> None:
        shown = list(values.items())[:top][::-1]
        axes.barh([name for name, _ in shown], [value for _, value in shown],
                  color=palette.series[0], height=0.62)  # fmt: skip
        axes.set(xlabel=f"mean |SHAP value| ({of})")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=palette.ink, length=0)
        axes.margins(y=0.01)

    return draw


def learning_curve(curves: Mapping[str, LearningCurve], loss: str = "log loss") -> Draw | None:
    """Draw the loss over the iterations of each iterative model; None where there is none.

    Parameters
    ----------
    curves
        By model.
    loss
        Its name, for people.
    """
    iterative = {name: curve for name, curve in curves.items() if curve.train}
    if not iterative:
        return None

    def draw(axes: "Axes", palette: Palette) -> None:
        for color, _, name in colored(palette, iterative):
            curve = iterative[name]
            axes.plot(*_thin(curve.train), color=color, linewidth=1.1, linestyle=(0, (3, 2)),
                      label=f"{name}, train")  # fmt: skip
            axes.plot(*_thin(curve.validation), color=color, label=f"{name}, validation")
            best = curve.best_iteration
            if best is not None:
                axes.plot([best], [curve.validation[best]], "o", color=color, markersize=7,
                          markeredgecolor=palette.surface)  # fmt: skip
                axes.annotate(
                    f"kept: {best + 1} iterations", (best, curve.validation[best]), (0, 9),
                    textcoords="offset points", ha="center", fontsize=8,
                )  # fmt: skip
        # The first few iterations fall so steeply that they would flatten the rest.
        later = [v for c in iterative.values() for v in c.train[3:] + c.validation[3:]]
        if later:
            low, high = min(later), max(later)
            axes.set_ylim(low - 0.08 * (high - low), high + 0.05 * (high - low))
        axes.set(xlabel="iteration", ylabel=loss)
        axes.legend(loc="upper right")

    return draw


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
    chosen: Any = np.unique(np.linspace(0, len(values) - 1, min(points, len(values))).astype(int))
    return chosen.tolist(), [values[i] for i in chosen]
