"""Automatic rollback: measure, judge, and let the version before serve again.

`measure_rollback` collects a situation, `judge_rollback` decides by the family's policy, and
`roll_back` does what was decided. Importing this package imports nothing heavy.
"""

from mlops_assets.production.rollback.acting import ACTOR, roll_back, roll_back_by_hand
from mlops_assets.production.rollback.deciding import (
    Comparison,
    RollbackDecision,
    RollbackSituation,
    ServiceRecord,
    judge_rollback,
)
from mlops_assets.production.rollback.measuring import measure_rollback, measure_service_limits

__all__ = [
    "ACTOR",
    "Comparison",
    "RollbackDecision",
    "RollbackSituation",
    "ServiceRecord",
    "judge_rollback",
    "measure_rollback",
    "measure_service_limits",
    "roll_back",
    "roll_back_by_hand",
]
