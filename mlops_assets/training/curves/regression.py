"""Curves of a regression: predicted and observed, residuals, honesty of the quantiles, hours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.curves.bins import HISTOGRAM_BINS, hours_of, mean_by_hour
from mlops_assets.training.dataset import Part
from mlops_assets.training.metrics import Floats, Scored
from mlops_assets.training.metrics.binary import calibration_edges
from mlops_assets.training.metrics.regression import (
    residuals,
    row_covered,
    row_pinball,
    share_below,
)
from mlops_assets.training.tasks import Regression

RESIDUAL_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles of the residuals that are shown for each hour."""

_SCATTERED = 800  # rows drawn as points: enough to see the shape, few enough for a small page
_TAIL = 0.005  # share of residuals at each end that the histogram gathers in its last bin


@dataclass(frozen=True)
class RegressionCurves:
    """Points to draw.

    Attributes
    ----------
    point, label
        A sample of rows spread evenly over the predictions, shape (points,).
    predicted, observed, bin_rows
        In equally filled bins of the point: mean of each predicted quantile, and that quantile of
        the labels, both of shape (bins, outputs); and the rows, shape (bins,).
    edges, residual_rows
        Histogram of truth minus point, the tails gathered in the end bins; there is one more edge
        than counts.
    levels, below, level_loss
        Level of each quantile, the share of labels at or below it, and its pinball loss, each of
        shape (outputs,).
    hour, hour_rows, hour_pinball, hour_coverage
        Per hour of day; empty when the split column has no hours. Coverage is that of the outer two
        quantiles.
    hour_residuals
        The residuals' `RESIDUAL_LEVELS` in each hour, shape (hours, levels).
    """

    point: Floats
    label: Floats
    predicted: Floats
    observed: Floats
    bin_rows: Floats
    edges: Floats
    residual_rows: Floats
    levels: Floats
    below: Floats
    level_loss: Floats
    hour: Floats
    hour_rows: Floats
    hour_pinball: Floats
    hour_coverage: Floats
    hour_residuals: Floats


def regression_curves(rows: Scored, part: Part, task: Regression) -> RegressionCurves:
    """Return what there is to draw of a regression's answers to a part."""
    point, table, error = task.point(rows.answers), task.table(rows.answers), residuals(rows)
    by_point = np.argsort(point, kind="stable")
    spread = np.linspace(0, len(rows) - 1, min(_SCATTERED, len(rows))).astype(int)
    sample = by_point[np.unique(spread)]

    edges_of_bins = calibration_edges(point)
    in_bin = _groups(np.searchsorted(edges_of_bins, point, side="right"))
    low, high = np.quantile(error, [_TAIL, 1 - _TAIL])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)

    hours = hours_of(part)
    loss = row_pinball(rows, task.quantiles)
    hour, hour_rows, *means = mean_by_hour(hours, loss, row_covered(rows))
    in_hour = [] if hours is None else _groups(hours)
    per_hour = [np.quantile(error[chosen], RESIDUAL_LEVELS) for chosen in in_hour]
    return RegressionCurves(
        point=point[sample],
        label=rows.label[sample],
        predicted=np.stack([table[chosen].mean(axis=0) for chosen in in_bin]),
        observed=np.stack([np.quantile(rows.label[chosen], task.quantiles) for chosen in in_bin]),
        bin_rows=np.array([len(chosen) for chosen in in_bin], dtype=np.float64),
        edges=edges,
        residual_rows=np.histogram(np.clip(error, low, high), edges)[0].astype(np.float64),
        levels=np.array(task.quantiles),
        below=share_below(rows).sum(axis=0) / len(rows),
        level_loss=np.array(
            [
                row_pinball(_only(rows, table[:, column], level), (level,)).mean()
                for column, level in enumerate(task.quantiles)
            ]
        ),
        hour=hour,
        hour_rows=hour_rows,
        hour_pinball=means[0],
        hour_coverage=means[1],
        hour_residuals=np.array(per_hour).reshape(len(per_hour), len(RESIDUAL_LEVELS)),
    )


def _only(rows: Scored, answers: Floats, level: float) -> Scored:
    """Return the rows with a single quantile as their answer."""
    return Scored(Regression((level,)), rows.label, answers, rows.block, rows.blocks)


def _groups(codes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the rows of each code that occurs, in the order of codes."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
