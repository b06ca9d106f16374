"""Ingestion: read a source, audit what it gave, publish what passed, quarantine the rest.

The order of steps makes a kill at any moment harmless: until the one commit that publishes, the
table is at its old version, and a batch that is read again has the same id, under which quarantine
and append know it. What came of it is recorded as an attempt, whatever it was.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from mlops_assets.ingestion.attempts import (
    Attempt,
    Outcome,
    Reading,
    bounds,
    mode_name,
    record,
    recorded_failure,
)
from mlops_assets.ingestion.contents import (
    NO_ROWS,
    READING,
    DayContent,
    SourceDays,
    day_contents,
    in_period,
    reading_recipe,
)
from mlops_assets.ingestion.errors import SourceRefusedError
from mlops_assets.ingestion.periods import days_of
from mlops_assets.ingestion.scratch import scratch_folder
from mlops_assets.ingestion.sources import CallableSource, FileSource, SqlSource
from mlops_assets.ingestion.staging import REFUSALS, SourceFile, Staged, stage
from mlops_assets.lake import Lake, TableName, Window
from mlops_assets.quality import (
    AuditPolicy,
    Contract,
    ContractColumn,
    Publication,
    Reason,
    columns,
    contract_hash,
    publish,
    quarantine_batch,
    quarantine_name,
)
from mlops_assets.quality.contract import schema_of
from mlops_assets.quality.policy import Mode


@dataclass(frozen=True)
class Ingestion:
    """What became of one batch.

    Attributes
    ----------
    publication
        The commit, the audit's report, and the numbers of accepted and quarantined rows.
    files
        What was read, with hashes.
    batch_id
        The batch, as the commit and the quarantine table name it.
    outside_window
        Rows that were read and left aside, because they belong to another window. The rows read
        are these, the accepted and the quarantined ones.
    """

    publication: Publication
    files: tuple[SourceFile, ...]
    batch_id: str
    outside_window: int


def ingest(
    lake: Lake,
    source: FileSource | SqlSource | CallableSource,
    contract: type[Contract],
    table: TableName,
    *,
    mode: Mode,
    root: Path,
    policy: AuditPolicy | None = None,
    derived: Mapping[str, str] | None = None,
    window: Window | None = None,
    metadata: Mapping[str, str] | None = None,
    allow_schema_change: bool = False,
    loaded_at: datetime | None = None,
) -> Ingestion:
    """Bring a source into a table of the lake.

    Parameters
    ----------
    lake, table
        Where the rows go.
    source
        The declaration.
    contract
        What the rows must look like.
    mode
        ``"snapshot"`` replaces the table. ``"append"`` adds to it, each file exactly once, so that
        a glob over a growing folder adds what is new; a file must not change once it was read. A
        `Window` replaces that window.
    root
        Folder from which relative paths count.
    policy
        How many refused rows a batch may have.
    derived
        SQL expression by name of the contract column it computes; see `stage`.
    window
        Read only this window, where ``mode`` is not one itself.
    metadata
        Recorded in the commit.
    allow_schema_change
        Whether the commit may change the table's columns.
    loaded_at
        Time of reading; by default now.

    Returns
    -------
    Ingestion

    Raises
    ------
    SourceRefusedError
        If any file cannot be read as rows. Each such file is in quarantine, with its reason; the
        table is as it was.
    BatchRefused
        If the audit refuses the batch; its rows are in quarantine and the table is as it was.
    IngestionError
        If the source cannot be reached, changed while it was read, or is declared wrongly.
    LakeError
        If the lake cannot be written; the table is as it was.
    """
    with recorded_failure(lake, table, mode, metadata) as reading:
        done = _ingest(
            lake,
            source,
            contract,
            table,
            mode=mode,
            root=root,
            policy=policy,
            derived=derived or {},
            window=mode if isinstance(mode, Window) else window,
            metadata=metadata,
            allow_schema_change=allow_schema_change,
            loaded_at=loaded_at or datetime.now(UTC),
            reading=reading,
        )
    start, end = bounds(mode)
    record(
        lake,
        Attempt(
            table=table,
            mode=mode_name(mode),
            outcome=Outcome.published,
            reason="",
            attempted_at=datetime.now(UTC),
            window_start=start,
            window_end=end,
            batch_id=done.batch_id,
            sources=[file.uri for file in done.files if not file.known],
            rows_read=done.publication.report.rows,
            refused_rows=done.publication.quarantined,
            table_version=lake.version(table),
            metadata=metadata,
            source_days=reading.source_days,
        ),
    )
    return done


def _ingest(
    lake: Lake,
    source: FileSource | SqlSource | CallableSource,
    contract: type[Contract],
    table: TableName,
    *,
    mode: Mode,
    root: Path,
    policy: AuditPolicy | None,
    derived: Mapping[str, str],
    window: Window | None,
    metadata: Mapping[str, str] | None,
    allow_schema_change: bool,
    loaded_at: datetime,
    reading: Reading,
) -> Ingestion:
    appends = mode == "append" and lake.exists(table)
    wanted = columns(contract)
    recipe = {
        "table": str(table),
        "reading": source.model_dump(mode="json", include=set(READING)),
        "contract": contract_hash(contract),
        "derived": dict(derived),
        "window": None if window is None else str(window),
    }
    with (
        scratch_folder(lake.limits.scratch) as scratch,
        lake.connect(tables=(table,) if appends else ()) as con,
    ):
        try:
            staged = stage(
                con,
                source,
                wanted,
                root=root,
                scratch=scratch,
                window=window,
                derived=derived,
                loaded_at=loaded_at,
                ignore_other_columns=schema_of(contract).strict == "filter",
                known=_published(con, table) if appends else (),
            )
        except SourceRefusedError as error:
            raise _quarantined(lake, table, error, recipe, loaded_at) from error
        if isinstance(source, FileSource) and isinstance(mode, Window):
            reading.source_days = _read_days(con, source, wanted, derived, mode, staged)
        batch_id = _batch_id(recipe, [(file.uri, file.sha256) for file in staged.files])
        publication = publish(
            lake,
            con,
            staged.relation,
            contract,
            table,
            mode=mode,
            batch_id=batch_id,
            policy=policy,
            metadata=metadata,
            allow_schema_change=allow_schema_change,
        )
    return Ingestion(publication, staged.files, batch_id, staged.outside_window)


def _read_days(
    con: duckdb.DuckDBPyConnection,
    source: FileSource,
    wanted: Sequence[ContractColumn],
    derived: Mapping[str, str],
    window: Window,
    staged: Staged,
) -> SourceDays:
    """Sum up what was read for each day of the window, whatever the audit will say of it."""
    found = day_contents(con, staged.relation, wanted, window.column, refusals=REFUSALS)
    inside = set(days_of(window.start, window.end))
    days: dict[date, DayContent] = {}
    for file in staged.files:
        for day, content in in_period(found.get(file.uri, {}), file.period).items():
            if day in inside:
                days[day] = days.get(day, NO_ROWS) + content
    return SourceDays(reading_recipe(source, wanted, derived, window.column), days)


def _published(con: duckdb.DuckDBPyConnection, table: TableName) -> list[tuple[str, str]]:
    """Return URI and hash of every file that has rows in the table."""
    return con.execute(f"SELECT DISTINCT _source, _source_hash FROM {table.sql}").fetchall()


def _quarantined(
    lake: Lake,
    table: TableName,
    error: SourceRefusedError,
    recipe: Mapping[str, object],
    refused_at: datetime,
) -> SourceRefusedError:
    """Record each unreadable file, and return the error that also tells where."""
    unreadable = [(refusal.source, refusal.source_hash or "") for refusal in error.refusals]
    batch_id = _batch_id(recipe, [*unreadable, *error.readable])
    for refusal in error.refusals:
        place = "" if refusal.row is None else f" (row {refusal.row})"
        quarantine_batch(
            lake,
            table,
            [Reason(f"{refusal.rule}: {refusal.problem}{place}", refusal.column, refusal.value)],
            batch_id=batch_id,
            refused_at=refused_at,
            source=refusal.source,
            source_hash=refusal.source_hash,
        )
    kept = (
        f"{table} stays at version {lake.version(table)}"
        if lake.exists(table)
        else f"{table} was not created"
    )
    return SourceRefusedError(
        error.refusals,
        files=error.files,
        readable=error.readable,
        outcome=f"Recorded in {quarantine_name(table)}, batch_id {batch_id!r}. {kept}.",
    )


def _batch_id(recipe: Mapping[str, object], sources: list[tuple[str, str]]) -> str:
    content = json.dumps([recipe, sorted(sources)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]
