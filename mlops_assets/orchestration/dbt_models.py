"""The component that makes every dbt model an asset, and every dbt test an asset check.

dagster-dbt says what the assets are (keys, dependencies, checks); the building, testing and
publishing is `mlops_assets.transform.build`, in this process, because a dbt of its own costs six
seconds for every step.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings
from pydantic import Field

from mlops_assets.declaration import Declared
from mlops_assets.lake import TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.daily import Days, looking_back, run_window
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.transform.build import DbtBuild, DbtTestOutcome, ModelOutcome, ModelStatus, build
from mlops_assets.transform.column_lineage import column_lineage
from mlops_assets.transform.project import DbtModel, DbtProject, project_at


class DbtModelsDeclaration(Declared):
    """Attributes of `DbtModels` in a ``defs.yaml``."""

    project: str = Field(
        default="dbt_project", description="Folder of the dbt project, from the project root."
    )
    daily: Days = Field(description="The days that windowed models are partitioned by.")
    fail_after: timedelta = Field(
        default=timedelta(days=2),
        description="Age of the last materialisation at which a model's table counts as stale.",
        examples=["P2D"],
    )


class DbtModels(DeclaredComponent[DbtModelsDeclaration]):
    """All models of a dbt project as assets, built over the lake and published to it.

    A model that is materialised ``windowed`` becomes a daily-partitioned asset; a range of days is
    one run. ``meta.lookback_days`` says how many earlier days of its upstream a day depends on.
    """

    declared_by = DbtModelsDeclaration

    def daily_tables(self, project_root: Path) -> Mapping[TableName, Days]:
        """Return the tables of windowed models."""
        models = project_at(project_root / self.declaration.project).models.values()
        return {model.table: self.declaration.daily for model in models if model.window_column}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give one asset definition for each run of models that dbt can build in one go."""
        project = project_at(Path(context.project_root) / self.declaration.project)
        translator = LakeTranslator(project, self.declaration.daily)
        freshness = dg.FreshnessPolicy.time_window(fail_window=self.declaration.fail_after)
        return dg.Definitions(
            assets=[
                _dbt_step(project, translator, freshness, f"dbt_{number}_{kind}", models)
                for number, (kind, models) in enumerate(_steps(project), start=1)
            ]
        )


class LakeTranslator(DagsterDbtTranslator):
    """Says what a dbt model is to Dagster: its lake table."""

    def __init__(self, project: DbtProject, days: Days) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_source_metadata=False))
        self._project = project
        self._days = days

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Take schema and name, which are those of the lake table."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Group by layer: staging, intermediate, marts, features."""
        return str(dbt_resource_props["schema"])

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Hash the SQL together with the macros and the declared columns."""
        unique_id = dbt_resource_props["unique_id"]
        if unique_id not in self._project.models:
            return None
        return self._project.code_version(unique_id)

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str] | None:
        """Read the owner from the model's ``meta.owner``."""
        owner = dbt_resource_props.get("config", {}).get("meta", {}).get("owner")
        return [owner] if owner else None

    def get_partitions_def(
        self, dbt_resource_props: Mapping[str, Any]
    ) -> dg.PartitionsDefinition | None:
        """Windowed models are partitioned by day."""
        model = self._project.models.get(dbt_resource_props["unique_id"])
        return self._days.partitions() if model and model.window_column else None

    def get_partition_mapping(
        self,
        dbt_resource_props: Mapping[str, Any],
        dbt_parent_resource_props: Mapping[str, Any],
    ) -> dg.PartitionMapping | None:
        """Let a model with ``lookback_days`` depend on that many earlier days."""
        del dbt_parent_resource_props
        model = self._project.models.get(dbt_resource_props["unique_id"])
        if model is None or not model.window_column:
            return None
        lookback = int(model.meta.get("lookback_days", 0))
        return looking_back(lookback) if lookback else None


def _steps(project: DbtProject) -> Iterator[tuple[str, list[DbtModel]]]:
    """Split the models into few runs of dbt, each of models that Dagster can hold in one step.

    Assets of one step share their partitions, and the days of a table that they depend on. So
    models of one kind go together: whole tables, daily ones, daily ones that look back so many
    days. A step takes all models of its kind whose parents are in earlier steps or in the step.
    """
    waiting = {model.table: model for model in project.models.values()}
    while waiting:
        batches = {kind: _ready(waiting, kind) for kind in map(_kind, waiting.values())}
        kind, batch = max(batches.items(), key=lambda item: (len(item[1]), item[0]))
        for model in batch:
            del waiting[model.table]
        yield kind, batch


def _kind(model: DbtModel) -> str:
    if not model.window_column:
        return "whole"
    lookback = model.meta.get("lookback_days", 0)
    return f"daily_{lookback}_days_back" if lookback else "daily"


def _ready(waiting: Mapping[TableName, DbtModel], kind: str) -> list[DbtModel]:
    """Return the waiting models of a kind that need no waiting model of another kind."""
    batch = {table: model for table, model in waiting.items() if _kind(model) == kind}
    while True:
        blocked = [
            table
            for table, model in batch.items()
            if any(parent in waiting and parent not in batch for parent in model.upstream)
        ]
        if not blocked:
            return list(batch.values())
        for table in blocked:
            del batch[table]


def _dbt_step(
    project: DbtProject,
    translator: LakeTranslator,
    freshness: dg.FreshnessPolicy,
    name: str,
    models: list[DbtModel],
) -> dg.AssetsDefinition:
    manifest = project.manifest
    specs = {
        model.unique_id: translator.get_asset_spec(manifest, model.unique_id, None)
        .replace_attributes(freshness_policy=freshness, skippable=True)
        # dagster-dbt names the table in dbt's scratch database; people look for the lake's.
        .merge_attributes(
            kinds={"dbt", "duckdb", "delta"}, metadata={"dagster/table_name": str(model.table)}
        )
        for model in models
    }
    tests = [
        unique_id
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "test"
    ]
    check_specs: dict[str, dg.AssetCheckSpec] = {}
    for spec in specs.values():
        for test in tests:
            check = translator.get_asset_check_spec(spec, manifest, test, None)
            if check is not None:
                check_specs[test] = check

    @dg.multi_asset(
        name=name,
        specs=list(specs.values()),
        check_specs=list(check_specs.values()),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={RESOURCE_KEY},
    )
    def dbt_step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        chosen = [m for m in models if specs[m.unique_id].key in context.selected_asset_keys]
        outcome = build(
            platform.lake,
            project,
            [model.name for model in chosen],
            window=run_window(context),
            metadata={"dagster_run": context.run.run_id},
            on_event=context.log.info,
        )
        yield from _events(context, platform, project, outcome, check_specs)
        if not outcome.ok:
            raise dg.Failure(
                "Some dbt models were not published; their last good versions stay.\n"
                + outcome.failure_report()
            )

    return dbt_step


def _events(
    context: dg.AssetExecutionContext,
    platform: Platform,
    project: DbtProject,
    outcome: DbtBuild,
    check_specs: Mapping[str, dg.AssetCheckSpec],
) -> Iterator[Any]:
    """Report the published models first, so that the checks attach to these materialisations."""
    for model in outcome.models:
        if model.status is ModelStatus.published:
            yield _materialization(context, platform, project, model)
    selected_checks = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
    for test in outcome.tests:
        spec = check_specs.get(test.unique_id)
        if spec is not None and not test.skipped and (spec.asset_key, spec.name) in selected_checks:
            yield _check_result(test, spec)


def _materialization(
    context: dg.AssetExecutionContext,
    platform: Platform,
    project: DbtProject,
    outcome: ModelOutcome,
) -> dg.MaterializeResult[None]:
    if outcome.commit is None:
        raise ValueError(f"{outcome.model.table} was published without a commit")
    origins = column_lineage(platform.lake, project, outcome.model.unique_id, outcome.compiled_sql)
    key = asset_metadata.asset_key(outcome.model.table)
    lineage = asset_metadata.column_lineage(
        {
            column: [(origin.table, origin.column) for origin in found]
            for column, found in origins.items()
        }
    )
    asset_metadata.say_once(context, key, {"dagster/column_lineage": lineage})
    return dg.MaterializeResult(
        asset_key=key,
        metadata={
            **asset_metadata.table_metadata(
                platform.lake, outcome.model.table, outcome.commit.version
            ),
            "rows_built": outcome.rows,
            "seconds": round(outcome.seconds, 3),
        },
        data_version=dg.DataVersion(str(outcome.commit.version)),
    )


def _check_result(test: DbtTestOutcome, spec: dg.AssetCheckSpec) -> dg.AssetCheckResult:
    samples = asset_metadata.records_table(test.samples)
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=test.passed,
        severity=dg.AssetCheckSeverity.WARN if test.is_warning else dg.AssetCheckSeverity.ERROR,
        description=test.message or None,
        metadata={
            "failing_rows": test.failures if test.failures is not None else "not computed",
            **({"samples": samples} if samples else {}),
        },
    )
