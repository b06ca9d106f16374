"""Training: from a declared family to trained and evaluated candidates, and their report.

Here belongs what turns data into models and measures them: the family's declaration, its training
set, the estimators, the metrics with their intervals, and the report. Where models are kept and who
serves is the registry's. Nothing here knows Dagster or MLflow, and importing this package imports
no learning library.
"""

from mlops_assets.training.family import (
    CandidateDeclaration,
    FamilyError,
    ModelFamily,
    declare_family,
)
from mlops_assets.training.family_gate import GateDeclaration

__all__ = [
    "CandidateDeclaration",
    "FamilyError",
    "GateDeclaration",
    "ModelFamily",
    "declare_family",
]
