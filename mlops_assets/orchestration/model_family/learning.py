"""From tables to trained models: training set, search of parameters, candidates."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.features import FeatureRegistry, column_lineage
from mlops_assets.lake import TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.model_family.steps import (
    family_step,
    hash_of,
    hash_text,
    key_of,
    newest_training_set,
    platform_of,
    search_key,
    spec_of,
    training_set_key,
)
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.training.training_set import (
    build_training_set,
    input_tables,
    select_features,
)
from mlops_assets.training.training_set_relations import TrainingSetError

if TYPE_CHECKING:
    from mlops_assets.training.estimators import Progress

_SECONDS_BETWEEN_LINES = 10.0


def training_set(family: ModelFamily, views: FeatureRegistry) -> dg.AssetsDefinition:
    """Give the asset of the family's training set."""
    table = family.training_set
    spec = spec_of(
        family,
        training_set_key(family),
        f"Training set of {family.name}: spine, label and features as they were known at the time "
        "of each prediction, split by time.",
        deps=[asset_metadata.asset_key(name) for name in input_tables(family, views)],
        kinds={"duckdb", "delta"},
        metadata={"dagster/table_name": str(table)},
        code_version=hash_of(family, "task", "spine", "label", "features", "split"),
    )
    says = (
        "Every part of the split has rows and labels to learn from, no entity stands in it twice, "
        "and no label was known too late for its part."
    )

    @family_step(family, [spec], {spec.key: {"audit": (says, True)}})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        platform = platform_of(context)
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

    return step


def search(family: ModelFamily, declaration: CandidateDeclaration) -> dg.AssetsDefinition:
    """Give the asset of the search of a candidate's parameters."""
    table = TableName("tuning", family.name)
    spec = spec_of(
        family,
        search_key(family, declaration.name),
        f"Search of the parameters of {declaration.name}: trials on train and validation, kept in "
        f"a study that goes on where it stopped, and as rows of {table}.",
        deps=[training_set_key(family)],
        kinds={"optuna", "mlflow", "delta"},
        metadata={"dagster/table_name": str(table)},
        code_version=hash_text(declaration.model_dump_json()),
    )

    @family_step(family, [spec], {})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.studies import run_search
        from mlops_assets.training.tuning import TuningError
        from mlops_assets.training.tuning.pictures import search_pictures

        platform = platform_of(context)
        version = newest_training_set(platform, family)
        try:
            found = run_search(
                platform, family, declaration, version, _told(context), context.log.info
            )
        except TuningError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        commit = platform.lake.version(table)
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                **asset_metadata.table_metadata(platform.lake, table, commit),
                "study": found.study,
                "best_value": found.best_value,
                "declared_value": found.declared_value,
                "trials": len(found.trials),
                **{f"trials_{state.value}": number for state, number in found.counts.items()},
                "ended_by": found.ended_by,
                "seconds": found.seconds,
                "best_parameters": asset_metadata.records_table(
                    {"parameter": name, "value": value}
                    for name, value in found.best_parameters.items()
                ),
                **{
                    name: asset_metadata.picture(png, f"{name} of {found.study}")
                    for name, png in search_pictures(found).items()
                },
            },
            data_version=dg.DataVersion(f"{found.study}:{len(found.trials)}"),
        )

    return step


def candidate(family: ModelFamily, declaration: CandidateDeclaration) -> dg.AssetsDefinition:
    """Give the asset of one trained candidate."""
    from mlops_assets.training.candidate import ENSEMBLE

    name = declaration.name
    members = family.members(declaration) if declaration.algorithm == ENSEMBLE else ()
    spec = spec_of(
        family,
        key_of(family, name),
        f"The {name} candidate of {family.name}: trained, evaluated on validation and test, and "
        "logged to MLflow.",
        deps=[
            training_set_key(family),
            *([search_key(family, name)] if declaration.search else []),
            *(key_of(family, member) for member in members),
        ],
        kinds={declaration.algorithm if ":" not in declaration.algorithm else "python", "mlflow"},
        code_version=hash_text(declaration.model_dump_json()),
    )
    says = "No feature gives the label away: the model does not know validation all but perfectly."

    @family_step(family, [spec], {spec.key: {"no_leak": (says, True)}})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.training import train_declared
        from mlops_assets.training.candidate import TrainingError
        from mlops_assets.training.estimators import EstimatorError

        platform = platform_of(context)
        version = newest_training_set(platform, family)
        try:
            logged, study = train_declared(platform, family, declaration, version, _told(context))
        except EstimatorError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        except TrainingError as error:
            yield dg.AssetCheckResult(
                asset_key=spec.key, check_name="no_leak", passed=False, description=str(error)
            )
            raise dg.Failure(str(error), allow_retries=False) from error
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                **logged.metrics,
                "training_set": str(version),
                "mlflow_run": logged.run_id,
                **({"study": study} if study else {}),
            },
            data_version=dg.DataVersion(logged.model_id),
        )
        yield dg.AssetCheckResult(asset_key=spec.key, check_name="no_leak", passed=True)

    return step


def _told(context: dg.AssetExecutionContext) -> "Progress":
    """Say in the step's log how a fit goes, now and then."""
    last = monotonic()

    def tell(iteration: int, most: int, losses: Mapping[str, float]) -> None:
        nonlocal last
        if monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = monotonic()
            shown = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            context.log.info("iteration %d of at most %d: %s", iteration, most, shown)

    return tell
