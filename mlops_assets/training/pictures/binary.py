"""Pictures of binary models: ROC, precision and recall, calibration, answers by class, hours."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlops_assets.training.curves import BinaryCurves
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.pictures.canvas import DASHES, Draw, Palette, Plot, colored
from mlops_assets.training.pictures.shared import (
    calibration_lines,
    curves_of_kind,
    dot,
    hours_axis,
    load_bars,
    short,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plots(evaluations: Mapping[str, Evaluation], best: str) -> tuple[Plot, ...]:
    """Return what there is to draw of binary models."""
    found, curves = curves_of_kind(evaluations, BinaryCurves)[best]
    shown = [
        Plot(
            "roc", "ROC curve", "True positives against false alarms over all thresholds.",
            roc(evaluations), small=True,
        ),
        Plot(
            "precision_recall", "Precision and recall",
            "How often a yes is right, against how many are found.",
            precision_recall(evaluations), small=True,
        ),
        Plot(
            "calibration", "Calibration", "On the diagonal, a probability means what it says.",
            calibration(evaluations), small=True,
        ),
        Plot(
            "histogram", "Answers by class", f"{best}: the further apart, the better.",
            score_histogram(found, curves),
        ),
    ]  # fmt: skip
    if len(curves.hour):
        caption = f"{best}: predicted and observed rate over the day."
        shown.append(Plot("hours", "Errors by hour", caption, errors_by_hour(curves)))
    return tuple(shown)


def roc(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw the ROC curve of each model, with its area in the legend."""
    models = curves_of_kind(evaluations, BinaryCurves)

    def draw(axes: "Axes", palette: Palette) -> None:
        axes.plot([0, 1], [0, 1], color=palette.muted, linewidth=0.9, linestyle=DASHES)
        for color, style, name in colored(palette, models):
            found, curves = models[name]
            axes.plot(
                curves.false_positive_rate,
                curves.true_positive_rate,
                color=color,
                linestyle=style,
                label=f"{name}  {short(found.metrics['roc_auc'])}",
            )
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right", title="ROC AUC", title_fontsize=8)

    return draw


def precision_recall(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw precision over recall of each model, with the base rate."""
    models = curves_of_kind(evaluations, BinaryCurves)

    def draw(axes: "Axes", palette: Palette) -> None:
        rate = next(iter(evaluations.values())).label["yes"]
        axes.axhline(rate, color=palette.muted, linewidth=0.9, linestyle=DASHES)
        axes.annotate(
            f"base rate {rate:.3f}", (0, rate), (0, -4), textcoords="offset points", va="top",
            color=palette.muted, fontsize=8,
        )  # fmt: skip
        for color, style, name in colored(palette, models):
            found, curves = models[name]
            start = max(1, len(curves.recall) // 200)  # the first few rows are all noise
            axes.plot(
                curves.recall[start:],
                curves.precision[start:],
                color=color,
                linestyle=style,
                label=f"{name}  {short(found.metrics['average_precision'])}",
            )
        axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.legend(loc="upper right", title="Average precision", title_fontsize=8)

    return draw


def calibration(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw how often yes came true over how probable the model called it."""
    models = curves_of_kind(evaluations, BinaryCurves)
    points = {
        name: (curves.predicted, curves.observed, found.metrics["calibration_error"])
        for name, (found, curves) in models.items()
    }
    return calibration_lines(points, "mean predicted probability", "observed rate")


def score_histogram(evaluation: Evaluation, curves: BinaryCurves) -> Draw:
    """Draw the distribution of the answers, yes apart from no."""

    def draw(axes: "Axes", palette: Palette) -> None:
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


def errors_by_hour(curves: BinaryCurves) -> Draw:
    """Draw predicted and observed rate per hour of day."""

    def draw(axes: "Axes", palette: Palette) -> None:
        top = max(curves.hour_observed.max(), curves.hour_predicted.max())
        load_bars(axes, palette, curves.hour, curves.hour_rows, top)
        axes.plot(curves.hour, curves.hour_observed, label="observed rate",
                  **dot(palette.yes, palette))  # fmt: skip
        axes.plot(curves.hour, curves.hour_predicted, label="mean prediction",
                  **dot(palette.series[0], palette))  # fmt: skip
        axes.plot(
            curves.hour, curves.hour_log_loss, color=palette.muted, linewidth=1.2,
            linestyle=(0, (4, 3)), label="Log loss",
        )  # fmt: skip
        axes.set(ylim=(0, None))
        hours_axis(axes, curves.hour)
        axes.legend(loc="upper left", ncols=2)

    return draw
