"""Pictures of regressions: predicted and observed, quantiles, residuals, hours of the day."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.training.curves import RegressionCurves
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.metrics import Floats
from mlops_assets.training.pictures.canvas import DASHES, Draw, Palette, Plot, colored
from mlops_assets.training.pictures.shared import (
    calibration_lines,
    curves_of_kind,
    dot,
    hours_axis,
    short,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plots(evaluations: Mapping[str, Evaluation], best: str) -> tuple[Plot, ...]:
    """Return what there is to draw of regressions."""
    models = curves_of_kind(evaluations, RegressionCurves)
    found, curves = models[best]
    outputs = found.task.outputs
    shown = [
        Plot(
            "predicted_observed", "Predicted and observed",
            f"{best}: {len(curves.point):,} rows spread evenly over the predictions.",
            predicted_observed(curves), small=True,
        ),
        Plot(
            "quantiles", "Quantiles by prediction",
            f"{best}: lines are predicted, points are what came true.",
            quantiles(curves, outputs), small=True,
        ),
        Plot(
            "calibration", "Calibration of the quantiles",
            "On the diagonal, as many labels lie below a quantile as it promises.",
            calibration(evaluations), small=True,
        ),
        Plot(
            "residuals", "Residuals",
            f"{best}: truth minus prediction; the end bars hold all that lies beyond.",
            residual_histogram(curves),
        ),
    ]  # fmt: skip
    if len(curves.hour):
        shown += [
            Plot(
                "residuals_by_hour", "Residuals by hour",
                f"{best}: the line is the median, the bands hold 50% and 80% of the rows.",
                residuals_by_hour(curves),
            ),
            Plot(
                "pinball_by_hour", "Pinball loss by hour", "Where in the day the models lose.",
                pinball_by_hour(evaluations),
            ),
        ]  # fmt: skip
        if len(outputs) > 1:
            nominal = curves.levels[-1] - curves.levels[0]
            shown.append(
                Plot(
                    "coverage_by_hour",
                    "Coverage by hour",
                    f"Share of labels in the interval, which promises {100 * nominal:.4g}%.",
                    coverage_by_hour(evaluations, float(nominal)),
                )
            )
    return tuple(shown)


def predicted_observed(curves: RegressionCurves) -> Draw:
    """Draw a sample of rows, with the middle of what came true in each bin of predictions."""

    def draw(axes: "Axes", palette: Palette) -> None:
        middle = len(curves.levels) // 2
        axes.scatter(curves.point, curves.label, s=7, color=palette.series[0], alpha=0.36,
                     linewidths=0, label="row")  # fmt: skip
        axes.plot(curves.predicted[:, middle], curves.observed[:, middle], linewidth=1.4,
                  label=f"quantile {curves.levels[middle]:g} of a bin",
                  **dot(palette.yes, palette))  # fmt: skip
        low, high = _range(np.r_[curves.point, curves.label])
        axes.axline((0, 0), slope=1, color=palette.muted, linewidth=0.9, linestyle=DASHES)
        axes.set(ylim=(low, high), xlim=_range(curves.point))
        axes.set(xlabel="predicted", ylabel="observed")
        axes.legend(loc="upper left")

    return draw


def quantiles(curves: RegressionCurves, outputs: tuple[str, ...]) -> Draw:
    """Draw each predicted quantile over the prediction, with that quantile of what came true."""

    def draw(axes: "Axes", palette: Palette) -> None:
        middle = len(outputs) // 2
        across = curves.predicted[:, middle]
        axes.fill_between(across, curves.predicted[:, 0], curves.predicted[:, -1], linewidth=0,
                          color=palette.series[0], alpha=0.12)  # fmt: skip
        for color, _, name in colored(palette, outputs):
            column = outputs.index(name)
            axes.plot(across, curves.predicted[:, column], color=color, label=name)
            axes.plot(across, curves.observed[:, column], linestyle="", **dot(color, palette, 5.5))
        axes.set(xlabel=f"mean predicted {outputs[middle]} of a bin", ylabel="label")
        axes.legend(loc="upper left", ncols=2 if len(outputs) > 4 else 1)

    return draw


def calibration(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw the share of labels at or below each quantile over its level."""
    points = {
        name: (curves.levels, curves.below, found.metrics["calibration_error"])
        for name, (found, curves) in curves_of_kind(evaluations, RegressionCurves).items()
    }
    return calibration_lines(points, "level of the quantile", "share of labels at or below it")


def residual_histogram(curves: RegressionCurves) -> Draw:
    """Draw the distribution of truth minus point."""

    def draw(axes: "Axes", palette: Palette) -> None:
        share = curves.residual_rows / curves.residual_rows.sum()
        axes.stairs(share, curves.edges, color=palette.series[0], fill=True, alpha=0.25)
        axes.stairs(share, curves.edges, color=palette.series[0], linewidth=1.5)
        axes.axvline(0, color=palette.ink, linewidth=0.9, linestyle=DASHES)
        axes.set(xlabel="truth minus prediction", ylabel="share of rows")
        axes.set_xlim(curves.edges[0], curves.edges[-1])

    return draw


def residuals_by_hour(curves: RegressionCurves) -> Draw:
    """Draw where the residuals lie per hour of day."""

    def draw(axes: "Axes", palette: Palette) -> None:
        lowest, low, middle, high, highest = curves.hour_residuals.T
        color = palette.series[0]
        axes.fill_between(curves.hour, lowest, highest, color=color, alpha=0.12, linewidth=0)
        axes.fill_between(curves.hour, low, high, color=color, alpha=0.22, linewidth=0)
        axes.axhline(0, color=palette.ink, linewidth=0.9, linestyle=DASHES)
        axes.plot(curves.hour, middle, **dot(color, palette))
        axes.set(ylabel="truth minus prediction")
        hours_axis(axes, curves.hour)

    return draw


def pinball_by_hour(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw the loss of each model per hour of day."""
    models = curves_of_kind(evaluations, RegressionCurves)

    def draw(axes: "Axes", palette: Palette) -> None:
        for color, style, name in colored(palette, models):
            found, curves = models[name]
            label = f"{name}  {short(found.metrics['pinball_loss'])}"
            axes.plot(curves.hour, curves.hour_pinball, linestyle=style, label=label,
                      **dot(color, palette))  # fmt: skip
        top = max(float(curves.hour_pinball.max()) for _, curves in models.values())
        axes.set(ylim=(0, 1.35 * top), ylabel="Pinball loss")  # the legend has its own room
        hours_axis(axes, next(iter(models.values()))[1].hour)
        axes.legend(loc="upper left", title="over the whole day", title_fontsize=8)

    return draw


def coverage_by_hour(evaluations: Mapping[str, Evaluation], nominal: float) -> Draw:
    """Draw the share of labels in the interval of each model per hour of day."""
    models = curves_of_kind(evaluations, RegressionCurves)

    def draw(axes: "Axes", palette: Palette) -> None:
        axes.axhline(nominal, color=palette.ink, linewidth=0.9, linestyle=DASHES)
        for color, style, name in colored(palette, models):
            found, curves = models[name]
            label = f"{name}  {short(found.metrics['coverage'])}"
            axes.plot(curves.hour, curves.hour_coverage, linestyle=style, label=label,
                      **dot(color, palette))  # fmt: skip
        low = min(float(curves.hour_coverage.min()) for _, curves in models.values())
        axes.set(ylim=(max(0.0, min(low, nominal) - 0.12), 1.02), ylabel="coverage")
        hours_axis(axes, next(iter(models.values()))[1].hour)
        axes.legend(loc="lower left", title="over the whole day", title_fontsize=8)

    return draw


def _range(values: Floats, tail: float = 0.01) -> tuple[float, float]:
    """Return ends that leave out the tails, with a little room."""
    low, high = (float(end) for end in np.quantile(values, [tail, 1 - tail]))
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room
