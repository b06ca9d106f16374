"""Explaining a registered version: its tables, its chapter of the report, its model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import TableName, TableVersion
from mlops_assets.production.comparing import (
    compare_candidates,
    evaluate_baseline,
    report_path,
)
from mlops_assets.production.platform import Platform
from mlops_assets.production.studies import found_search
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.training_set import published_training_set, select_features
from mlops_assets.transform.project import DbtProject, project_at

if TYPE_CHECKING:
    from mlops_assets.registry import ModelVersion
    from mlops_assets.training.dataset import Part
    from mlops_assets.training.estimators import Estimator
    from mlops_assets.training.evaluation import Evaluation
    from mlops_assets.training.explaining import ModelExplanation


@dataclass(frozen=True)
class Explained:
    """A version and everything that was found out about it.

    Attributes
    ----------
    estimator, parts, evaluations
        The model, the training set it learnt from, and how it does, by part.
    baseline
        How the trivial model does on test.
    explanation
        What moves its answers.
    tables
        Where that is in the lake.
    """

    estimator: "Estimator"
    parts: "Mapping[str, Part]"
    evaluations: "Mapping[str, Evaluation]"
    baseline: "Evaluation"
    explanation: "ModelExplanation"
    tables: tuple[TableVersion, ...]

    @property
    def additivity_error(self) -> float:
        """Largest gap between what a row's contributions add up to and the model's raw answer."""
        return self.explanation.attribution.additivity_error


def explain(
    platform: Platform, family: ModelFamily, views: FeatureRegistry, version: "ModelVersion"
) -> Explained:
    """Explain a version on the test part of its training set, and write that into the lake.

    Raises
    ------
    AdditivityError
        When contributions do not add up.
    """
    from mlops_assets.registry.evaluations import evaluations_of
    from mlops_assets.training.dataset import load_parts
    from mlops_assets.training.explaining import (
        TABLES,
        explain_model,
        features_by_view,
        write_explanation,
    )

    registry = platform.registry
    estimator = registry.load(version)
    parts = load_parts(platform.lake, version.training_set, family, schema=estimator.schema)
    evaluations = evaluations_of(registry.client, version.run_id)
    explanation = explain_model(
        estimator,
        parts["test"],
        family,
        evaluations["test"],
        views=features_by_view(select_features(family, views)),
    )
    write_explanation(
        platform.lake,
        explanation,
        run_id=version.run_id,
        candidate=version.candidate,
        training_set=version.training_set,
    )
    tables = tuple(
        TableVersion(table.name, platform.lake.version(table.name))
        for table in TABLES
        if platform.lake.exists(table.name)
    )
    return Explained(
        estimator=estimator,
        parts=parts,
        evaluations=evaluations,
        baseline=evaluate_baseline(platform, family, parts),
        explanation=explanation,
        tables=tables,
    )


def add_to_report(
    platform: Platform, family: ModelFamily, version: "ModelVersion", explained: Explained
) -> Path | None:
    """Write the evaluation report again, with the explanation of the candidate that was chosen.

    Returns
    -------
    Path or None
        The report; None where the family has chosen another candidate since, whose evaluation
        writes a report of its own.
    """
    from mlops_assets.training.report import write_report

    comparison, chosen = compare_candidates(platform, family, version.training_set, explained)
    if chosen.run_id != version.run_id:
        return None
    report = write_report(comparison, report_path(platform, family))
    platform.registry.attach(version.run_id, report)
    return report


def describe(
    platform: Platform,
    family: ModelFamily,
    views: FeatureRegistry,
    version: "ModelVersion",
    explained: Explained,
) -> Path:
    """Write the model card of a version, keep it with its run, and return the HTML file.

    Raises
    ------
    CardIncompleteError
        Naming every section that would be empty.
    """
    from mlops_assets.registry.card import attach_card, build_card, write_card
    from mlops_assets.registry.recipe import Recipe

    registry, parts = platform.registry, explained.parts
    recipe = Recipe.of_run(registry.client, version.run_id)
    card = build_card(
        registry,
        version,
        estimator=explained.estimator,
        training_set=published_training_set(platform.lake, version.training_set),
        selections=select_features(family, views),
        validation=explained.evaluations["validation"],
        test=explained.evaluations["test"],
        baseline=explained.baseline,
        explanation=explained.explanation,
        search=(
            found_search(platform, family, recipe.candidate, parts, recipe.study)
            if recipe.study
            else None
        ),
        sources=raw_tables(project_at(platform.settings.dbt_project_dir)),
    )
    attach_card(registry, card)
    return write_card(card, card_folder(platform, version))[0]


def card_folder(platform: Platform, version: "ModelVersion") -> Path:
    """Return where the card of a version is for people to open; its run keeps one as well."""
    return platform.settings.home / "reports" / f"{version.family}-{version.version}"


def raw_tables(project: DbtProject) -> dict[TableName, tuple[str, ...]]:
    """Return, for each table that dbt makes, the tables outside dbt that it comes from."""
    parents = {model.table: model.upstream for model in project.models.values()}
    found: dict[TableName, tuple[str, ...]] = {}

    def sources(table: TableName) -> tuple[str, ...]:
        if table not in parents:
            return (str(table),)
        if table not in found:
            found[table] = tuple(
                sorted({name for parent in parents[table] for name in sources(parent)})
            )
        return found[table]

    return {table: sources(table) for table in parents}
