"""The component that shows the inference log as assets, and sees that it is shipped.

The model server ships its log itself while it runs. What it has shipped becomes materialisations of
the assets without a run; a run ships what a server left behind that is no longer there. Shipping is
`mlops_assets.serving.inference_log`'s; here is what Dagster shows of it.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import dagster as dg
from dagster import DagsterRunStatus
from pydantic import Field, field_validator

from mlops_assets.declaration import Declared, Problem, unknown_name
from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.loop import LOOP_TAGS
from mlops_assets.orchestration.model_family import ModelFamilyAssets
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.surroundings import Columns, Surroundings
from mlops_assets.serving.inference_log import RESERVED_FAMILY, waiting_segments

GROUP = "inference"
_CODE_VERSION = "1"
_STEP = "inference_log"
_JOB = "ship_inference_log"
_ONCE = "every_prediction_once"
_SHIPPED = "everything_shipped"
_CHECKED_DAYS = 7
_HEALTH = dg.AssetKey([GROUP, "service_health"])
_HEALTH_JOB = "measure_service"
_HEALTH_DAYS = 14
_HEALTH_STALE = timedelta(days=2)
_UNTROUBLED = "no_trouble"
_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


class InferenceLogDeclaration(Declared):
    """Attributes of `InferenceLogAssets` in a ``defs.yaml``."""

    families: tuple[str, ...] = Field(
        default=(),
        description="Model families that the server answers with. Default: every declared one.",
        examples=[["flight_delay"]],
    )
    owners: tuple[str, ...] = Field(
        min_length=1, description="E-mail addresses, or teams as `team:name`."
    )
    left_behind_after: timedelta = Field(
        default=timedelta(minutes=1),
        ge=timedelta(0),
        description="Age at which a finished segment that nobody ships is shipped by a run.",
        examples=["PT1M"],
    )
    seen_every: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="Longest time between two materialisations, which say that everything is "
        "shipped, while nobody asks for predictions.",
        examples=["PT1H"],
    )
    fail_after: timedelta = Field(
        default=timedelta(hours=6),
        gt=timedelta(0),
        description="Age of the last materialisation at which the tables count as stale: then "
        "nobody looks after the log any more.",
        examples=["PT6H"],
    )

    @field_validator("families")
    @classmethod
    def _are_families(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for family in value:
            TableName(GROUP, family)
        if RESERVED_FAMILY in value:
            raise ValueError(f"{RESERVED_FAMILY!r} is the table of events, and no family")
        return value


class InferenceLogAssets(DeclaredComponent[InferenceLogDeclaration]):
    """The tables of the inference log: predictions of each family, and events of serving."""

    declared_by = InferenceLogDeclaration

    @classmethod
    def tables_of(cls, declaration: Any) -> Mapping[TableName, Columns]:
        """Return the tables of the families that are named, and that of events."""
        named = (*declaration.families, RESERVED_FAMILY)
        return {TableName(GROUP, name): None for name in named}

    @classmethod
    def problems_of(cls, declaration: Any, around: Surroundings) -> Iterator[Problem]:
        """Say which families are declared nowhere."""
        for place, name in enumerate(declaration.families):
            if name not in around.families:
                said = unknown_name(name, "declared model family", around.families)
                yield Problem(("families", place), said)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the assets, their checks, the job that ships, and the sensor that looks after it."""
        declared = tuple(
            component.declaration.name
            for component in context.component_tree.get_all_components(ModelFamilyAssets)
        )
        families = self.declaration.families or declared
        return inference_log_defs(self.declaration.model_copy(update={"families": families}))


def inference_log_defs(declaration: InferenceLogDeclaration) -> dg.Definitions:
    """Give the assets, their checks, the job that ships, and the sensor that looks after it."""
    asset = _assets(declaration)
    job = dg.define_asset_job(
        _JOB,
        selection=dg.AssetSelection.assets(asset),
        description="Turn what is in the inference log into rows of the lake.",
    )
    health = _service_health(declaration)
    measuring = dg.define_asset_job(
        _HEALTH_JOB,
        selection=dg.AssetSelection.assets(health),
        description="Measure how the model server did.",
    )
    return dg.Definitions(
        assets=[asset, health],
        jobs=[job, measuring],
        schedules=[
            dg.ScheduleDefinition(
                name=f"{_HEALTH_JOB}_daily",
                job=measuring,
                cron_schedule="15 0 * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description="After each day, in UTC.",
            )
        ],
        sensors=[_sensor(declaration)],
    )


def _service_health(declaration: InferenceLogDeclaration) -> dg.AssetsDefinition:
    """Give the asset of how the model server did over the last day."""
    spec = dg.AssetSpec(
        key=_HEALTH,
        description="Latency, throughput, warnings and trouble of the model server over the last "
        f"{_HEALTH_DAYS} days, by family; rows of monitoring/service. CPU and memory of the "
        "workers are in its /metrics.",
        deps=list(_tables(declaration).values()),
        group_name=GROUP,
        owners=list(declaration.owners),
        kinds={"duckdb", "delta"},
        code_version=_CODE_VERSION,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=_HEALTH_STALE),
        metadata={"dagster/table_name": "monitoring/service"},
        tags=LOOP_TAGS,
    )
    says = "No event of the inference log means trouble, and no prediction was lost."

    @dg.multi_asset(
        name="service_health",
        specs=[spec],
        check_specs=[dg.AssetCheckSpec(_UNTROUBLED, asset=_HEALTH, description=says)],
        required_resource_keys={RESOURCE_KEY},
    )
    def service_health(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.monitoring.pictures import latency_over_time
        from mlops_assets.production.service import measure_days
        from mlops_assets.training.pictures import png

        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        now = datetime.now(UTC)
        numbers: dict[str, Any] = {}
        troubles: list[str] = []
        for family in declaration.families:
            days = measure_days(
                platform.lake, family, now, days=_HEALTH_DAYS, evaluation=context.run.run_id
            )
            if not days:
                numbers[family] = "nobody has asked yet"
                continue
            latest = days[now.date()]
            numbers[f"{family}_requests"] = latest.requests
            for quantile, seconds in latest.latency.items():
                numbers[f"{family}_p{100 * quantile:g}_ms"] = round(1000 * seconds, 3)
            numbers[f"{family}_latency"] = asset_metadata.picture(
                png(latency_over_time({day: found.latency for day, found in days.items()})),
                f"Latency of {family} by day",
            )
            troubles += [f"{family}: {kind} {often} times" for kind, often in
                         latest.troubles.items()]  # fmt: skip
            if latest.lost_predictions:
                troubles.append(f"{family}: {latest.lost_predictions} predictions were not logged")
        yield dg.MaterializeResult(
            asset_key=_HEALTH,
            metadata=numbers,
            data_version=dg.DataVersion(context.run.run_id),
        )
        yield dg.AssetCheckResult(
            asset_key=_HEALTH,
            check_name=_UNTROUBLED,
            passed=not troubles,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(troubles) or None,
        )

    return service_health


def _tables(declaration: InferenceLogDeclaration) -> dict[TableName, dg.AssetKey]:
    tables = [TableName(GROUP, name) for name in (*declaration.families, RESERVED_FAMILY)]
    return {table: asset_metadata.asset_key(table) for table in tables}


def _assets(declaration: InferenceLogDeclaration) -> dg.AssetsDefinition:
    tables = _tables(declaration)
    events = TableName(GROUP, RESERVED_FAMILY)
    specs, checks = [], []
    for table, key in tables.items():
        is_family = table != events
        specs.append(
            dg.AssetSpec(
                key=key,
                description=(
                    f"Every prediction that the server answered with {table.name}: what was asked, "
                    "what the model saw, what it answered, by which version."
                    if is_family
                    else "What happened while serving: models loaded and refused, a log that was "
                    "full, canaries that were stopped."
                ),
                deps=[dg.AssetKey([table.name, "champion"])] if is_family else [],
                group_name=GROUP,
                owners=list(declaration.owners),
                kinds={"delta"},
                code_version=_CODE_VERSION,
                freshness_policy=dg.FreshnessPolicy.time_window(fail_window=declaration.fail_after),
                metadata={"dagster/table_name": str(table)},
            )
        )
        if is_family:
            says = f"No prediction of the newest {_CHECKED_DAYS} days is in the table twice."
            checks.append(dg.AssetCheckSpec(_ONCE, asset=key, description=says))
        else:
            says = "No finished segment waits, and none was found damaged."
            checks.append(dg.AssetCheckSpec(_SHIPPED, asset=key, description=says))

    @dg.multi_asset(
        name=_STEP, specs=specs, check_specs=checks, required_resource_keys={RESOURCE_KEY}
    )
    def inference_log(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from mlops_assets.serving.inference_log.shipping import create_tables, ship

        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        lake, folder = platform.lake, platform.settings.serve_log_folder
        create_tables(lake, declaration.families)
        shipped = ship(lake, folder)
        context.log.info("Shipped from %s: %s", folder, shipped)
        for table, key in tables.items():
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    **_metadata(lake, table),
                    "shipped_rows": shipped.events
                    if table == events
                    else shipped.rows.get(table.name, 0),
                },
                data_version=dg.DataVersion(str(lake.version(table))),
            )
            if table != events:
                yield _once(lake, table, key)
        waiting = waiting_segments(folder)
        yield dg.AssetCheckResult(
            asset_key=tables[events],
            check_name=_SHIPPED,
            passed=not waiting.segments and not shipped.refused,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(
                [
                    *([f"{waiting.segments} segments wait"] if waiting.segments else []),
                    *(f"{path} is damaged" for path in shipped.refused),
                ]
            )
            or None,
            metadata={"waiting_segments": waiting.segments, "waiting_bytes": waiting.bytes},
        )

    return inference_log


def _metadata(lake: Lake, table: TableName) -> asset_metadata.Metadata:
    """Describe a table of the log: what all tables have, and what its newest rows are."""
    found = asset_metadata.table_metadata(lake, table, lake.version(table))
    newest = '"at"' if table.name == RESERVED_FAMILY else "answered_at"
    with lake.connect(tables=[table]) as con:
        versions = con.sql(
            f"SELECT coalesce(CAST(version AS VARCHAR), 'none') AS version, count(*) AS rows, "
            f"max({newest}) AS newest FROM {table.sql} GROUP BY 1 ORDER BY newest DESC LIMIT 20"
        ).fetchall()
    if not versions:
        return found
    seen = versions[0][2]
    return {
        **found,
        "newest": dg.MetadataValue.timestamp(seen),
        "seconds_since_newest": (datetime.now(UTC) - seen).total_seconds(),
        "versions": asset_metadata.records_table(
            {"version": version, "rows": rows, "newest": newest.isoformat()}
            for version, rows, newest in versions
        ),
    }


def _once(lake: Lake, table: TableName, key: dg.AssetKey) -> dg.AssetCheckResult:
    with lake.connect(tables=[table]) as con:
        repeated = con.execute(
            f"""
            SELECT prediction_id, count(*) FROM {table.sql}
            WHERE day > (SELECT max(day) FROM {table.sql}) - $days
            GROUP BY prediction_id HAVING count(*) > 1 ORDER BY 2 DESC LIMIT 5
            """,
            {"days": _CHECKED_DAYS},
        ).fetchall()
    examples = ", ".join(f"{name} ({count} times)" for name, count in repeated)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=_ONCE,
        passed=not repeated,
        description=f"in the table more than once: {examples}" if repeated else None,
    )


@dataclass(frozen=True)
class _Seen:
    """What the sensor said last.

    Attributes
    ----------
    versions
        Table to the version that it has reported.
    at
        When it last reported all of them, in seconds since 1970.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    at: float = 0.0

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        return cls(**json.loads(cursor)) if cursor else cls()


def _sensor(declaration: InferenceLogDeclaration) -> dg.SensorDefinition:
    tables = _tables(declaration)

    @dg.sensor(
        name="inference_log_sensor",
        job_name=_JOB,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE_KEY},
        description="Shows what the server has shipped as materialisations, and has a run ship "
        "what a server left behind.",
    )
    def inference_log_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        folder = platform.settings.serve_log_folder
        waiting = waiting_segments(folder)
        left_behind = timedelta(seconds=waiting.oldest_seconds) >= declaration.left_behind_after
        if waiting.segments and left_behind:
            said = (
                f"{waiting.segments} finished segments ({waiting.bytes} bytes) wait in {folder}, "
                f"the oldest for {waiting.oldest_seconds:.0f} s"
            )
            if _is_shipping(context.instance):
                return dg.SensorResult(skip_reason=f"{said}; a run is shipping them")
            context.log.info("%s; a run is to ship them", said)
            return dg.SensorResult(run_requests=[dg.RunRequest(tags={"mlops/reason": said})])
        return _report(platform.lake, tables, _Seen.of(context.cursor), declaration)

    return inference_log_sensor


def _is_shipping(instance: dg.DagsterInstance) -> bool:
    wanted = dg.RunsFilter(job_name=_JOB, statuses=_UNFINISHED)
    return bool(instance.get_run_ids(wanted, limit=1))


def _report(
    lake: Lake,
    tables: Mapping[TableName, dg.AssetKey],
    seen: _Seen,
    declaration: InferenceLogDeclaration,
) -> dg.SensorResult:
    """Report tables that have changed, and all of them when it is time to."""
    now = time.time()
    due = now - seen.at >= declaration.seen_every.total_seconds()
    versions = {table: lake.version(table) for table in tables if lake.exists(table)}
    reported = [
        table
        for table, version in versions.items()
        if due or seen.versions.get(str(table)) != version
    ]
    if not reported:
        return dg.SensorResult(skip_reason="nothing new, and no finished segment waits")
    return dg.SensorResult(
        skip_reason=f"no run is needed; shipped by the server: {', '.join(map(str, reported))}",
        asset_events=[
            dg.AssetMaterialization(tables[table], metadata=_metadata(lake, table))
            for table in reported
        ],
        cursor=json.dumps(
            asdict(
                _Seen(
                    versions={str(table): version for table, version in versions.items()},
                    at=now if due else seen.at,
                )
            )
        ),
    )
