"""The tables that this project publishes by rules, seen after they are published.

Batches are audited before they are committed, so a table can only break its rules if somebody wrote
past the audit, or the rules have changed. The check `published` says so on every raw table and dbt
model; it costs a look at the log where nobody did.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.declaration import find_problems
from mlops_assets.declaration.files import declared_attributes
from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.loop import ON_DEMAND
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.raw_table import (
    DailyLoad,
    RawTable,
    RawTableDeclaration,
    import_contract,
)
from mlops_assets.orchestration.surroundings import DBT_FOLDER
from mlops_assets.production.table_restore import RestoredTable, record_corruption
from mlops_assets.production.table_rules import (
    ContractRules,
    DbtRules,
    TableRules,
    unaudited_version,
)
from mlops_assets.transform.project import project_at

(CHECK,) = ON_DEMAND
JOB = "check_published_tables"
_DATA_VERSION = "dagster/data_version"
_DEFS = Path("mlops_assets") / "defs"


@dataclass(frozen=True)
class PublishedTable:
    """A table that is published by rules.

    Attributes
    ----------
    table
        Its name.
    day_column
        Column with the day that a row is of, where the table is published day by day.
    contract
        Import path of its contract; empty for a dbt model.
    project
        Folder of the dbt project; None for a raw table.
    """

    table: TableName
    day_column: str | None
    contract: str = ""
    project: Path | None = None

    @property
    def rules(self) -> TableRules:
        """What must hold of it."""
        if self.project is not None:
            return DbtRules(project_at(self.project), self.table.name)
        return ContractRules(import_contract(self.contract))


def published_tables(project_root: Path) -> Mapping[TableName, PublishedTable]:
    """Return the raw tables and dbt models that a project declares.

    Parameters
    ----------
    project_root
        Folder with ``mlops_assets/defs`` and the dbt project.
    """
    found: dict[TableName, PublishedTable] = {}
    component = f"{RawTable.__module__}.{RawTable.__name__}"
    for _, attributes in declared_attributes(project_root / _DEFS, component):
        if find_problems(RawTableDeclaration, attributes):
            continue  # loading says what is wrong with it
        declared = RawTableDeclaration.model_validate(attributes)
        table, load = TableName.parse(declared.table), declared.load
        column = load.column if isinstance(load, DailyLoad) else None
        found[table] = PublishedTable(table, column, declared.contract)
    folder = project_root / DBT_FOLDER
    if folder.is_dir():
        for model in project_at(folder).models.values():
            found[model.table] = PublishedTable(model.table, model.window_column, project=folder)
    return found


# The check ----------------------------------------------------------------------------------------


def published_defs(project_root: Path) -> dg.Definitions:
    """Give the check of every published table, and the sensor that runs it where it may fail."""
    tables = {
        asset_metadata.asset_key(name): published
        for name, published in published_tables(project_root).items()
    }
    if not tables:
        return dg.Definitions()
    specs = [
        dg.AssetCheckSpec(
            CHECK,
            asset=key,
            description="Its rows were audited before they were published; or they keep the rules.",
        )
        for key in tables
    ]

    @dg.multi_asset_check(
        name=JOB,
        specs=specs,
        can_subset=True,
        required_resource_keys={RESOURCE_KEY},
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        for chosen in context.selected_asset_check_keys:
            published = tables[chosen.asset_key]
            yield _checked(platform.lake, published, f"dagster run {context.run.run_id}")

    job = dg.define_asset_job(
        f"{JOB}_job",
        selection=dg.AssetSelection.checks(check),
        description="See whether somebody wrote past the audit, and what they wrote.",
    )
    return dg.Definitions(asset_checks=[check], jobs=[job])


def _checked(lake: Lake, published: PublishedTable, by: str) -> dg.AssetCheckResult:
    table = published.table
    broken: tuple[str, ...] = ()
    said: str | None = None
    if lake.exists(table) and (version := unaudited_version(lake, table)) is not None:
        broken = published.rules.broken(lake, table, version)
        said = f"version {version} was written past the audit"
        if broken:
            record_corruption(lake, table, version, broken, by=by, at=datetime.now(UTC))
            said += f" and breaks: {'; '.join(broken)}. Bring back: mlops restore {table}"
    return dg.AssetCheckResult(
        asset_key=asset_metadata.asset_key(table),
        check_name=CHECK,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description=said,
    )


# After a restore ----------------------------------------------------------------------------------


def tell_dagster(
    instance: dg.DagsterInstance, lake: Lake, restored: RestoredTable, published: PublishedTable
) -> tuple[date, ...]:
    """Tell Dagster that a table holds other rows, so that what was made of it shows as stale.

    A table that is published day by day is told day by day, of those days whose rows differ. The
    data version is the new one, not that of the rows brought back: what was made of the table in
    between read other rows under whatever version Dagster knew.

    Parameters
    ----------
    instance
        Keeps the events.
    lake
        Holds the table.
    restored
        What was done.
    published
        The table.

    Returns
    -------
    tuple of date
        The days that were told; none of a table without.
    """
    key = asset_metadata.asset_key(restored.table)
    metadata: dict[str, Any] = {
        **asset_metadata.table_metadata(lake, restored.table, restored.now),
        "restored_from": restored.good,
        "replaced": restored.before,
        "incident": restored.incident.incident_id,
    }
    days: tuple[date, ...] = ()
    partitions: list[str | None] = [None]
    if published.day_column is not None:
        days = changed_days(
            lake, restored.table, published.day_column, (restored.before, restored.now)
        )
        partitions = [day.isoformat() for day in days]
    for partition in partitions:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key,
                partition=partition,
                metadata=metadata,
                tags={_DATA_VERSION: str(restored.now)},
            )
        )
    broken = published.rules.broken(lake, restored.table, restored.now)
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=CHECK,
            passed=not broken,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(broken) or f"version {restored.good} was brought back",
            metadata={},
        )
    )
    return days


def changed_days(
    lake: Lake, table: TableName, column: str, versions: tuple[int, int]
) -> tuple[date, ...]:
    """Return the days of which two versions of a table have different rows, in order.

    Parameters
    ----------
    lake, table, column
        The column says which day a row is of.
    versions
        The two.
    """
    from mlops_assets.features.identifiers import quote

    found: list[dict[date, tuple[int, int]]] = []
    for version in versions:
        with lake.connect(versions={table: version}, tables=[table]) as con:
            rows = con.execute(
                f"SELECT {quote(column)}::DATE, count(*), sum(hash(one)::HUGEINT) "
                f"FROM {table.sql} AS one GROUP BY ALL"
            ).fetchall()
        found.append({day: (count, total) for day, count, total in rows if day is not None})
    one, other = found
    return tuple(sorted(day for day in one.keys() | other.keys() if one.get(day) != other.get(day)))
