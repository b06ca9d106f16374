"""The champion's answers for whole days, as a daily-partitioned asset."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_assets.features import FeatureRegistry, column_lineage
from mlops_assets.lake import TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.daily import Days, window_of
from mlops_assets.orchestration.loop import LOOP_TAGS
from mlops_assets.orchestration.model_family.steps import (
    family_step,
    hash_of,
    key_of,
    platform_of,
    spec_of,
)
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.training_set import select_features

_SCHEMA = "predictions"
_CODE_VERSION = "1"
_ONCE = "every_row_once"
_WITH_FEATURES = "made_with_features"


def predictions_key(family: ModelFamily) -> dg.AssetKey:
    """Return the asset of a family's predictions."""
    return dg.AssetKey([_SCHEMA, family.name])


def predictions(family: ModelFamily, views: FeatureRegistry, days: Days) -> dg.AssetsDefinition:
    """Give the asset of what the champion says of every row of the spine, day by day."""
    selections = select_features(family, views)
    read = dict.fromkeys(
        (TableName.parse(family.spine.table), *(selection.view.table for selection in selections))
    )
    spec = spec_of(
        family,
        predictions_key(family),
        f"What the champion of {family.name} says of every row that the spine has for a day, from "
        "features as they were known at each prediction time; in the columns of the inference log.",
        fail_after=family.monitoring.fail_after,
        deps=[*map(asset_metadata.asset_key, read), key_of(family, "champion")],
        kinds={"duckdb", "delta"},
        partitions_def=days.partitions(),
        code_version=f"{_CODE_VERSION}-{hash_of(family, 'spine', 'features')}",
        metadata={"dagster/table_name": f"{_SCHEMA}/{family.name}"},
        tags=LOOP_TAGS,
    )
    once = "Every row of the spine was answered, and none of them twice."
    bare = "No prediction was made with every feature missing."

    @family_step(family, [spec], {spec.key: {_ONCE: (once, True), _WITH_FEATURES: (bare, False)}})
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.production.errors import NoChampionError
        from mlops_assets.production.evaluating import serving_champion
        from mlops_assets.serving.batch_scoring import published_days, score_days

        platform = platform_of(context)
        lake = platform.lake
        try:
            version = serving_champion(platform.registry, family)
        except NoChampionError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        estimator = platform.registry.load(version)
        scored = score_days(
            lake,
            family,
            views,
            estimator,
            version,
            window_of(context),
            metadata={"dagster_run": context.run.run_id},
        )
        table, number = scored.predictions.table, scored.predictions.version
        found = published_days(lake, family, views, estimator, scored)
        asset_metadata.say_once(
            context,
            spec.key,
            {
                "dagster/column_schema": asset_metadata.column_schema(
                    asset_metadata.arrow_columns(lake.schema(table, number))
                ),
                "dagster/column_lineage": asset_metadata.column_lineage(column_lineage(selections)),
                "made_from": asset_metadata.records_table(
                    {"table": str(used.table), "version": used.version} for used in scored.inputs
                ),
                "examples": asset_metadata.records_table(found.examples) or "no row",
            },
        )
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                **asset_metadata.table_metadata(lake, table, number),
                "model": str(version),
                "rows_scored": scored.rows,
                "seconds": round(scored.seconds, 3),
            },
            data_version=dg.DataVersion(str(number)),
        )
        repeated = ", ".join(found.repeated)
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name=_ONCE,
            passed=found.rows == scored.rows and not found.repeated,
            description=f"{scored.rows:,} rows of the spine, {found.rows:,} predictions"
            + (f"; more than once: {repeated}" if repeated else ""),
            metadata={"rows": scored.rows, "predictions": found.rows},
        )
        yield dg.AssetCheckResult(
            asset_key=spec.key,
            check_name=_WITH_FEATURES,
            passed=not found.without_features,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{found.without_features:,} of {found.rows:,} predictions were made "
            "without any feature",
            metadata={"without_features": found.without_features},
        )

    return step
