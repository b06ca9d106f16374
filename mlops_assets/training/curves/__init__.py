"""Points to draw of an evaluation, one file a task; how they are drawn is elsewhere.

A kind of curves is a frozen dataclass that holds nothing but float64 arrays, so that all of them
are stored and read again by the same few lines.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from mlops_assets.training.curves.binary import BinaryCurves, binary_curves, rows_from_the_top
from mlops_assets.training.curves.multiclass import MulticlassCurves, multiclass_curves
from mlops_assets.training.curves.regression import RegressionCurves, regression_curves
from mlops_assets.training.dataset import Part
from mlops_assets.training.metrics import Scored
from mlops_assets.training.tasks import Multiclass, Regression, Task

__all__ = [
    "BinaryCurves",
    "Curves",
    "MulticlassCurves",
    "RegressionCurves",
    "curves_from",
    "curves_of",
    "curves_state",
    "rows_from_the_top",
]

Curves = BinaryCurves | MulticlassCurves | RegressionCurves


def curves_of(rows: Scored, part: Part) -> Curves:
    """Return what there is to draw of a model's answers to a part.

    Parameters
    ----------
    rows
        Truth and answers.
    part
        The rows themselves, for the hour of day.
    """
    if isinstance(part.task, Regression):
        return regression_curves(rows, part, part.task)
    if isinstance(part.task, Multiclass):
        return multiclass_curves(rows, part)
    return binary_curves(rows, part)


def curves_state(curves: Curves) -> dict[str, Any]:
    """Return curves as JSON values, null for NaN; `curves_from` reads them."""
    return {field.name: _listed(getattr(curves, field.name).tolist()) for field in fields(curves)}


def curves_from(task: Task, state: Mapping[str, Any]) -> Curves:
    """Return the curves of a task that `curves_state` described.

    Raises
    ------
    TypeError
        When a curve is missing or one too many.
    """
    arrays = {name: np.array(values, dtype=np.float64) for name, values in state.items()}
    if isinstance(task, Regression):
        return RegressionCurves(**arrays)
    return MulticlassCurves(**arrays) if isinstance(task, Multiclass) else BinaryCurves(**arrays)


def _listed(values: Any) -> Any:
    if isinstance(values, list):
        return [_listed(value) for value in values]
    return None if np.isnan(values) else values
