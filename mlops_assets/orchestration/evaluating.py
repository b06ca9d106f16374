"""Comparing the candidates that MLflow holds for one training set."""

from typing import TYPE_CHECKING

from mlops_assets.lake import TableVersion
from mlops_assets.orchestration.platform import Platform
from mlops_assets.training.family import ModelFamily
from mlops_assets.transform.project import project_at

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
        logged.name: logged for logged in platform.registry.candidates(family.name, training_set)
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
    """Evaluate and explain every candidate on the same rows, and choose one on validation.

    Returns
    -------
    tuple
        What the report shows, and the chosen candidate as MLflow holds it.
    """
    from mlops_assets.registry import collect_provenance
    from mlops_assets.training.candidate import resampling_for, train_baseline
    from mlops_assets.training.dataset import load_parts
    from mlops_assets.training.evaluation import choose_challenger, evaluate
    from mlops_assets.training.report import Comparison, enter
    from mlops_assets.training.training_set import published_training_set

    settings = platform.settings
    logged = logged_candidates(platform, family, training_set)
    parts = load_parts(platform.lake, training_set, family)
    entrants = [
        enter(name, run.algorithm, platform.registry.load(run), parts, family, seed=settings.seed)
        for name, run in logged.items()
    ]
    chosen = choose_challenger(family, {entrant.name: entrant.validation for entrant in entrants})
    baseline = evaluate(
        parts["test"],
        train_baseline(family, parts).predict(parts["test"].features),
        family,
        resampling_for(family, settings.seed),
    )
    provenance = collect_provenance(
        settings.project_root, project_at(settings.dbt_project_dir).manifest_path
    )
    comparison = Comparison(
        family=family,
        training_set=published_training_set(platform.lake, training_set),
        entrants=tuple(entrants),
        chosen=chosen,
        baseline=baseline,
        facts={
            "git commit": provenance.git_commit,
            "lockfile": provenance.lockfile_sha256,
            "dbt manifest": provenance.dbt_manifest_sha256,
            "MLflow run": logged[chosen].run_id,
            "seed": str(settings.seed if family.seed is None else family.seed),
        },
    )
    return comparison, logged[chosen]
