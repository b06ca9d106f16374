"""Registry: which models there are, which one serves, and how that changes.

Runs, versions and aliases live in MLflow; who was made champion and why lives in the ledger, a
Delta table. Importing this package does not import MLflow.
"""

from mlops_assets.registry.candidate_log import LoggedCandidate
from mlops_assets.registry.errors import ModelNotFoundError, PromotionError, RegistryError
from mlops_assets.registry.gate import Condition, Contender, Decision, decide
from mlops_assets.registry.ledger import LEDGER, Event, LedgerEntry
from mlops_assets.registry.names import Alias, ModelReference
from mlops_assets.registry.promotion import (
    Outcome,
    judge,
    promote,
    promote_by_hand,
    roll_back,
    set_challenger,
)
from mlops_assets.registry.provenance import Provenance, collect_provenance
from mlops_assets.registry.registry import ModelVersion, Registry

__all__ = [
    "LEDGER",
    "Alias",
    "Condition",
    "Contender",
    "Decision",
    "Event",
    "LedgerEntry",
    "LoggedCandidate",
    "ModelNotFoundError",
    "ModelReference",
    "ModelVersion",
    "Outcome",
    "PromotionError",
    "Provenance",
    "Registry",
    "RegistryError",
    "collect_provenance",
    "decide",
    "judge",
    "promote",
    "promote_by_hand",
    "roll_back",
    "set_challenger",
]
