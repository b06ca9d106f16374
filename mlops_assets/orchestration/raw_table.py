"""The component that brings a source into the lake as a raw table.

One declaration gives the asset, its contract's checks, its freshness policy and, where asked for,
its schedule.
"""

import hashlib
import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date, timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import AfterValidator, Field

from mlops_assets.declaration import Declared, Problem, UnreadableError, did_you_mean, judge
from mlops_assets.ingestion import (
    PROVENANCE,
    Ingestion,
    IngestionError,
    Source,
    SourceRefusedError,
    failure_reason,
    ingest,
    table_loads,
)
from mlops_assets.lake import Lake, LakeError, TableName, Window
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.daily import Days, run_window
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.surroundings import Columns, Surroundings
from mlops_assets.quality import (
    AuditPolicy,
    AuditReport,
    BatchRefused,
    Contract,
    Failure,
    QualityError,
    columns,
    contract_hash,
    keys,
)
from mlops_assets.quality.contract_rules import Kind, rules
from mlops_assets.quality.policy import Mode


class SnapshotLoad(Declared):
    """Each run replaces the whole table."""

    mode: Literal["snapshot"] = "snapshot"


class AppendLoad(Declared):
    """Each run adds what the source gives, each batch exactly once."""

    mode: Literal["append"] = "append"


class DailyLoad(Declared):
    """Daily partitions: a run replaces the days it is asked for, any range of them at once."""

    mode: Literal["daily"] = "daily"
    column: str = Field(description="Date column of the contract that says which day a row is of.")
    days: Days


def _table_name(value: str) -> str:
    return str(TableName.parse(value))


class RawTableDeclaration(Declared):
    """Attributes of `RawTable` in a ``defs.yaml``."""

    table: Annotated[str, AfterValidator(_table_name)] = Field(
        description="Lake table to make.", examples=["raw/flights"]
    )
    description: str = Field(min_length=1, description="What a row is and where it comes from.")
    owners: tuple[str, ...] = Field(
        min_length=1, description="E-mail addresses, or teams as `team:name`."
    )
    source: Source
    contract: str = Field(
        description="Import path of the Contract class.",
        examples=["mlops_assets.defs.flights.contracts:Flights"],
        pattern=r"^[\w.]+:\w+$",
    )
    load: Annotated[SnapshotLoad | AppendLoad | DailyLoad, Field(discriminator="mode")] = Field(
        default_factory=SnapshotLoad, description="How a run changes the table."
    )
    derived: dict[str, str] = Field(
        default_factory=dict,
        description="Columns computed while reading: name to a SQL expression over the source's.",
        examples=[{"flight_date": "make_date(year, month, day)"}],
    )
    max_refused_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of rows that may go to quarantine before the whole batch does.",
    )
    min_rows: int | None = Field(
        default=None,
        ge=0,
        description="Fewest rows a batch may have. Absent: a batch is refused if it would leave a "
        "day that has rows (of a snapshot: the table) without any. `0` says that empty is right.",
        examples=[1000],
    )
    fail_after: timedelta = Field(
        default=timedelta(days=2),
        description="Age of the last materialisation at which the table counts as stale.",
        examples=["P2D"],
    )
    schedule: str | None = Field(
        default=None, description="Cron line, in UTC, at which it is materialised."
    )


class RawTable(DeclaredComponent[RawTableDeclaration]):
    """A raw table: read from a source, audited against its contract, published to the lake."""

    declared_by = RawTableDeclaration

    @classmethod
    def tables_of(cls, declaration: Any) -> Mapping[TableName, Columns]:
        """Return the table with the columns of its contract; without where it has no sound one."""
        table = TableName.parse(declaration.table)
        try:
            contract = _sound_contract(declaration.contract)
        except UnreadableError:
            return {table: None}
        if not isinstance(contract, type):
            return {table: None}
        return {table: (*(column.name for column in columns(contract)), *PROVENANCE)}

    @classmethod
    def problems_of(cls, declaration: Any, around: Surroundings) -> Iterator[Problem]:
        """Say what is wrong with the contract, or with the column of the daily partitions."""
        del around
        yield from judge(_contract_problems(declaration))

    def daily_tables(self, project_root: Path) -> Mapping[TableName, Days]:
        """Return the table where it is loaded day by day."""
        del project_root
        load = self.declaration.load
        if not isinstance(load, DailyLoad):
            return {}
        return {TableName.parse(self.declaration.table): load.days}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the asset with its checks, and its schedule."""
        return self.build_defs_at(Path(context.project_root))

    def build_defs_at(self, project_root: Path) -> dg.Definitions:
        """Give the same where relative paths count from ``project_root``.

        Raises
        ------
        ValueError
            If the contract cannot be imported.
        TypeError
            If it is no contract.
        """
        contract = import_contract(self.declaration.contract)
        asset = _raw_asset(self.declaration, contract, project_root)
        cron = self.declaration.schedule
        schedules = [_schedule(self.declaration, cron, asset)] if cron else []
        return dg.Definitions(assets=[asset], schedules=schedules)


def import_contract(path: str) -> type[Contract]:
    """Import the contract that a declaration names.

    Only its declaration is judged here; `mlops doctor` evaluates its rules, which takes longer.

    Parameters
    ----------
    path
        ``package.module:Class``.

    Raises
    ------
    ValueError
        If there is nothing of this name.
    TypeError
        If it is no contract.
    """
    module_name, _, class_name = path.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"no contract at {path!r} ({error}); name an importable class as package.module:Class"
        ) from error
    contract = getattr(module, class_name, None)
    if contract is None:
        there = [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Contract) and value is not Contract
        ]
        raise ValueError(
            f"no contract {class_name!r} in {module_name}{did_you_mean(class_name, there) or '.'} "
            f"It has {', '.join(there) or 'none'}"
        )
    if not (isinstance(contract, type) and issubclass(contract, Contract)):
        raise TypeError(f"{path!r} is no subclass of mlops_assets.quality.Contract")
    return contract


def _sound_contract(path: str) -> type[Contract] | str:
    """Return the contract at an import path, or say why there is none."""
    try:
        return import_contract(path)
    except (ValueError, TypeError) as error:
        if repr(path) in str(error):
            return f"{error}."
        return f"{path!r} cannot be imported: {_origin(error)}."  # from within the module
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything, and it is shown
        return f"{path!r} cannot be imported: {_origin(error)}."


def _origin(error: Exception) -> str:
    """Say what an error is and in which line of which file it arose."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"


def _contract_problems(declaration: RawTableDeclaration) -> Iterator[Problem]:
    """Say what is wrong with the contract; or that it has no ``load.column``, or one of no day."""
    contract = _sound_contract(declaration.contract)
    if isinstance(contract, str):
        yield Problem(("contract",), contract)
        return
    if not isinstance(declaration.load, DailyLoad):
        return
    name = declaration.load.column
    types = {column.name: column.duckdb_type for column in columns(contract)}
    days = [column for column, type_ in types.items() if type_.startswith(_DAY_TYPES)]
    allowed = f"Columns of {contract.__name__} that do: {', '.join(days) or 'none'}."
    key = ("load", "column")
    if name not in types:
        hint = did_you_mean(name, types) or "."
        said = f"{name!r} is no column of the contract, so no row says its day{hint} {allowed}"
        yield Problem(key, said)
    elif name not in days:
        said = f"{name!r} has type {types[name]}, which says no day; it must be a date or a "
        yield Problem(key, f"{said}timestamp. {allowed}")


_DAY_TYPES = ("DATE", "TIMESTAMP")
_DAYS = "days"
_CHECKS = {
    "schema": "The columns of the contract are there, no others, and every value has its type.",
    "keys": "No two rows share a key.",
    "values": "Every value keeps the rules of its column.",
    "volume": "Rows came, and no larger share of them went to quarantine than is declared.",
    _DAYS: "Every day from the first to the last that was tried is loaded, and newly so.",
}
_CHECK_OF_KIND = {
    Kind.structure: "schema",
    Kind.readable: "schema",
    Kind.key: "keys",
    Kind.published_key: "keys",
    Kind.window: "values",
    Kind.not_null: "values",
    Kind.finite: "values",
    Kind.check: "values",
}


def _raw_asset(
    declaration: RawTableDeclaration, contract: type[Contract], project_root: Path
) -> dg.AssetsDefinition:
    table = TableName.parse(declaration.table)
    key = asset_metadata.asset_key(table)
    daily = declaration.load if isinstance(declaration.load, DailyLoad) else None

    @dg.multi_asset(
        name=f"{table.schema}__{table.name}",
        specs=[
            dg.AssetSpec(
                key=key,
                description=declaration.description,
                group_name=table.schema,
                owners=list(declaration.owners),
                kinds={declaration.source.kind, "delta"},
                code_version=_code_version(declaration, contract),
                freshness_policy=dg.FreshnessPolicy.time_window(fail_window=declaration.fail_after),
                metadata={
                    "contract": declaration.contract,
                    "dagster/table_name": str(table),
                    "dagster/column_schema": _contract_schema(contract),
                },
                partitions_def=daily.days.partitions() if daily else None,
            )
        ],
        check_specs=[
            # A day that is missing is no reason to keep the others from whoever reads them.
            dg.AssetCheckSpec(name=name, asset=key, description=description, blocking=name != _DAYS)
            for name, description in _CHECKS.items()
            if name != _DAYS or daily
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={RESOURCE_KEY},
    )
    def raw_table(context: dg.AssetExecutionContext) -> Iterator[Any]:
        platform: Platform = getattr(context.resources, RESOURCE_KEY)
        outcome = _ingested(declaration, contract, platform, project_root, context)
        if not isinstance(outcome, Ingestion):
            yield from _failed_checks(key, contract, outcome)
            if daily and not isinstance(outcome, LakeError):
                yield _days_check(key, platform.lake, table)
            raise _failure(outcome)
        publication = outcome.publication
        version = platform.lake.version(table)
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                **asset_metadata.table_metadata(platform.lake, table, version),
                "rows_read": publication.report.rows,
                "rows_refused": publication.quarantined,
                "source_files": asset_metadata.records_table(
                    {"uri": file.uri, "sha256": file.sha256, "bytes": file.bytes, "rows": file.rows}
                    for file in outcome.files
                )
                or "none: not read from files",
            },
            data_version=dg.DataVersion(str(version)),
        )
        yield from _check_results(key, contract, publication.report, batch_refused=False)
        if daily:
            yield _days_check(key, platform.lake, table)

    return raw_table


def _ingested(
    declaration: RawTableDeclaration,
    contract: type[Contract],
    platform: Platform,
    project_root: Path,
    context: dg.AssetExecutionContext,
) -> Ingestion | IngestionError | QualityError | LakeError:
    """Return what was ingested, or what prevented it.

    An error is returned, so that the step can report its checks and fail with one message, without
    the chain of tracebacks that would be the context of an error raised where it was caught.
    """
    try:
        return ingest(
            platform.lake,
            declaration.source,
            contract,
            TableName.parse(declaration.table),
            mode=_mode(declaration, run_window(context)),
            policy=AuditPolicy(
                max_refused_share=declaration.max_refused_share, min_rows=declaration.min_rows
            ),
            derived=declaration.derived,
            root=project_root,
            metadata={"dagster_run": context.run.run_id},
        )
    except (IngestionError, QualityError, LakeError) as error:
        return error


def _mode(declaration: RawTableDeclaration, window: tuple[date, date] | None) -> Mode:
    if not isinstance(declaration.load, DailyLoad):
        return declaration.load.mode
    if window is None:
        raise ValueError(f"{declaration.table} is partitioned by day, and the run names no day")
    return Window(declaration.load.column, *window)


def _check_results(
    key: dg.AssetKey, contract: type[Contract], report: AuditReport, *, batch_refused: bool
) -> Iterator[dg.AssetCheckResult]:
    """Sum the rules up into four checks of a raw table, with the failing rows beside each.

    Rows that went to quarantine while the rest was published are a warning; a refused batch is an
    error.
    """
    # What a batch must be beside its contract, `rules` names only when asked.
    check_of_rule = {
        rule.name: _CHECK_OF_KIND[rule.kind]
        for rule in rules(contract, window="the window", published_keys=keys(contract))
    }
    for name in (name for name in _CHECKS if name != _DAYS):
        # What is no rule of the contract is a bound on the batch as a whole.
        judged = [c for c in report.checks if check_of_rule.get(c.name, "volume") == name]
        failed = [check for check in judged if not check.passed]
        samples = asset_metadata.records_table(
            _sample(failure) for check in failed for failure in check.samples
        )
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if batch_refused else dg.AssetCheckSeverity.WARN,
            description="; ".join(check.told for check in failed) or None,
            metadata={
                "rules": len(judged),
                "failures": sum(check.failures for check in failed),
                "rows": report.rows,
                "refused_rows": report.refused_rows,
                **({"samples": samples} if samples else {}),
            },
        )


def _failed_checks(
    key: dg.AssetKey, contract: type[Contract], error: Exception
) -> Iterator[dg.AssetCheckResult]:
    """Turn red what an attempt that published nothing says about the table."""
    if isinstance(error, BatchRefused):
        yield from _check_results(key, contract, error.report, batch_refused=True)
        return
    yield dg.AssetCheckResult(
        asset_key=key,
        # Without a source that can be read, no rows came.
        check_name="schema" if isinstance(error, SourceRefusedError) else "volume",
        passed=False,
        description=failure_reason(error),
        metadata=_failure_metadata(error),
    )


def _days_check(key: dg.AssetKey, lake: Lake, table: TableName) -> dg.AssetCheckResult:
    """Say which days are not loaded, whatever the day of this run: a check is of the asset."""
    found = table_loads(lake, table)
    shortfalls = asset_metadata.records_table(
        {
            "first": shortfall.first,
            "last": shortfall.last,
            "outcome": shortfall.outcome,
            "reason": shortfall.reason,
            "earlier rows published": shortfall.kept,
        }
        for shortfall in found.shortfalls
    )
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=_DAYS,
        passed=not found.shortfalls,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(found.lines()) or None,
        metadata={
            "days": found.days,
            "days_short": sum(shortfall.days for shortfall in found.shortfalls),
            "open_quarantine": found.open_quarantine,
            **({"shortfalls": shortfalls} if shortfalls else {}),
        },
    )


def _failure(error: Exception) -> dg.Failure:
    """Return the one block that the log and the UI show: the message, and tables beside it."""
    notes = getattr(error, "__notes__", [])
    return dg.Failure(
        "\n".join([str(error), *notes]), metadata=_failure_metadata(error), allow_retries=False
    )


def _failure_metadata(error: Exception) -> dict[str, Any]:
    if isinstance(error, BatchRefused):
        report = error.report
        tables = {
            "rules": asset_metadata.records_table(
                {"rule": check.told, "failures": check.failures} for check in report.broken
            ),
            "samples": asset_metadata.records_table(
                map(_sample, report.failures(AuditPolicy().samples))
            ),
        }
        facts = {"quarantine": error.quarantine, "batch_id": error.batch_id}
        return {**facts, **{name: table for name, table in tables.items() if table}}
    if isinstance(error, SourceRefusedError):
        refusals = asset_metadata.records_table(asdict(refused) for refused in error.refusals)
        return {"refusals": refusals} if refusals else {}
    return {"error": type(error).__name__}


def _sample(failure: Failure) -> dict[str, Any]:
    return {
        "row": failure.source_row if failure.source_row is not None else failure.row,
        "column": failure.column,
        "value": failure.value,
        "rule": failure.rule,
        "source": failure.source,
    }


def _contract_schema(contract: type[Contract]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.duckdb_type,
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, other=list(column.constraints)
                ),
            )
            for column in columns(contract)
        ]
    )


def _code_version(declaration: RawTableDeclaration, contract: type[Contract]) -> str:
    declared = json.dumps(declaration.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(f"{declared}{contract_hash(contract)}".encode()).hexdigest()[:16]


def _schedule(
    declaration: RawTableDeclaration, cron: str, asset: dg.AssetsDefinition
) -> dg.ScheduleDefinition:
    """Materialise the table at the declared times; a daily table its newest complete day, once."""
    name = f"{asset.node_def.name}_load"
    job = dg.define_asset_job(name, selection=[asset])
    if not isinstance(declaration.load, DailyLoad):
        return dg.ScheduleDefinition(job=job, cron_schedule=cron)
    days = declaration.load.days

    @dg.schedule(name=f"{name}_schedule", job=job, cron_schedule=cron)
    def newest_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = days.newest_complete(context.scheduled_execution_time)
        if day is None:
            return dg.SkipReason(f"{declaration.table} has no complete day yet")
        return dg.RunRequest(run_key=day.isoformat(), partition_key=day.isoformat())

    return newest_day
