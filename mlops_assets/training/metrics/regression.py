"""Metrics of a regression: errors of the point, loss and honesty of the quantiles, the interval."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from mlops_assets.training.metrics.gaps import root_mean_square_gap
from mlops_assets.training.metrics.scored import (
    Floats,
    Metric,
    MetricError,
    Scored,
    Weighted,
    mean,
    named,
    ratio,
)
from mlops_assets.training.tasks import Regression


def residuals(rows: Scored) -> Floats:
    """Return truth minus point of each row, shape (rows,)."""
    difference: Floats = rows.label - rows.task.point(rows.answers)
    return difference


def _row_absolute(rows: Scored) -> Floats:
    return np.abs(residuals(rows))


def _root_mean_square(rows: Scored) -> Weighted:
    squares = mean(lambda given: residuals(given) ** 2)(rows)
    return lambda weights: np.sqrt(squares(weights))


def _r2(rows: Scored) -> Weighted:
    """Reduce the share of the label's variance that the point explains."""
    # Centred first, so that the variance of a draw is no small difference of large numbers.
    centred = rows.label - rows.label.mean()
    if not centred.any():
        raise MetricError(f"all {len(rows)} labels are {rows.label[0]:g}; there is no variance")
    error = rows.per_block(residuals(rows) ** 2)
    first, second = rows.per_block(centred), rows.per_block(centred**2)
    count = rows.rows_per_block

    def explained(weights: Floats) -> Floats:
        spread = weights @ second - ratio((weights @ first) ** 2, weights @ count)
        return 1 - ratio(weights @ error, spread)

    return explained


def row_pinball(rows: Scored, levels: tuple[float, ...]) -> Floats:
    """Return each row's pinball loss, averaged over the quantiles, shape (rows,).

    Koenker & Bassett 1978, Econometrica 46.
    """
    table, total = rows.task.table(rows.answers), np.zeros(len(rows))
    for column, level in enumerate(levels):
        above = rows.label - table[:, column]
        total += np.maximum(level * above, (level - 1) * above)
    return total / len(levels)


def share_below(rows: Scored) -> Floats:
    """Return, per block and quantile, how many labels lie at or below it: (blocks, outputs)."""
    table = rows.task.table(rows.answers)
    columns = [
        rows.per_block((rows.label <= table[:, column]).astype(np.float64))
        for column in range(table.shape[1])
    ]
    return np.stack(columns, axis=1)


def _quantile_calibration_error(levels: tuple[float, ...]) -> Callable[[Scored], Weighted]:
    """Make the reduction of the gap between a quantile's level and the share at or below it.

    The root of the mean square over the quantiles: Kuleshov, Fenner & Ermon 2018, ICML, without
    the noise in it, as `root_mean_square_gap` takes it off.
    """

    def reduce(rows: Scored) -> Weighted:
        count = np.repeat(rows.rows_per_block[:, None], len(levels), axis=1)
        return root_mean_square_gap(share_below(rows) - count * np.array(levels), count)

    return reduce


def row_covered(rows: Scored) -> Floats:
    """Return 1 where the label lies between the outer two quantiles, else 0, shape (rows,)."""
    table = rows.task.table(rows.answers)
    inside = (rows.label >= table[:, 0]) & (rows.label <= table[:, -1])
    return inside.astype(np.float64)


def _row_width(rows: Scored) -> Floats:
    table = rows.task.table(rows.answers)
    width: Floats = table[:, -1] - table[:, 0]
    return width


@lru_cache
def regression_metrics(task: Regression) -> Mapping[str, Metric]:
    """Return every metric of a regression by name; the interval's only where there is one."""
    levels = task.quantiles
    found = [
        Metric("pinball_loss", "Pinball loss", False, 0.0, mean(lambda r: row_pinball(r, levels))),
        Metric("mae", "Mean absolute error", False, 0.0, mean(_row_absolute)),
        Metric("rmse", "Root mean squared error", False, 0.0, _root_mean_square),
        Metric("r2", "R²", True, 1.0, _r2),
        Metric(
            "calibration_error",
            "Calibration error",
            False,
            0.0,
            _quantile_calibration_error(levels),
        ),
    ]
    if len(levels) > 1:
        nominal = levels[-1] - levels[0]
        found += [
            Metric("coverage", "Interval coverage", None, nominal, mean(row_covered)),
            Metric("interval_width", "Interval width", False, 0.0, mean(_row_width)),
        ]
    return named(*found)
