"""Explaining models: what moves their answers, over all and row by row, and for whom they do well.

Import from here. An explanation needs nothing of a model but the `Estimator` protocol, so it is the
same for every algorithm and task. Where explanations are shown is the report's and the model
card's; a single served answer is explained by the estimator itself.
"""

from mlops_assets.training.explaining.attribution import (
    ADDITIVITY_TOLERANCE,
    CLEAR_DIRECTION,
    AdditivityError,
    Attribution,
    RowExplanations,
    ShapImportance,
    attribute,
    require_additive,
)
from mlops_assets.training.explaining.explanation import (
    Effort,
    ModelExplanation,
    explain_model,
    features_by_view,
)
from mlops_assets.training.explaining.fairness import (
    Fairness,
    Figure,
    GroupFigure,
    LargestGap,
    fairness,
)
from mlops_assets.training.explaining.partial_dependence import (
    PartialDependence,
    partial_dependence,
)
from mlops_assets.training.explaining.permutation import (
    PermutationImportance,
    permutation_importance,
)
from mlops_assets.training.explaining.tables import (
    TABLES,
    explanation_tables,
    write_explanation,
)

__all__ = [
    "ADDITIVITY_TOLERANCE",
    "CLEAR_DIRECTION",
    "TABLES",
    "AdditivityError",
    "Attribution",
    "Effort",
    "Fairness",
    "Figure",
    "GroupFigure",
    "LargestGap",
    "ModelExplanation",
    "PartialDependence",
    "PermutationImportance",
    "RowExplanations",
    "ShapImportance",
    "attribute",
    "explain_model",
    "explanation_tables",
    "fairness",
    "features_by_view",
    "partial_dependence",
    "permutation_importance",
    "require_additive",
    "write_explanation",
]
