"""Cutting rows into bins and hours, as the curves of every task need it."""

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import Part
from mlops_assets.training.metrics import Floats
from mlops_assets.training.metrics.binary import calibration_edges

CURVE_POINTS = 400
"""Points kept of a curve that has one a row."""

HISTOGRAM_BINS = 40


def calibration_bins(answers: Floats, outcome: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean answer, mean outcome and rows of each equally filled bin of answers.

    Parameters
    ----------
    answers, outcome
        Shape (rows,).
    """
    edges = calibration_edges(answers)
    cell = np.searchsorted(edges, answers, side="right")
    count = np.bincount(cell, minlength=len(edges) + 1).astype(np.float64)
    filled = count > 0
    predicted = np.bincount(cell, weights=answers, minlength=len(count))[filled]
    observed = np.bincount(cell, weights=outcome, minlength=len(count))[filled]
    rows = count[filled]
    return predicted / rows, observed / rows, rows


def hours_of(part: Part) -> NDArray[np.intp] | None:
    """Return each row's hour of day, shape (rows,); None where the split column has no hours."""
    hours = part.context["hour"].to_numpy(dtype=np.float64, na_value=np.nan)
    return None if np.isnan(hours).any() else hours.astype(np.intp)


def mean_by_hour(hour: NDArray[np.intp] | None, *values: Floats) -> tuple[Floats, ...]:
    """Return the hours there are, the rows in each, and the mean of each of the values.

    Parameters
    ----------
    hour
        As `hours_of` gives it; where it is None, every result is empty.
    values
        Each of shape (rows,).
    """
    if hour is None:
        return tuple(np.empty(0) for _ in range(2 + len(values)))
    count = np.bincount(hour, minlength=24).astype(np.float64)
    there = np.flatnonzero(count)
    means = [np.bincount(hour, weights=v, minlength=24)[there] / count[there] for v in values]
    return (there.astype(np.float64), count[there], *means)
