"""Pictures of an evaluation, drawn by matplotlib: as SVG for the report, as small PNG elsewhere.

A function here draws one idea on given axes. `plots` lists what there is to draw for a task; the
files are one a task, and `shared` for what every task has.
"""

from collections.abc import Mapping

from mlops_assets.training.curves import BinaryCurves, MulticlassCurves
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.pictures import binary, multiclass, regression
from mlops_assets.training.pictures.canvas import LIGHT, Draw, Palette, Plot, png, svg
from mlops_assets.training.pictures.shared import learning_curves, slice_plots

__all__ = [
    "LIGHT",
    "Draw",
    "Palette",
    "Plot",
    "calibration",
    "learning_curves",
    "plots",
    "png",
    "slice_plots",
    "svg",
]


def plots(evaluations: Mapping[str, Evaluation], best: str) -> tuple[Plot, ...]:
    """Return what there is to draw of models that were evaluated on the same rows.

    Parameters
    ----------
    evaluations
        By model, all of one task.
    best
        The model that pictures of a single model show.
    """
    curves = evaluations[best].curves
    if isinstance(curves, BinaryCurves):
        return binary.plots(evaluations, best)
    if isinstance(curves, MulticlassCurves):
        return multiclass.plots(evaluations, best)
    return regression.plots(evaluations, best)


def calibration(evaluations: Mapping[str, Evaluation]) -> Draw:
    """Draw what the models' answers promise against what came true, whatever the task.

    Parameters
    ----------
    evaluations
        By model, all of one task.
    """
    curves = next(iter(evaluations.values())).curves
    if isinstance(curves, BinaryCurves):
        return binary.calibration(evaluations)
    if isinstance(curves, MulticlassCurves):
        return multiclass.calibration(evaluations)
    return regression.calibration(evaluations)
