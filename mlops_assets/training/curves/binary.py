"""Curves of a binary model: ROC, precision and recall, calibration, answers by class, hours."""

from dataclasses import dataclass

import numpy as np

from mlops_assets.training.curves.bins import (
    CURVE_POINTS,
    HISTOGRAM_BINS,
    calibration_bins,
    hours_of,
    mean_by_hour,
)
from mlops_assets.training.dataset import Part
from mlops_assets.training.metrics import Floats, Scored
from mlops_assets.training.metrics.binary import row_log_loss


@dataclass(frozen=True)
class BinaryCurves:
    """Points to draw, each array one-dimensional.

    Attributes
    ----------
    false_positive_rate, true_positive_rate
        The ROC curve.
    recall, precision
        The precision-recall curve.
    predicted, observed, bin_rows
        Mean answer and rate of yes in each calibration bin, and the rows in it.
    edges, positives, negatives
        Histogram of the answers by class; there is one more edge than counts.
    hour, hour_rows, hour_predicted, hour_observed, hour_log_loss
        Per hour of day; empty when the split column has no hours.
    """

    false_positive_rate: Floats
    true_positive_rate: Floats
    recall: Floats
    precision: Floats
    predicted: Floats
    observed: Floats
    bin_rows: Floats
    edges: Floats
    positives: Floats
    negatives: Floats
    hour: Floats
    hour_rows: Floats
    hour_predicted: Floats
    hour_observed: Floats
    hour_log_loss: Floats


def rows_from_the_top(rows: Scored) -> tuple[Floats, Floats, Floats]:
    """Return each distinct answer, falling, with the positives and the rows at or above it."""
    order = np.argsort(-rows.answers, kind="stable")
    score = rows.answers[order]
    last = np.flatnonzero(np.r_[score[1:] != score[:-1], True])
    true_positives = np.cumsum(rows.label[order])[last]
    return score[last], true_positives, (last + 1).astype(np.float64)


def binary_curves(rows: Scored, part: Part) -> BinaryCurves:
    """Return what there is to draw of a binary model's answers to a part."""
    _, hits, flagged = rows_from_the_top(rows)
    positives = rows.label.sum()
    negatives = len(rows.label) - positives
    keep = np.unique(np.linspace(0, len(hits) - 1, CURVE_POINTS).astype(int))
    if not positives or not negatives:
        keep = keep[:0]  # with one class there is no such curve
    predicted, observed, in_bin = calibration_bins(rows.answers, rows.label)
    top = max(1e-6, float(np.quantile(rows.answers, 0.999)))
    edges = np.linspace(0, top, HISTOGRAM_BINS + 1)
    clipped = np.minimum(rows.answers, top)
    hour, hour_rows, *means = mean_by_hour(
        hours_of(part), rows.answers, rows.label, row_log_loss(rows)
    )
    return BinaryCurves(
        false_positive_rate=np.r_[0, (flagged - hits)[keep] / max(negatives, 1)],
        true_positive_rate=np.r_[0, hits[keep] / max(positives, 1)],
        recall=hits[keep] / max(positives, 1),
        precision=(hits / flagged)[keep],
        predicted=predicted,
        observed=observed,
        bin_rows=in_bin,
        edges=edges,
        positives=np.histogram(clipped[rows.label == 1], edges)[0].astype(np.float64),
        negatives=np.histogram(clipped[rows.label == 0], edges)[0].astype(np.float64),
        hour=hour,
        hour_rows=hour_rows,
        hour_predicted=means[0],
        hour_observed=means[1],
        hour_log_loss=means[2],
    )
