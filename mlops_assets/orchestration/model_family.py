"""The component that turns a declared model family into assets.

From one declaration come, in a group of their own: the training set, one asset for each candidate,
the evaluation that compares them, the challenger, and the champion that the gate let through.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.features import FeatureRegistry, column_lineage
from mlops_assets.lake import TableVersion
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.training.training_set import (
    TrainingSetError,
    build_training_set,
    input_tables,
    published_training_set,
    select_features,
)
from mlops_assets.transform.project import project_at

_FRESH_FOR = timedelta(days=30)
_PROGRESS_EVERY = 100


class ModelFamilyAssets(DeclaredComponent[ModelFamily]):
    """A model family: training set, candidates, evaluation, challenger, champion."""

    declared_by = ModelFamily

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the family's assets and checks."""
        project = project_at(Path(context.project_root) / "dbt_project")
        views = FeatureRegistry.from_manifest(project.manifest)
        family = self.declaration
        return dg.Definitions(
            assets=[
                _training_set(family, views),
                *(_candidate(family, candidate) for candidate in family.candidates),
                _evaluation(family),
                _challenger(family),
                _champion(family),
            ]
        )


def _training_set_key(family: ModelFamily) -> dg.AssetKey:
    return asset_metadata.asset_key(family.training_set)


def _candidate_key(family: ModelFamily, name: str) -> dg.AssetKey:
    return dg.AssetKey([family.name, name])


def _spec(
    family: ModelFamily, key: dg.AssetKey, description: str, **attributes: Any
) -> dg.AssetSpec:
    """Describe one asset of a family, with what all of them share."""
    return dg.AssetSpec(
        key=key,
        description=description,
        group_name=family.name,
        owners=list(family.owners),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=_FRESH_FOR),
        **attributes,
    )


def _asset(
    family: ModelFamily, spec: dg.AssetSpec, checks: Mapping[str, tuple[str, bool]]
) -> Callable[[Callable[..., Iterator[Any]]], dg.AssetsDefinition]:
    """Define an asset with its checks: name to description and whether it blocks."""
    return dg.multi_asset(
        name="__".join(spec.key.path),
        specs=[spec],
        check_specs=[
            dg.AssetCheckSpec(name, asset=spec.key, description=description, blocking=blocking)
            for name, (description, blocking) in checks.items()
        ],
        required_resource_keys={RESOURCE_KEY},
        op_tags={"mlops/family": family.name},
    )


def _hash(family: ModelFamily, *keys: str) -> str:
    """Hash the part of a declaration that an asset depends on."""
    return _hash_text(family.model_dump_json(include=set(keys)))


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _platform(context: dg.AssetExecutionContext) -> Platform:
    platform: Platform = getattr(context.resources, RESOURCE_KEY)
    return platform


def _newest_training_set(platform: Platform, family: ModelFamily) -> TableVersion:
    table = family.training_set
    return TableVersion(table, platform.lake.version(table))


def _training_set(family: ModelFamily, views: FeatureRegistry) -> dg.AssetsDefinition:
    table = family.training_set
    spec = _spec(
        family,
        _training_set_key(family),
        f"Training set of {family.name}: spine, label and features as they were known at the time "
        "of each prediction, split by time.",
        deps=[asset_metadata.asset_key(name) for name in input_tables(family, views)],
        kinds={"duckdb", "delta"},
        metadata={"dagster/table_name": str(table)},
        code_version=_hash(family, "spine", "label", "features", "split"),
    )

    @_asset(
        family,
        spec,
        {
            "audit": (
                (
                    "Every part of the split has rows and both classes, no entity stands in it "
                    "twice, and no label was known too late for its part."
                ),
                True,
            )
        },
    )
    def training_set(context: dg.AssetExecutionContext) -> Iterator[Any]:
        platform = _platform(context)
        try:
            built = build_training_set(platform.lake, family, views)
        except TrainingSetError as error:
            yield dg.AssetCheckResult(
                asset_key=spec.key, check_name="audit", passed=False, description=str(error)
            )
            raise dg.Failure(str(error), allow_retries=False) from error
        audit = built.audit
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                **asset_metadata.table_metadata(platform.lake, table, built.version.version),
                "dagster/column_schema": asset_metadata.column_schema(
                    asset_metadata.arrow_columns(platform.lake.schema(table))
                ),
                "dagster/column_lineage": asset_metadata.column_lineage(
                    column_lineage(select_features(family, views))
                ),
                "features": audit.features,
                "purged_rows": audit.purged,
                "unlabelled_rows": audit.unlabelled,
                "parts": asset_metadata.records_table(
                    {"part": name, **asdict(part)} for name, part in audit.parts.items()
                ),
                "made_from": asset_metadata.records_table(
                    {"table": str(used.table), "version": used.version} for used in built.inputs
                ),
            },
            data_version=dg.DataVersion(str(built.version.version)),
        )
        findings = asset_metadata.records_table(asdict(finding) for finding in audit.findings)
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name="audit",
            passed=True,
            metadata={"useless_features": findings} if findings else {},
        )

    return training_set


def _candidate(family: ModelFamily, declaration: CandidateDeclaration) -> dg.AssetsDefinition:
    spec = _spec(
        family,
        _candidate_key(family, declaration.name),
        f"The {declaration.name} candidate of {family.name}: trained, evaluated on validation and "
        "test, and logged to MLflow.",
        deps=[_training_set_key(family)],
        kinds={declaration.algorithm if ":" not in declaration.algorithm else "python", "mlflow"},
        code_version=_hash_text(declaration.model_dump_json()),
    )

    @_asset(
        family,
        spec,
        {"no_leak": ("No feature gives the label away: validation AUC stays below 0.999.", True)},
    )
    def candidate(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.registry import collect_provenance
        from mlops_assets.training.candidate import TrainingError, train_candidate
        from mlops_assets.training.dataset import load_parts

        platform = _platform(context)
        settings = platform.settings
        training_set = _newest_training_set(platform, family)
        parts = load_parts(platform.lake, training_set, family)

        def tell(iteration: int, most: int, losses: Mapping[str, float]) -> None:
            if iteration % _PROGRESS_EVERY == 0:
                shown = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
                context.log.info("iteration %d of at most %d: %s", iteration, most, shown)

        try:
            trained = train_candidate(
                family,
                declaration,
                parts,
                training_set,
                seed=settings.seed,
                threads=settings.threads,
                progress=tell,
            )
        except TrainingError as error:
            yield dg.AssetCheckResult(
                asset_key=spec.key, check_name="no_leak", passed=False, description=str(error)
            )
            raise dg.Failure(str(error), allow_retries=False) from error
        logged = platform.registry.log_candidate(
            trained,
            family,
            parts["test"],
            published_training_set(platform.lake, training_set).inputs,
            collect_provenance(
                settings.project_root, project_at(settings.dbt_project_dir).manifest_path
            ),
        )
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                **logged.metrics,
                "training_set": str(training_set),
                "mlflow_run": logged.run_id,
            },
            data_version=dg.DataVersion(logged.model_id),
        )
        yield dg.AssetCheckResult(asset_key=spec.key, check_name="no_leak", passed=True)

    return candidate


def _evaluation(family: ModelFamily) -> dg.AssetsDefinition:
    spec = _spec(
        family,
        dg.AssetKey([family.name, "evaluation"]),
        f"The candidates of {family.name} side by side on untouched rows: metrics with intervals, "
        "slices, curves, explanations; one HTML report that works offline.",
        deps=[
            _training_set_key(family),
            *(_candidate_key(family, candidate.name) for candidate in family.candidates),
        ],
        kinds={"python", "html"},
        code_version=_hash(family, "candidates", "slices", "threshold"),
    )

    @_asset(
        family,
        spec,
        {"beats_baseline": ("The best candidate is better than the trivial baseline.", False)},
    )
    def evaluation(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.orchestration.evaluating import compare_candidates
        from mlops_assets.training.metrics import metric_named
        from mlops_assets.training.report import pictures_as_markdown, write_report

        platform = _platform(context)
        training_set = _newest_training_set(platform, family)
        comparison, chosen = compare_candidates(platform, family, training_set)
        report = platform.settings.home / "reports" / f"{family.name}.html"
        write_report(comparison, report)
        platform.registry.attach(chosen.run_id, report)
        best, metric = comparison.best.test, metric_named(family.primary_metric)
        baseline = comparison.baseline.value(metric.name)
        gain = best.value(metric.name) - baseline
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                "best_candidate": chosen.name,
                **best.numbers(),
                "report": dg.MetadataValue.path(str(report)),
                **{
                    name: dg.MetadataValue.md(text)
                    for name, text in pictures_as_markdown(comparison).items()
                },
            },
        )
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name="beats_baseline",
            passed=gain > 0 if metric.greater_is_better else gain < 0,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"baseline": baseline, "best": best.value(metric.name)},
        )

    return evaluation


def _challenger(family: ModelFamily) -> dg.AssetsDefinition:
    spec = _spec(
        family,
        dg.AssetKey([family.name, "challenger"]),
        f"The best candidate of {family.name} by {family.primary_metric} on validation, registered "
        "in MLflow with the versions of all its tables, waiting for the gate.",
        deps=[dg.AssetKey([family.name, "evaluation"])],
        kinds={"mlflow"},
    )

    @_asset(family, spec, {})
    def challenger(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.orchestration.evaluating import chosen_candidate
        from mlops_assets.registry import set_challenger

        platform = _platform(context)
        chosen = chosen_candidate(platform, family, _newest_training_set(platform, family))
        version = platform.registry.register(chosen, family)
        set_challenger(platform.registry, version)
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                "version": str(version),
                "candidate": chosen.name,
                "training_set": str(version.training_set),
                **chosen.metrics,
            },
            data_version=dg.DataVersion(str(version)),
        )

    return challenger


def _champion(family: ModelFamily) -> dg.AssetsDefinition:
    spec = _spec(
        family,
        dg.AssetKey([family.name, "champion"]),
        f"The version of {family.name} that serves. Only the gate lets a challenger replace it.",
        deps=[dg.AssetKey([family.name, "challenger"])],
        kinds={"mlflow"},
    )

    @_asset(
        family,
        spec,
        {"gate": ("The challenger is better than who served before, beyond chance.", False)},
    )
    def champion(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.registry import judge, promote

        platform = _platform(context)
        registry = platform.registry
        version = registry.find(f"{family.name}@challenger")
        decision = judge(registry, family, version, seed=platform.settings.seed)
        outcome = promote(
            registry, decision, actor=f"dagster run {context.run.run_id}", reason=decision.summary
        )
        serving = outcome.champion
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                "champion": str(serving) if serving else "nobody: no version passed the gate yet",
                "decision": decision.summary,
                "judged_on_rows": decision.rows,
                **(serving.metrics if serving else {}),
            },
            data_version=dg.DataVersion(str(serving) if serving else "none"),
        )
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name="gate",
            passed=decision.promote,
            severity=dg.AssetCheckSeverity.WARN,
            description=decision.summary,
            metadata={
                "conditions": asset_metadata.records_table(
                    asdict(condition) for condition in decision.conditions
                )
            },
        )

    return champion
