"""Pictures of an evaluation, drawn by matplotlib: as SVG for the report, as small PNG elsewhere.

A function here draws one idea on given axes. `svg` leaves the colours to the page, as CSS
variables, so that one picture serves light and dark; `png` has colours of its own.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.estimators import LearningCurve
from mlops_assets.training.evaluation import Evaluation, SliceResult

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
    series=("#050505", "#060606", "#070707", "#080808", "#090909"),
    yes="#0a0a0a",
    no="#0b0b0b",
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
    series=("#2458d3", "#d9580d", "#0f8a6d", "#8a3ffc", "#b0336e"),
    yes="#d9580d",
    no="#7c8da3",
)
"""Colours of the PNG pictures."""

Draw = Callable[["Axes", Palette], None]


def svg(draw: Draw, width: float = 5.2, height: float = 3.6) -> str:
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


def roc(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw the ROC curve of each model, with its area in the legend."""

    def draw(axes: "Axes", palette: Palette) -> None:
        axes.plot([0, 1], [0, 1], color=palette.muted, linewidth=0.9, linestyle=(0, (4, 4)))
        for color, (name, found) in zip(palette.series, evaluations.items(), strict=False):
            curves, area = found.curves, _short(found.metrics["roc_auc"])
            axes.plot(
                curves.false_positive_rate,
                curves.true_positive_rate,
                color=color,
                label=f"{name}  {area}",
            )
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right", title="area under the curve", title_fontsize=8)

    return draw


def precision_recall(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw precision over recall of each model, with the base rate."""

    def draw(axes: "Axes", palette: Palette) -> None:
        first = next(iter(evaluations.values()))
        rate = first.positives / first.rows
        axes.axhline(rate, color=palette.muted, linewidth=0.9, linestyle=(0, (4, 4)))
        axes.annotate(
            f"base rate {rate:.3f}", (0, rate), (0, -4), textcoords="offset points", va="top",
            color=palette.muted, fontsize=8,
        )  # fmt: skip
        for color, (name, found) in zip(palette.series, evaluations.items(), strict=False):
            start = max(1, len(found.curves.recall) // 200)  # the first few rows are all noise
            area = _short(found.metrics["average_precision"])
            axes.plot(
                found.curves.recall[start:],
                found.curves.precision[start:],
                color=color,
                label=f"{name}  {area}",
            )
        axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.legend(loc="upper right", title="average precision", title_fontsize=8)

    return draw


def calibration(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw how often yes came true over how probable the model called it."""

    def draw(axes: "Axes", palette: Palette) -> None:
        top = 0.0
        for color, (name, found) in zip(palette.series, evaluations.items(), strict=False):
            curves = found.curves
            error = _short(found.metrics["calibration_error"])
            axes.plot(
                curves.predicted,
                curves.observed,
                color=color,
                marker="o",
                markersize=4.5,
                markeredgecolor=palette.surface,
                label=f"{name}  {error}",
            )
            top = max(top, float(curves.predicted.max()), float(curves.observed.max()))
        axes.plot([0, top], [0, top], color=palette.muted, linewidth=0.9, linestyle=(0, (4, 4)))
        axes.set(xlabel="mean predicted probability", ylabel="observed rate")
        axes.set(xlim=(0, top * 1.05), ylim=(0, top * 1.05))
        axes.legend(loc="upper left", title="calibration error", title_fontsize=8)

    return draw


def score_histogram(evaluation: Evaluation) -> Draw:
    """Draw the distribution of the answers, yes apart from no."""

    def draw(axes: "Axes", palette: Palette) -> None:
        curves = evaluation.curves
        for counts, color, label in (
            (curves.negatives, palette.no, "label no"),
            (curves.positives, palette.yes, "label yes"),
        ):
            share = counts / max(1.0, float(counts.sum()))
            axes.stairs(share, curves.edges, color=color, fill=True, alpha=0.3)
            axes.stairs(share, curves.edges, color=color, linewidth=1.5, label=label)
        if evaluation.decision is not None:
            threshold = evaluation.decision.threshold
            axes.axvline(threshold, color=palette.ink, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(
                f"threshold {threshold:.3f}", (threshold, 0.97), (4, 0), va="top",
                xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8,
            )  # fmt: skip
        axes.set(xlabel="predicted probability", ylabel="share of the class")
        axes.set_xlim(curves.edges[0], curves.edges[-1])
        axes.legend(loc="center right")

    return draw


def errors_by_hour(evaluation: Evaluation) -> Draw | None:
    """Draw predicted and observed rate per hour of day; None where the data has no hours."""
    curves = evaluation.curves
    if not len(curves.hour):
        return None

    def draw(axes: "Axes", palette: Palette) -> None:
        load = curves.hour_rows / curves.hour_rows.max()
        top = max(curves.hour_observed.max(), curves.hour_predicted.max())
        axes.bar(curves.hour, load * top * 0.3, width=0.8, color=palette.grid, label="rows")
        axes.plot(
            curves.hour, curves.hour_observed, color=palette.yes, marker="o", markersize=4,
            markeredgecolor=palette.surface, label="observed rate",
        )  # fmt: skip
        axes.plot(
            curves.hour, curves.hour_predicted, color=palette.series[0], marker="o", markersize=4,
            markeredgecolor=palette.surface, label="mean prediction",
        )  # fmt: skip
        axes.plot(
            curves.hour, curves.hour_log_loss, color=palette.muted, linewidth=1.2,
            linestyle=(0, (4, 3)), label="log loss",
        )  # fmt: skip
        axes.set(xlabel="hour of day", ylim=(0, None))
        axes.set_xticks(np.arange(0, 24, 3))
        axes.legend(loc="upper left", ncols=2)

    return draw


def importance(values: Mapping[str, float], top: int = 20) -> Draw:
    """Draw the largest mean absolute SHAP values."""

    def draw(axes: "Axes", palette: Palette) -> None:
        shown = list(values.items())[:top][::-1]
        axes.barh([name for name, _ in shown], [value for _, value in shown],
                  color=palette.series[0], height=0.62)  # fmt: skip
        axes.set(xlabel="mean |SHAP value| (log-odds)")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=palette.ink, length=0)
        axes.margins(y=0.01)

    return draw


def learning_curve(curves: Mapping[str, LearningCurve]) -> Draw | None:
    """Draw the loss over the iterations of each iterative model; None where there is none."""
    iterative = {name: curve for name, curve in curves.items() if curve.train}
    if not iterative:
        return None

    def draw(axes: "Axes", palette: Palette) -> None:
        for color, (name, curve) in zip(palette.series, iterative.items(), strict=False):
            axes.plot(_thin(curve.train)[0], _thin(curve.train)[1], color=color, linewidth=1.1,
                      linestyle=(0, (3, 2)), label=f"{name}, train")  # fmt: skip
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
        axes.set(xlabel="iteration", ylabel="log loss")
        axes.legend(loc="upper right")

    return draw


def forest(slices: Sequence[SliceResult], metric: str, overall: Estimate, title: str) -> Draw:
    """Draw a metric of every slice with its interval, against the value over all rows."""

    def draw(axes: "Axes", palette: Palette) -> None:
        shown = [found for found in slices if found.metrics[metric].value is not None][::-1]
        if overall.value is not None:
            axes.axvline(overall.value, color=palette.muted, linewidth=0.9, linestyle=(0, (4, 4)))
        for height, found in enumerate(shown):
            number = found.metrics[metric]
            if number.value is None:
                continue
            color = palette.muted if found.small else palette.series[0]
            if number.low is not None and number.high is not None:
                axes.plot([number.low, number.high], [height, height], color=color, linewidth=2)
            axes.plot([number.value], [height], "o", color=color, markersize=6,
                      markeredgecolor=palette.surface)  # fmt: skip
        axes.set_yticks(range(len(shown)), [f"{s.value}  ·  {s.rows:,}" for s in shown])
        axes.tick_params(axis="y", labelcolor=palette.ink, length=0)
        axes.set(xlabel=title, ylim=(-0.6, len(shown) - 0.4))
        axes.grid(visible=False, axis="y")

    return draw


def _thin(values: Sequence[float], points: int = 300) -> tuple[list[int], list[float]]:
    chosen: Any = np.unique(np.linspace(0, len(values) - 1, min(points, len(values))).astype(int))
    return chosen.tolist(), [values[i] for i in chosen]


def _short(found: Estimate) -> str:
    return "n/a" if found.value is None else f"{found.value:.3f}"
