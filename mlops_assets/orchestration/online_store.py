"""The component that fills the online store: one asset a feature view, one a spine.

A fill replaces a view as a whole, so there are no partitions. The check that what was served is
what the lake says belongs here too; it stands on the table of the predictions that it reads.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from mlops_assets.declaration import Declared, Problem, unknown_name
from mlops_assets.features import FeatureRegistry, FeatureView, Selection
from mlops_assets.features.online import (
    FillProgress,
    OnlineStore,
    SkewReport,
    SpineTable,
    ViewState,
    fill,
    find_skew,
    open_online_store,
)
from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.model_family import ModelFamilyAssets
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.surroundings import DBT_FOLDER, Surroundings
from mlops_assets.registry.names import ModelReference
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.training_set import select_features
from mlops_assets.transform.project import project_at

GROUP = "online"
CHECK = "no_skew"
_SHOWN = 20  # features in the metadata of a check
_SAYS = "What was served from the online store is what the lake says was known at that moment."


class OnlineStoreDeclaration(Declared):
    """Attributes of `OnlineStoreAssets` in a ``defs.yaml``."""

    owners: tuple[str, ...] = Field(
        min_length=1, description="E-mail addresses, or teams as `team:name`."
    )
    views: tuple[str, ...] = Field(
        default=(),
        description="Feature views to store. Absent: every view that a declared family reads.",
        examples=[["fv_origin"]],
    )
    as_of: datetime | None = Field(
        default=None,
        description="Moment whose latest known values are stored, to replay the past. Absent: when "
        "the run begins.",
        examples=["2013-11-15T12:00:00Z"],
    )
    fail_after: timedelta = Field(
        default=timedelta(days=1),
        description="Age of the last fill at which a view counts as stale.",
        examples=["PT2H"],
    )
    schedule: str | None = Field(default=None, description="Cron line, in UTC, at which it fills.")
    skew_window: timedelta = Field(
        default=timedelta(days=7),
        gt=timedelta(0),
        description="How far back the predictions lie that are compared with the lake.",
        examples=["P7D"],
    )

    @field_validator("as_of")
    @classmethod
    def _is_an_instant(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("has no time zone; end it with Z for UTC")
        return value


class FillConfig(dg.Config):
    """What a single run may be told.

    Attributes
    ----------
    as_of
        ISO 8601 instant whose latest known values are stored; None: as it is declared.
    """

    as_of: str | None = None


class OnlineStoreAssets(DeclaredComponent[OnlineStoreDeclaration]):
    """The online store: latest feature values of every view, and the spines of all families.

    Each family's predictions that were made from it are compared with the lake, by the check
    ``no_skew`` on ``inference/<family>``.
    """

    declared_by = OnlineStoreDeclaration

    @classmethod
    def problems_of(cls, declaration: Any, around: Surroundings) -> Iterator[Problem]:
        """Say which feature views do not exist."""
        known = [view.name for view in around.views.views]
        wrong = {problem.model for problem in around.wrong_views}
        for place, name in enumerate(() if around.dbt_error else declaration.views):
            if name not in known and name not in wrong:
                yield Problem(("views", place), unknown_name(name, "feature view", known))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the assets, the checks, and the schedule where one is declared."""
        project = project_at(Path(context.project_root) / DBT_FOLDER)
        views = FeatureRegistry.from_manifest(project.manifest)
        families = [
            component.declaration
            for component in context.component_tree.get_all_components(ModelFamilyAssets)
        ]
        return self.build_defs_for(views, families)

    def build_defs_for(
        self, views: FeatureRegistry, families: Sequence[ModelFamily]
    ) -> dg.Definitions:
        """Give the same for the feature views there are and the families that are declared.

        Raises
        ------
        mlops_assets.features.UnknownFeatureError
            If a view does not exist.
        """
        chosen = _chosen_views(self.declaration, views, families)
        spines = tuple(dict.fromkeys(spine_of(family) for family in families))
        fills = _fills(self.declaration, chosen, spines)
        jobs, schedules = [], []
        if self.declaration.schedule:
            job = dg.define_asset_job(
                "fill_online_store",
                selection=dg.AssetSelection.groups(GROUP),
                description="Store the latest known feature values of every view.",
            )
            jobs.append(job)
            schedules.append(
                dg.ScheduleDefinition(
                    name="fill_online_store_on_schedule",
                    job=job,
                    cron_schedule=self.declaration.schedule,
                    execution_timezone="UTC",
                )
            )
        return dg.Definitions(
            assets=[fills] if chosen or spines else [],
            asset_checks=[
                _skew_check(family, views, self.declaration.skew_window) for family in families
            ],
            jobs=jobs,
            schedules=schedules,
        )


def spine_of(family: ModelFamily) -> SpineTable:
    """Return where the entities of a family are found by their keys."""
    spine = family.spine
    return SpineTable(
        TableName.parse(spine.table), spine.entity, spine.prediction_time, spine.filter
    )


def _chosen_views(
    declaration: OnlineStoreDeclaration, views: FeatureRegistry, families: Sequence[ModelFamily]
) -> tuple[FeatureView, ...]:
    if declaration.views:
        return tuple(views.view(name) for name in dict.fromkeys(declaration.views))
    read = (selection.view for family in families for selection in select_features(family, views))
    return tuple(dict.fromkeys(read))


def _fills(
    declaration: OnlineStoreDeclaration,
    views: Sequence[FeatureView],
    spines: Sequence[SpineTable],
) -> dg.AssetsDefinition:
    wanted: dict[dg.AssetKey, FeatureView | SpineTable] = {
        dg.AssetKey([GROUP, view.name]): view for view in views
    }
    for spine in spines:
        wanted[_spine_key(spine, spines)] = spine

    @dg.multi_asset(
        name="online_store",
        specs=[_spec(key, each, declaration) for key, each in wanted.items()],
        can_subset=True,
        required_resource_keys={RESOURCE_KEY},
    )
    def online_store(context: dg.AssetExecutionContext, config: FillConfig) -> Iterator[Any]:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        store = open_online_store(platform.settings)
        told = datetime.fromisoformat(config.as_of) if config.as_of else None
        as_of = told or declaration.as_of or datetime.now(UTC)
        try:
            for key in sorted(context.selected_asset_keys):
                yield _filled(context, platform.lake, store, key, wanted[key], as_of)
        finally:
            store.close()

    return online_store


def _spine_key(spine: SpineTable, spines: Sequence[SpineTable]) -> dg.AssetKey:
    """Name a spine after its table, and after its filter too where the table has several."""
    same = [other for other in spines if other.table == spine.table]
    name = f"{spine.table.schema}__{spine.table.name}"
    if len(same) > 1:
        name += f"__{hashlib.sha256(spine.name.encode()).hexdigest()[:8]}"
    return dg.AssetKey([GROUP, name])


def _spec(
    key: dg.AssetKey, wanted: FeatureView | SpineTable, declaration: OnlineStoreDeclaration
) -> dg.AssetSpec:
    if isinstance(wanted, FeatureView):
        description = f"Latest known values of {wanted.name}, by {', '.join(wanted.entity)}."
        declared: Mapping[str, Any] = wanted.to_dict()
    else:
        description = f"Rows of {wanted.name}: what an entity's key alone is completed by."
        declared = {"spine": wanted.name}
    code = json.dumps({**declared, "source": ""}, sort_keys=True)
    return dg.AssetSpec(
        key=key,
        description=description,
        deps=[asset_metadata.asset_key(wanted.table)],
        group_name=GROUP,
        owners=list(declaration.owners),
        kinds={"featurestore"},
        code_version=hashlib.sha256(code.encode()).hexdigest()[:16],
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=declaration.fail_after),
    )


def _filled(
    context: dg.AssetExecutionContext,
    lake: Lake,
    store: OnlineStore,
    key: dg.AssetKey,
    wanted: FeatureView | SpineTable,
    as_of: datetime,
) -> dg.MaterializeResult[None]:
    done: list[FillProgress] = []

    def tell(progress: FillProgress) -> None:
        if progress.state is not None:
            done.append(progress)

    [state] = fill(lake, store, [wanted], as_of, on_progress=tell)
    [last] = done
    context.log.info(
        "%s: %d rows of %s in %.1f s", state.layout.name, state.rows, state.source, last.seconds
    )
    return dg.MaterializeResult(
        asset_key=key,
        metadata={**_state_metadata(state, store.place), "seconds": round(last.seconds, 3)},
        data_version=dg.DataVersion(f"{state.source.version}@{as_of.isoformat()}"),
    )


def _state_metadata(state: ViewState, place: str) -> dict[str, Any]:
    return {
        "dagster/row_count": state.rows,
        "as_of": dg.MetadataValue.timestamp(state.as_of),
        "table": str(state.source.table),
        "delta_version": state.source.version,
        "store": place,
        "dagster/column_schema": asset_metadata.column_schema(
            (column.name, str(column.kind), "")
            for column in (*state.layout.key, *state.layout.columns)
        ),
    }


def _skew_check(
    family: ModelFamily, views: FeatureRegistry, window: timedelta
) -> dg.AssetChecksDefinition:
    table = TableName("inference", family.name)
    selections = select_features(family, views)

    @dg.asset_check(
        asset=asset_metadata.asset_key(table),
        name=CHECK,
        description=_SAYS,
        required_resource_keys={RESOURCE_KEY},
    )
    def no_skew(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        lake = platform.lake
        if not lake.exists(table):
            return dg.AssetCheckResult(passed=True, description=f"there is no {table} yet")
        report = find_skew(
            lake,
            table,
            spine_of(family),
            selections,
            since=datetime.now(UTC) - window,
            columns=_logged_columns(lake, table, family, selections),
            features_of=_features_of(platform, table, family),
        )
        return _result(report)

    return no_skew


def _logged_columns(
    lake: Lake, table: TableName, family: ModelFamily, selections: Sequence[Selection]
) -> Mapping[str, str]:
    """Return the columns of the log that bear another name, because theirs was taken."""
    there = set(lake.schema(table).names)
    features = [f"{each.prefix}{name}" for each in selections for name in each.features]
    named = {name: f"feature_{name}" for name in features}
    named |= {name: f"entity_{name}" for name in family.spine.entity}
    return {name: column for name, column in named.items() if column in there}


def _features_of(platform: Platform, table: TableName, family: ModelFamily) -> dict[int, list[str]]:
    """Return the columns of the training set of each version that has answered."""
    with platform.lake.connect(tables=[table]) as con:
        answered = con.execute(f"SELECT DISTINCT version FROM {table.sql}").fetchall()
    found = {}
    for (number,) in answered:
        version = platform.registry.find_or_none(ModelReference(family.name, version=number))
        if version is not None:
            learnt_from = version.training_set
            found[number] = platform.lake.schema(learnt_from.table, learnt_from.version).names
    return found


def _result(report: SkewReport) -> dg.AssetCheckResult:
    skewed = report.skewed
    rows = [
        {
            "feature": each.feature,
            "view": each.view,
            "compared": each.compared,
            "different": each.different,
            "prediction": each.worst.prediction_id,
            "as_of": each.worst.as_of.isoformat(),
            "online": str(each.worst.online),
            "offline": str(each.worst.offline),
        }
        for each in skewed[:_SHOWN]
        if each.worst is not None
    ]
    differences = asset_metadata.records_table(rows)
    description = (
        f"{len(skewed)} of {len(report.features)} features differed; most often "
        f"{skewed[0].feature}, in {skewed[0].different} of {skewed[0].compared} predictions"
        if skewed
        else f"{report.predictions} predictions were made from the online store; none differs"
    )
    return dg.AssetCheckResult(
        passed=not skewed,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata={
            "predictions": report.predictions,
            "skewed_features": len(skewed),
            "not_comparable": sum(report.gone.values()),
            **({"differences": differences} if differences else {}),
        },
    )
