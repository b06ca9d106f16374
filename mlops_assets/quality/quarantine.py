"""The quarantine table beside each table: what an audit refused, with its reasons.

What belongs here: the table's shape, writing each refused row once, and reading them back. What is
refused is decided in `publishing.py`, or by ingestion for a file that has no readable rows.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import pyarrow as pa

from mlops_assets.lake import Data, Lake, TableExistsError, TableName, Window

_SUFFIX = "__quarantine"


def described(name: str, type_: pa.DataType, comment: str) -> pa.Field:
    """Return an Arrow field with its description."""
    return pa.field(name, type_, metadata={"comment": comment})


REASON_TYPE = pa.struct(
    [("column_name", pa.string()), ("rule", pa.string()), ("value", pa.string())]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        described("table_name", pa.string(), "Table the row was meant for."),
        described("batch_id", pa.string(), "Batch that brought it last."),
        described("source", pa.string(), "File, query or function it was read from."),
        described("source_hash", pa.string(), "SHA-256 of that source."),
        described("source_row", pa.int64(), "Its row in the source, from 1."),
        described("refused_at", pa.timestamp("us", "UTC"), "When it was refused last."),
        described("reasons", pa.list_(REASON_TYPE), "Every rule it broke, with column and value."),
        described("payload", pa.string(), "The row as read, as JSON; null for a whole file."),
        described("window_start", pa.timestamp("us", "UTC"), "Day it belongs to; null: unknown."),
        described("window_end", pa.timestamp("us", "UTC"), "End of that day, exclusive."),
        described("row_id", pa.string(), "What it is known by, whichever batch brings it again."),
    ]
)
"""Arrow schema of every quarantine table, whatever table it stands beside."""


@dataclass(frozen=True)
class Reason:
    """Why a row, a file or a batch was refused.

    Attributes
    ----------
    rule
        What was broken, in words.
    column_name
        The column to blame, where there is one.
    value
        The offending value as text.
    """

    rule: str
    column_name: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class QuarantineCount:
    """How much of one batch was refused.

    Attributes
    ----------
    table, batch_id
        The table the batch was meant for, and the batch.
    rows
        Rows in quarantine; a file that could not be read as rows counts once.
    refused_at
        When the first of them was refused.
    """

    table: TableName
    batch_id: str
    rows: int
    refused_at: datetime


def quarantine_name(table: TableName) -> TableName:
    """Return the name of a table's quarantine: ``raw/flights__quarantine``."""
    return TableName(table.schema, table.name + _SUFFIX)


def is_quarantine(table: TableName) -> bool:
    """Whether ``table`` is the quarantine of another."""
    return table.name.endswith(_SUFFIX)


def quarantine_batch(
    lake: Lake,
    table: TableName,
    reasons: Iterable[Reason],
    *,
    batch_id: str,
    refused_at: datetime,
    source: str | None = None,
    source_hash: str | None = None,
    window: Window | None = None,
) -> None:
    """Record a file or batch that cannot be read as rows, exactly once.

    Parameters
    ----------
    lake, table
        Where it was meant to go.
    reasons
        Why it was refused; at least one.
    batch_id
        The batch.
    refused_at
        When, with a time zone.
    source, source_hash
        What was refused, and the SHA-256 of its bytes. The same source again, unchanged, is the
        same entry; without a source, the same batch is.
    window
        The window that was to be replaced, for a batch as a whole.

    Raises
    ------
    ValueError
        When there is no reason.
    """
    listed = [{"column_name": r.column_name, "rule": r.rule, "value": r.value} for r in reasons]
    if not listed:
        raise ValueError(f"nothing is refused without a reason: {table}, source {source}")
    identity = json.dumps([source or batch_id, source_hash])
    start, end = (None, None) if window is None else instants(window)
    row = {
        "table_name": str(table),
        "batch_id": batch_id,
        "source": source,
        "source_hash": source_hash,
        "source_row": None,
        "refused_at": refused_at,
        "reasons": listed,
        "payload": None,
        "window_start": start,
        "window_end": end,
        "row_id": hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest(),
    }
    quarantine_rows(
        lake, table, pa.Table.from_pylist([row], schema=QUARANTINE_SCHEMA), batch_id=batch_id
    )


def quarantine_rows(lake: Lake, table: TableName, data: Data, *, batch_id: str) -> None:
    """Put refused rows into quarantine, each once.

    A row that is there already, because a batch brought it before, stays one row and takes the
    newer batch, time and reasons; what it said before is in the table's history.

    Parameters
    ----------
    lake, table
        The table that refused the rows.
    data
        Rows of `QUARANTINE_SCHEMA`.
    batch_id
        The batch.
    """
    name = quarantine_name(table)
    if not lake.exists(name):
        description = f"Rows that the audit of {table} refused, and why."
        with suppress(TableExistsError):  # somebody else was faster, which is as good
            lake.create(name, QUARANTINE_SCHEMA, description)
    lake.merge(name, data, keys=["row_id"], metadata={"batch_id": batch_id})


def instants(window: Window) -> tuple[datetime, datetime]:
    """Return a window's bounds as instants; days and local times as they would be in UTC."""
    return _instant(window.start), _instant(window.end)


def _instant(moment: date | datetime) -> datetime:
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time.min, tzinfo=UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def read_quarantine(lake: Lake, table: TableName, *, batch_id: str | None = None) -> pa.Table:
    """Return a table's refused rows, of one batch or of all; no rows where none was ever refused.

    Returns
    -------
    pyarrow.Table
        Of `QUARANTINE_SCHEMA`, oldest first.
    """
    name = quarantine_name(table)
    if not lake.exists(name):
        return QUARANTINE_SCHEMA.empty_table()
    with lake.connect(tables=[name]) as con:
        return con.execute(
            f"""
            SELECT {", ".join(QUARANTINE_SCHEMA.names)} FROM {name.sql}
            WHERE $batch_id IS NULL OR batch_id = $batch_id
            ORDER BY refused_at, batch_id, source, source_row
            """,
            {"batch_id": batch_id},
        ).to_arrow_table()


def quarantine_counts(lake: Lake, table: TableName | None = None) -> tuple[QuarantineCount, ...]:
    """Count refused rows by table and batch, oldest first.

    Parameters
    ----------
    lake
        The lake.
    table
        Count for this table only; by default for every table.
    """
    quarantines = [
        name
        for name in lake.tables()
        if is_quarantine(name) and (table is None or name == quarantine_name(table))
    ]
    found: list[QuarantineCount] = []
    with lake.connect(tables=quarantines) as con:
        for name in quarantines:
            rows = con.execute(
                f"""
                SELECT table_name, batch_id, count(*), min(refused_at)
                FROM {name.sql} GROUP BY ALL ORDER BY ALL
                """
            ).fetchall()
            found += [QuarantineCount(TableName.parse(t), b, n, at) for t, b, n, at in rows]
    return tuple(sorted(found, key=lambda count: (count.refused_at, str(count.table))))
