"""Comparing the candidates that MLflow holds for one training set."""

from typing import TYPE_CHECKING

from mlops_assets.lake import TableVersion
from mlops_assets.orchestration.platform import Platform
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlops_assets.registry import LoggedCandidate
    from mlops_assets.training.report import Comparison


class CandidatesMissingError(RuntimeError):
    """A declared candidate has not been trained on the training set that is to be compared."""


def logged_candidates(
    platform: Platform, family: ModelFamily, training_set: TableVersion
) -> "dict[str, LoggedCandidate]":
    """Return the newest run of each declared candidate on one training set, in declared order.

    Raises
    ------
    CandidatesMissingError
        Naming those that have none.
    """
    found = {
        logged.name: logged
        for logged in platform.registry.candidates(family.name, training_set)
    }
    if missing := [c.name for c in family.candidates if c.name not in found]:
        raise CandidatesMissingError(
            f"{family.name}: no run of {', '.join(missing)} on {training_set}; materialise "
            + ", ".join(f"{family.name}/{name}" for name in missing)
        )
    return {candidate.name: found[candidate.name] for candidate in family.candidates}


def chosen_candidate(
    platform: Platform, family: ModelFamily, training_set: TableVersion
) -> "LoggedCandidate":
    """Return the best candidate by the primary metric on validation, as it was logged."""
    from mlops_assets.training.metrics import metric_named

    metric = metric_named(family.primary_metric)
    logged = logged_candidates(platform, family, training_set)
    sign = 1 if metric.greater_is_better else -1
    return max(logged.values(), key=lambda c: sign * c.metrics[f"validation_{metric.name}"])


def compare_candidates(
    platform: Platform, family: ModelFamily, training_set: TableVersion
) -> "tuple[Comparison, LoggedCandidate]":
    """Evaluate and explain every candidate on the same rows, and choose one on validation."""
    raise NotImplementedError
