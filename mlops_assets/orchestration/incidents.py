"""The component that shows incidents, and gives what deals with those of published tables.

Who rolls models back is the family's own (`model_family.rolling_back`). Here is the table of
incidents as an asset, the check that no published table breaks its rules, and the job that brings
an earlier version of a table back by hand.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import Field

from mlops_assets.declaration import Declared
from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.loop import LOOP_TAGS
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.published_tables import (
    CHECK,
    JOB,
    published_defs,
    published_tables,
    tell_dagster,
)
from mlops_assets.orchestration.surroundings import Columns
from mlops_assets.production.errors import RestoreError
from mlops_assets.production.incidents import INCIDENTS, incidents
from mlops_assets.production.table_restore import restore_table
from mlops_assets.production.table_rules import unaudited_version

_RESTORE_JOB = "restore_table"
_SEEN_EVERY = timedelta(hours=6)
_SHOWN = 20


class IncidentsDeclaration(Declared):
    """Attributes of `IncidentAssets` in a ``defs.yaml``."""

    owners: tuple[str, ...] = Field(
        min_length=1, description="E-mail addresses, or teams as `team:name`."
    )


class IncidentAssets(DeclaredComponent[IncidentsDeclaration]):
    """The table of incidents, the check of published tables, and the job that restores one."""

    declared_by = IncidentsDeclaration

    @classmethod
    def tables_of(cls, declaration: Any) -> Mapping[TableName, Columns]:
        """Return the table of incidents."""
        del declaration
        return {INCIDENTS: None}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the asset, the checks, the jobs and the sensor."""
        return incident_defs(self.declaration, Path(context.project_root))


def incident_defs(declaration: IncidentsDeclaration, project_root: Path) -> dg.Definitions:
    """Give the asset, the checks, the jobs and the sensor.

    Parameters
    ----------
    declaration
        As it is declared.
    project_root
        Folder of the project whose tables are meant.
    """
    asset = dg.AssetSpec(
        asset_metadata.asset_key(INCIDENTS),
        description="What went wrong in production, what was done about it, and when it was over.",
        group_name=INCIDENTS.schema,
        owners=list(declaration.owners),
        kinds={"delta"},
        code_version="1",
        tags=LOOP_TAGS,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=4 * _SEEN_EVERY),
        metadata={"dagster/table_name": str(INCIDENTS)},
    )
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[asset], jobs=[_restore_job(project_root)], sensors=[_sensor(project_root)]
        ),
        published_defs(project_root),
    )


# By hand ------------------------------------------------------------------------------------------


class Restore(dg.Config):
    """Which table is to be brought back, to which version, and why."""

    table: str = Field(description="The table, such as `raw/flights`.")
    reason: str = Field(description="Why; it goes into the commit and the incident.")
    version: int | None = Field(
        default=None, description="Version to bring back. Default: the last that keeps the rules."
    )
    actor: str = Field(default="", description="Who asks. Default: this run.")


def _restore_job(project_root: Path) -> dg.JobDefinition:
    @dg.op(
        name=f"{_RESTORE_JOB}_op",
        required_resource_keys={RESOURCE_KEY},
        description="Make an earlier version of a table current again, and record an incident.",
    )
    def step(context: dg.OpExecutionContext, config: Restore) -> None:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        table = TableName.parse(config.table)
        published = published_tables(project_root).get(table)
        try:
            restored = restore_table(
                platform.lake,
                table,
                reason=config.reason,
                actor=config.actor or f"dagster run {context.run_id}",
                version=config.version,
                rules=None if published is None else published.rules,
            )
        except RestoreError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.info("%s %s", restored.incident.what, restored.incident.done)
        if published is not None:
            tell_dagster(context.instance, platform.lake, restored, published)

    @dg.job(
        name=_RESTORE_JOB,
        description="Bring an earlier version of a table back: the last good, or one by number.",
    )
    def job() -> None:
        step()

    return job


# The sensor ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What the sensor has told.

    Attributes
    ----------
    incidents
        Version of the table of incidents that was shown; -1: none.
    at
        When it was, in seconds since 1970.
    versions
        Published table to the version that was looked at.
    """

    incidents: int = -1
    at: float = 0.0
    versions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        return cls(**json.loads(cursor)) if cursor else cls()


def _sensor(project_root: Path) -> dg.SensorDefinition:
    tables = published_tables(project_root)

    @dg.sensor(
        name="incidents_sensor",
        job_name=f"{JOB}_job",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE_KEY},
        description="Shows new incidents, and has a table checked that somebody wrote to past the "
        "audit.",
    )
    def incidents_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        lake, seen = platform.lake, _Seen.of(context.cursor)
        versions = {str(table): lake.version(table) for table in tables if lake.exists(table)}
        past = {
            name: found
            for name, version in versions.items()
            if seen.versions.get(name) != version
            and (found := unaudited_version(lake, TableName.parse(name))) is not None
        }
        shown, events = _shown(lake, seen)
        requests = []
        if past:
            said = ", ".join(f"{name}@{version}" for name, version in past.items())
            requests.append(
                dg.RunRequest(
                    run_key=said,
                    asset_check_keys=[
                        dg.AssetCheckKey(asset_metadata.asset_key(TableName.parse(name)), CHECK)
                        for name in past
                    ],
                    tags={"mlops/reason": f"written past the audit: {said}"},
                )
            )
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None
            if requests
            else f"{len(versions)} tables, none newly written past the audit; {len(events)} events",
            asset_events=events,
            cursor=json.dumps(asdict(_Seen(shown.incidents, shown.at, versions))),
        )

    return incidents_sensor


def _shown(lake: Lake, seen: _Seen) -> tuple[_Seen, list[dg.AssetMaterialization]]:
    """Report the table of incidents where it has changed, or was not for long."""
    now = time.time()
    version = lake.version(INCIDENTS) if lake.exists(INCIDENTS) else -1
    if version < 0 or (version == seen.incidents and now - seen.at < _SEEN_EVERY.total_seconds()):
        return seen, []
    found = incidents(lake)
    rows = asset_metadata.records_table(
        {
            "incident": each.incident_id,
            "at": f"{each.at:%Y-%m-%d %H:%M} UTC",
            "kind": str(each.kind),
            "subject": each.subject,
            "severity": str(each.severity),
            "what": each.what,
            "done": each.done,
            "resolved": each.resolution or "no",
        }
        for each in reversed(found[-_SHOWN:])
    )
    event = dg.AssetMaterialization(
        asset_metadata.asset_key(INCIDENTS),
        metadata={
            **asset_metadata.table_metadata(lake, INCIDENTS, version),
            "open": sum(each.is_open for each in found),
            "incidents": len(found),
            **({"newest": rows} if rows else {}),
        },
    )
    return _Seen(version, now, seen.versions), [event]
