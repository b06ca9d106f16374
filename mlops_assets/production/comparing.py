"""Comparing the candidates that MLflow holds for one training set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.lake import TableVersion
from mlops_assets.production.platform import Platform
from mlops_assets.production.studies import found_search
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.transform.project import project_at

if TYPE_CHECKING:
    from mlops_assets.production.documenting import Explained
    from mlops_assets.registry import LoggedCandidate
    from mlops_assets.training.candidate import Member
    from mlops_assets.training.dataset import Part
    from mlops_assets.training.evaluation import Evaluation
    from mlops_assets.training.report import Comparison
    from mlops_assets.training.tuning import SearchResult


class CandidatesMissingError(RuntimeError):
    """A declared candidate has not been trained on the training set that is to be compared."""


def logged_candidates(
    platform: Platform,
    family: ModelFamily,
    training_set: TableVersion,
    names: Sequence[str] | None = None,
) -> "dict[str, LoggedCandidate]":
    """Return the newest run of candidates on one training set.

    Parameters
    ----------
    platform, family, training_set
        Where, whose, and on what.
    names
        Which candidates. Default: all that are declared, in that order.

    Raises
    ------
    CandidatesMissingError
        Naming those that have none.
    """
    found = {
        logged.name: logged for logged in platform.registry.candidates(family.name, training_set)
    }
    wanted = [candidate.name for candidate in family.candidates] if names is None else names
    if missing := [name for name in wanted if name not in found]:
        raise CandidatesMissingError(
            f"{family.name}: no run of {', '.join(missing)} on {training_set}; materialise "
            + ", ".join(f"{family.name}/{name}" for name in missing)
        )
    return {name: found[name] for name in wanted}


def chosen_candidate(
    platform: Platform, family: ModelFamily, training_set: TableVersion
) -> "LoggedCandidate":
    """Return the best candidate by the primary metric on validation, as it was logged."""
    from mlops_assets.training.tasks import declared_task

    metric = declared_task(family).metric(family.primary_metric)
    logged = logged_candidates(platform, family, training_set)
    return max(logged.values(), key=lambda c: metric.sign * c.metrics[f"validation_{metric.name}"])


def members_of(
    platform: Platform,
    family: ModelFamily,
    declaration: CandidateDeclaration,
    training_set: TableVersion,
) -> "dict[str, Member]":
    """Return the trained candidates that an ensemble combines; none for any other algorithm.

    Raises
    ------
    CandidatesMissingError
        Naming those that are not trained on this training set.
    """
    from mlops_assets.registry.evaluations import evaluations_of
    from mlops_assets.training.candidate import ENSEMBLE, Member

    if declaration.algorithm != ENSEMBLE:
        return {}
    registry = platform.registry
    found = logged_candidates(platform, family, training_set, family.members(declaration))
    return {
        name: Member(
            registry.load(logged),
            evaluations_of(registry.client, logged.run_id)["validation"].answers,
            logged.run_id,
        )
        for name, logged in found.items()
    }


def report_path(platform: Platform, family: ModelFamily) -> Path:
    """Return where the evaluation report of a family is for people to open."""
    return platform.settings.home / "reports" / f"{family.name}.html"


def evaluate_baseline(
    platform: Platform, family: ModelFamily, parts: "Mapping[str, Part]"
) -> "Evaluation":
    """Say how the trivial model does on test."""
    from mlops_assets.training.candidate import resampling_for, train_baseline
    from mlops_assets.training.evaluation import evaluate

    test = parts["test"]
    answers = train_baseline(family, parts).predict(test.features)
    return evaluate(test, answers, family, resampling_for(family, platform.settings.seed))


def compare_candidates(
    platform: Platform,
    family: ModelFamily,
    training_set: TableVersion,
    explained: "Explained | None" = None,
) -> "tuple[Comparison, LoggedCandidate]":
    """Put the candidates side by side as their runs say they do, and choose one on validation.

    Parameters
    ----------
    platform, family, training_set
        Where, whose, and on what.
    explained
        What was found out about the chosen one since; nothing that it knows is computed again.

    Returns
    -------
    tuple
        What the report shows, and the chosen candidate as MLflow holds it.
    """
    from mlops_assets.registry import collect_provenance
    from mlops_assets.registry.evaluations import evaluations_of
    from mlops_assets.training.dataset import load_parts
    from mlops_assets.training.evaluation import choose_challenger
    from mlops_assets.training.report import Comparison, Entrant
    from mlops_assets.training.training_set import published_training_set

    settings, registry = platform.settings, platform.registry
    logged = logged_candidates(platform, family, training_set)
    evaluations = {
        name: evaluations_of(registry.client, run.run_id) for name, run in logged.items()
    }
    chosen = choose_challenger(
        family, {name: found["validation"] for name, found in evaluations.items()}
    )
    parts = explained.parts if explained else load_parts(platform.lake, training_set, family)
    baseline = explained.baseline if explained else evaluate_baseline(platform, family, parts)
    entrants = [
        Entrant.of(name, run.algorithm, registry.load(run), evaluations[name])
        for name, run in logged.items()
    ]
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
            "seed": str(baseline.resampling.seed),
        },
        searches=_searches(platform, family, parts, logged),
        explanation=explained.explanation if explained else None,
    )
    return comparison, logged[chosen]


def _searches(
    platform: Platform,
    family: ModelFamily,
    parts: "Mapping[str, Part]",
    logged: "Mapping[str, LoggedCandidate]",
) -> "dict[str, SearchResult]":
    """Return the searches that the candidates' parameters came from, by candidate."""
    from mlops_assets.registry.recipe import Recipe

    found: dict[str, SearchResult] = {}
    for declared in family.candidates:
        if declared.search is not None:
            study = Recipe.of_run(platform.registry.client, logged[declared.name].run_id).study
            found[declared.name] = found_search(platform, family, declared, parts, study)
    return found
