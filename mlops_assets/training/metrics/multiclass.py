"""Metrics of a multiclass model: loss, accuracy, ranking of each class, calibration of the top."""

from collections.abc import Mapping

import numpy as np

from mlops_assets.training.metrics import binary
from mlops_assets.training.metrics.scored import (
    Floats,
    Metric,
    MetricError,
    Scored,
    Weighted,
    mean,
    named,
)
from mlops_assets.training.tasks import Binary


def one_against_rest(rows: Scored, position: int) -> Scored:
    """Return the rows as the binary question whether the class at a position is the right one."""
    label = (rows.label == position).astype(np.float64)
    return Scored(Binary(), label, rows.answers[:, position], rows.block, rows.blocks)


def top_answer(rows: Scored) -> Scored:
    """Return the rows as the binary question whether the predicted class is the right one."""
    top = rows.answers.argmax(axis=1)
    label = (rows.label == top).astype(np.float64)
    return Scored(Binary(), label, rows.answers.max(axis=1), rows.block, rows.blocks)


def _macro_roc_auc(rows: Scored) -> Weighted:
    """Mean area under the ROC curve of each class against the rest (Provost & Domingos 2000).

    Classes that these rows do not have take no part, as there is nothing to rank.
    """
    present = np.unique(rows.label).astype(int)
    if len(present) < 2:
        only = rows.task.outputs[present[0]]
        raise MetricError(f"all {len(rows)} rows have label {only!r}; two classes are needed")
    areas = [binary.roc_auc(one_against_rest(rows, int(position))) for position in present]

    def mean_area(weights: Floats) -> Floats:
        average: Floats = np.mean([area(weights) for area in areas], axis=0)
        return average

    return mean_area


def _right(rows: Scored) -> Floats:
    """Return the probability given to the right class, shape (rows,)."""
    right: Floats = rows.answers[np.arange(len(rows)), rows.label.astype(int)]
    return right


def row_log_loss(rows: Scored) -> Floats:
    """Return each row's log loss, shape (rows,)."""
    loss: Floats = -np.log(np.clip(_right(rows), binary.CLIP, 1.0))
    return loss


def _row_accuracy(rows: Scored) -> Floats:
    return top_answer(rows).label


def _row_brier(rows: Scored) -> Floats:
    """Sum the squared errors of all classes, from 0 to 2 (Brier 1950)."""
    squares: Floats = (rows.answers**2).sum(axis=1) - 2 * _right(rows) + 1
    return squares


def _top_calibration_error(rows: Scored) -> Weighted:
    """Reduce the gap between how sure the predicted class is called and how often it is right.

    Of the predicted class, as Guo, Pleiss, Sun & Weinberger 2017 (ICML) look at it.
    """
    return binary.calibration_error(top_answer(rows))


MULTICLASS_METRICS: Mapping[str, Metric] = named(
    Metric("log_loss", "Log loss", False, 0.0, mean(row_log_loss)),
    Metric("accuracy", "Accuracy", True, 1.0, mean(_row_accuracy)),
    Metric("roc_auc", "ROC AUC, mean of classes", True, 1.0, _macro_roc_auc),
    Metric("brier", "Brier score", False, 0.0, mean(_row_brier)),
    Metric("calibration_error", "Calibration error", False, 0.0, _top_calibration_error),
)
"""Every metric of a multiclass model, by name."""
