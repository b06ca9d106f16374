"""Curves of a multiclass model: confusions, ROC of each class, calibration of the top, hours."""

from dataclasses import dataclass

import numpy as np

from mlops_assets.training.curves.binary import rows_from_the_top
from mlops_assets.training.curves.bins import (
    CURVE_POINTS,
    HISTOGRAM_BINS,
    calibration_bins,
    hours_of,
    mean_by_hour,
)
from mlops_assets.training.dataset import Part
from mlops_assets.training.metrics import Floats, Scored
from mlops_assets.training.metrics.multiclass import one_against_rest, row_log_loss, top_answer


@dataclass(frozen=True)
class MulticlassCurves:
    """Points to draw.

    Attributes
    ----------
    confusion
        Rows by true class and predicted class, shape (classes, classes).
    false_positive_rate, true_positive_rate
        The ROC curve of each class against the rest, shape (classes, points); NaN for a class that
        these rows do not have.
    predicted, observed, bin_rows
        Mean probability of the predicted class, the share in which it was right, and the rows, in
        each calibration bin.
    edges, right, wrong
        Histogram of the probability of the predicted class, right answers apart from wrong ones;
        there is one more edge than counts.
    hour, hour_rows, hour_predicted, hour_accuracy, hour_log_loss
        Per hour of day; empty when the split column has no hours.
    """

    confusion: Floats
    false_positive_rate: Floats
    true_positive_rate: Floats
    predicted: Floats
    observed: Floats
    bin_rows: Floats
    edges: Floats
    right: Floats
    wrong: Floats
    hour: Floats
    hour_rows: Floats
    hour_predicted: Floats
    hour_accuracy: Floats
    hour_log_loss: Floats

    @property
    def precision(self) -> Floats:
        """How often a predicted class is right, shape (classes,); NaN where none was predicted."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> Floats:
        """How many rows of a class are found, shape (classes,); NaN where there is none."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=1))


def multiclass_curves(rows: Scored, part: Part) -> MulticlassCurves:
    """Return what there is to draw of a multiclass model's answers to a part."""
    classes = len(rows.task.outputs)
    cell = rows.label.astype(int) * classes + rows.answers.argmax(axis=1)
    confusion = np.bincount(cell, minlength=classes**2).reshape(classes, classes)
    roc = [_roc(one_against_rest(rows, position)) for position in range(classes)]
    top = top_answer(rows)
    predicted, observed, in_bin = calibration_bins(top.answers, top.label)
    edges = np.linspace(1 / classes, 1, HISTOGRAM_BINS + 1)
    # Rounding may leave the largest of equal probabilities a hair below 1 / classes.
    clipped = np.clip(top.answers, edges[0], 1)
    hour, hour_rows, *means = mean_by_hour(
        hours_of(part), top.answers, top.label, row_log_loss(rows)
    )
    return MulticlassCurves(
        confusion=confusion.astype(np.float64),
        false_positive_rate=np.stack([false for false, _ in roc]),
        true_positive_rate=np.stack([true for _, true in roc]),
        predicted=predicted,
        observed=observed,
        bin_rows=in_bin,
        edges=edges,
        right=np.histogram(clipped[top.label == 1], edges)[0].astype(np.float64),
        wrong=np.histogram(clipped[top.label == 0], edges)[0].astype(np.float64),
        hour=hour,
        hour_rows=hour_rows,
        hour_predicted=means[0],
        hour_accuracy=means[1],
        hour_log_loss=means[2],
    )


def _roc(rows: Scored) -> tuple[Floats, Floats]:
    positives = rows.label.sum()
    negatives = len(rows) - positives
    if not positives or not negatives:
        return np.full(CURVE_POINTS + 1, np.nan), np.full(CURVE_POINTS + 1, np.nan)
    _, hits, flagged = rows_from_the_top(rows)
    keep = np.linspace(0, len(hits) - 1, CURVE_POINTS).astype(int)
    return np.r_[0, (flagged - hits)[keep] / negatives], np.r_[0, hits[keep] / positives]


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan, dtype=np.float64), where=whole > 0)
