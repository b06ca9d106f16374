"""Pictures of multiclass models: confusions, ROC of each class, calibration of the top, hours."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.training.curves import MulticlassCurves
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.pictures.canvas import DASHES, Draw, Palette, Plot, colored
from mlops_assets.training.pictures.shared import (
    calibration_lines,
    curves_of_kind,
    dot,
    hours_axis,
    load_bars,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NUMBERED = 12  # classes up to which a cell of the confusion matrix has room for a number
_LONGEST = 18  # letters of a class name beside a matrix


def plots(evaluations: Mapping[str, Evaluation], best: str) -> tuple[Plot, ...]:
    """Return what there is to draw of multiclass models."""
    found, curves = curves_of_kind(evaluations, MulticlassCurves)[best]
    names = found.task.outputs
    shown = [
        Plot(
            "confusion", "Confusions", f"{best}: each row is a true class, and adds up to 100 %.",
            confusion(curves, names), small=True,
        ),
        Plot(
            "roc", "ROC curve of each class", f"{best}: each class against all others.",
            roc(curves, names), small=True,
        ),
        Plot(
            "calibration", "Calibration",
            "How often the predicted class is right, against how sure the model was.",
            calibration(evaluations), small=True,
        ),
        Plot(
            "histogram", "How sure it is", f"{best}: probability of the predicted class.",
            confidence_histogram(curves),
        ),
    ]  # fmt: skip
    if len(curves.hour):
        caption = f"{best}: how sure it is and how often it is right over the day."
        shown.append(Plot("hours", "Errors by hour", caption, errors_by_hour(curves)))
    return tuple(shown)


def confusion(curves: MulticlassCurves, names: Sequence[str]) -> Draw:
    """Draw the share of each true class that is taken for each class."""

    def draw(axes: "Axes", palette: Palette) -> None:
        from matplotlib.patches import Rectangle

        size = len(names)
        rows = curves.confusion.sum(axis=1, keepdims=True)
        share = curves.confusion / np.maximum(rows, 1)
        for (truth, predicted), value in np.ndenumerate(share):
            color = palette.series[0] if truth == predicted else palette.yes
            cell = Rectangle((predicted - 0.47, truth - 0.47), 0.94, 0.94, linewidth=0,
                             facecolor=color, alpha=0.04 + 0.56 * value)  # fmt: skip
            axes.add_patch(cell)
            if size <= _MOST_NUMBERED:
                axes.text(predicted, truth, f"{100 * value:.0f}", ha="center", va="center",
                          fontsize=8.5 if size <= 8 else 7, color=palette.ink)  # fmt: skip
        labels = [_cut(name) for name in names]
        axes.set_xticks(range(size), labels, rotation=0 if size <= 4 else 40,
                        ha="center" if size <= 4 else "right")  # fmt: skip
        axes.set_yticks(range(size), [f"{label}  ·  {int(n):,}" for label, n in
                                      zip(labels, rows[:, 0], strict=True)])  # fmt: skip
        letters = 8.5 if size <= _MOST_NUMBERED else max(3.0, 100 / size)
        axes.tick_params(length=0, labelcolor=palette.ink, labelsize=letters)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
        axes.set(xlabel="predicted class", ylabel="true class  ·  rows")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return draw


def roc(curves: MulticlassCurves, names: Sequence[str]) -> Draw:
    """Draw the ROC curve of each class against the rest, the most frequent ones first."""

    def draw(axes: "Axes", palette: Palette) -> None:
        axes.plot([0, 1], [0, 1], color=palette.muted, linewidth=0.9, linestyle=DASHES)
        by_rows = np.argsort(-curves.confusion.sum(axis=1), kind="stable")
        room = 2 * len(palette.series)
        shown = [int(i) for i in by_rows if not np.isnan(curves.true_positive_rate[i, 0])][:room]
        for color, style, name in colored(palette, [str(i) for i in shown]):
            false, true = (
                curves.false_positive_rate[int(name)], curves.true_positive_rate[int(name)],
            )  # fmt: skip
            area = float(np.trapezoid(true, false))
            axes.plot(false, true, color=color, linestyle=style,
                      label=f"{_cut(names[int(name)])}  {area:.3f}")  # fmt: skip
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right", title="ROC AUC", title_fontsize=8,
                    ncols=1 if len(shown) <= 6 else 2)  # fmt: skip

    return draw


def calibration(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw how often the predicted class is right over how sure the model was of it."""
    models = curves_of_kind(evaluations, MulticlassCurves)
    points = {
        name: (curves.predicted, curves.observed, found.metrics["calibration_error"])
        for name, (found, curves) in models.items()
    }
    return calibration_lines(points, "mean probability of the predicted class", "share right")


def confidence_histogram(curves: MulticlassCurves) -> Draw:
    """Draw the distribution of the probability of the predicted class, right apart from wrong."""

    def draw(axes: "Axes", palette: Palette) -> None:
        total = max(1.0, float(curves.right.sum() + curves.wrong.sum()))
        for counts, color, label in (
            (curves.right, palette.series[0], "right"),
            (curves.wrong, palette.yes, "wrong"),
        ):
            axes.stairs(counts / total, curves.edges, color=color, fill=True, alpha=0.25)
            axes.stairs(counts / total, curves.edges, color=color, linewidth=1.5, label=label)
        axes.set(xlabel="probability of the predicted class", ylabel="share of rows")
        axes.set_xlim(curves.edges[0], curves.edges[-1])
        axes.legend(loc="best")

    return draw


def errors_by_hour(curves: MulticlassCurves) -> Draw:
    """Draw how sure the model is and how often it is right per hour of day."""

    def draw(axes: "Axes", palette: Palette) -> None:
        load_bars(axes, palette, curves.hour, curves.hour_rows, 1.0)
        axes.plot(curves.hour, curves.hour_accuracy, label="accuracy",
                  **dot(palette.yes, palette))  # fmt: skip
        axes.plot(curves.hour, curves.hour_predicted, label="mean probability of its class",
                  **dot(palette.series[0], palette))  # fmt: skip
        axes.set(ylim=(0, 1.25))  # the legend has its own room
        axes.set_yticks(np.arange(0, 1.1, 0.2))
        hours_axis(axes, curves.hour)
        axes.legend(loc="upper left", ncols=2)

    return draw


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
