"""The log of attempts: one row for each time somebody tried to bring a batch into a table.

What belongs here: the append-only table ``ingestion/attempts``, writing to it and reading it back.
That a batch is published is the truth of the table's own commits; that one failed would otherwise
be told by nothing that lasts. What follows for a table's days is `loads.py`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa

from mlops_assets.ingestion.contents import SourceDays
from mlops_assets.ingestion.errors import (
    SourceChangedError,
    SourceNotFoundError,
    SourceRefusedError,
    SourceUnavailableError,
    shorten,
)
from mlops_assets.lake import Lake, LakeError, TableName, Window
from mlops_assets.quality import AuditReport, BatchRefused
from mlops_assets.quality.policy import Mode
from mlops_assets.quality.quarantine import described, instants

ATTEMPTS = TableName("ingestion", "attempts")
_DESCRIPTION = "Every attempt to bring a batch into a table: what came of it, and why."
_SHOWN = 3


class Outcome(StrEnum):
    """What came of an attempt."""

    published = "published"
    refused = "refused"
    unreadable = "unreadable"
    missing = "missing"
    changed = "changed"
    unavailable = "unavailable"
    failed = "failed"


@dataclass(frozen=True)
class Attempt:
    """One attempt to bring a batch into a table.

    Attributes
    ----------
    table
        Where the batch was to go.
    mode
        ``snapshot``, ``append`` or ``window``.
    outcome, reason
        What came of it, and why in a line; no reason where it was published.
    attempted_at
        When it ended, in UTC.
    window_start, window_end
        Half-open window that was to be replaced, as instants in UTC; None for the other modes.
    batch_id
        The batch; None where it was not read far enough to have one.
    sources
        What was read.
    rows_read, refused_rows
        Rows that were read, and those in quarantine; None where it was not read.
    table_version
        Version the table then had; None where there was no table.
    metadata
        What the caller recorded, such as a run id.
    source_days
        What the source held for the days of the window; None where it was not read that far, is
        not files, or the window is no days.
    """

    table: TableName
    mode: str
    outcome: Outcome
    reason: str
    attempted_at: datetime
    window_start: datetime | None = None
    window_end: datetime | None = None
    batch_id: str | None = None
    sources: Sequence[str] = ()
    rows_read: int | None = None
    refused_rows: int | None = None
    table_version: int | None = None
    metadata: Mapping[str, str] | None = None
    source_days: SourceDays | None = None


@dataclass
class Reading:
    """What an attempt that is under way has read so far.

    Attributes
    ----------
    source_days
        As in `Attempt`.
    """

    source_days: SourceDays | None = None


_INSTANT = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        described("attempted_at", _INSTANT, "When the attempt ended."),
        described("table_name", pa.string(), "Table the batch was meant for."),
        described("mode", pa.string(), "snapshot, append or window."),
        described("window_start", _INSTANT, "Start of the window; null without one."),
        described("window_end", _INSTANT, "End of the window, exclusive."),
        described("outcome", pa.string(), f"One of {', '.join(Outcome)}."),
        described("reason", pa.string(), "Why it was not published; empty where it was."),
        described("batch_id", pa.string(), "The batch; null where it was not read that far."),
        described("sources", pa.list_(pa.string()), "Files, query or function that were read."),
        described("rows_read", pa.int64(), "Rows read."),
        described("refused_rows", pa.int64(), "Rows of it in quarantine."),
        described("table_version", pa.int64(), "Version the table then had; null: no table."),
        described("metadata", pa.string(), "What the caller recorded, as JSON."),
        described("source_days", pa.string(), "Number and hash of the rows read by day, as JSON."),
    ]
)


def record(lake: Lake, attempt: Attempt) -> None:
    """Append one attempt to the log."""
    row = {
        "attempted_at": attempt.attempted_at,
        "table_name": str(attempt.table),
        "mode": attempt.mode,
        "window_start": attempt.window_start,
        "window_end": attempt.window_end,
        "outcome": str(attempt.outcome),
        "reason": attempt.reason,
        "batch_id": attempt.batch_id,
        "sources": list(attempt.sources),
        "rows_read": attempt.rows_read,
        "refused_rows": attempt.refused_rows,
        "table_version": attempt.table_version,
        "metadata": json.dumps(dict(attempt.metadata or {}), sort_keys=True),
        "source_days": attempt.source_days.to_json() if attempt.source_days else None,
    }
    lake.append(
        ATTEMPTS,
        pa.Table.from_pylist([row], schema=SCHEMA),
        description=_DESCRIPTION,
        allow_schema_change=True,  # a log that an earlier release began lacks newer columns
    )


def failures(lake: Lake, table: TableName) -> tuple[Attempt, ...]:
    """Return the attempts at a table that did not publish, oldest first."""
    return _attempts(lake, table, "outcome <> 'published'")


def window_attempts(lake: Lake, table: TableName) -> tuple[Attempt, ...]:
    """Return the attempts at windows of a table, oldest first."""
    return _attempts(lake, table, "window_start IS NOT NULL")


def _attempts(lake: Lake, table: TableName, condition: str) -> tuple[Attempt, ...]:
    if not lake.exists(ATTEMPTS):
        return ()
    with lake.connect(tables=[ATTEMPTS]) as con:
        rows = con.sql(
            f"SELECT * FROM {ATTEMPTS.sql} WHERE table_name = ? AND {condition} "
            "ORDER BY attempted_at",
            params=[str(table)],
        ).to_arrow_table()
    return tuple(map(_attempt, rows.to_pylist()))


def _attempt(row: Mapping[str, Any]) -> Attempt:
    days = row.get("source_days")
    return Attempt(
        **{
            **{name: value for name, value in row.items() if name != "table_name"},
            "table": TableName.parse(row["table_name"]),
            "outcome": Outcome(row["outcome"]),
            "metadata": json.loads(row["metadata"]),
            "source_days": SourceDays.from_json(days) if days else None,
        }
    )


@contextmanager
def recorded_failure(
    lake: Lake, table: TableName, mode: Mode, metadata: Mapping[str, str] | None
) -> Iterator[Reading]:
    """Record whatever goes wrong inside as a failed attempt, and let it pass.

    Gives a place for what is read inside.
    """
    reading = Reading()
    try:
        yield reading
    except Exception as error:
        try:
            record(lake, failed_attempt(lake, table, mode, error, metadata, reading))
        except LakeError as unwritable:
            # The first error is the one to tell; that the lake takes no notes is added to it.
            error.add_note(f"The attempt could not be recorded in {ATTEMPTS}: {unwritable}")
        raise


def failed_attempt(
    lake: Lake,
    table: TableName,
    mode: Mode,
    error: Exception,
    metadata: Mapping[str, str] | None,
    reading: Reading,
) -> Attempt:
    """Describe an attempt that ended in an error."""
    refused = error if isinstance(error, BatchRefused) else None
    outcomes = {
        BatchRefused: Outcome.refused,
        SourceRefusedError: Outcome.unreadable,
        SourceNotFoundError: Outcome.missing,
        SourceChangedError: Outcome.changed,
        SourceUnavailableError: Outcome.unavailable,
    }
    start, end = bounds(mode)
    return Attempt(
        table=table,
        mode=mode_name(mode),
        outcome=outcomes.get(type(error), Outcome.failed),
        reason=failure_reason(error),
        attempted_at=datetime.now(UTC),
        window_start=start,
        window_end=end,
        batch_id=refused.batch_id if refused else None,
        sources=[r.source for r in error.refusals] if isinstance(error, SourceRefusedError) else (),
        rows_read=refused.report.rows if refused else None,
        refused_rows=refused.report.rows if refused else None,
        table_version=lake.version(table) if lake.exists(table) else None,
        metadata=metadata,
        # Only what was judged was read to a purpose; after another error it is to be read again.
        source_days=reading.source_days if refused else None,
    )


def mode_name(mode: Mode) -> str:
    """Return ``snapshot``, ``append`` or ``window``."""
    return "window" if isinstance(mode, Window) else mode


def bounds(mode: Mode) -> tuple[datetime, datetime] | tuple[None, None]:
    """Return the bounds of a window as instants; none for the other modes."""
    return instants(mode) if isinstance(mode, Window) else (None, None)


def failure_reason(error: Exception) -> str:
    """Say in one line why an attempt failed."""
    if isinstance(error, BatchRefused):
        return _refusal(error.report)
    if isinstance(error, SourceRefusedError):
        first, more = error.refusals[0], len(error.refusals) - 1
        return f"{first.source}: {shorten(first.problem)}" + (f"; {more} more" if more else "")
    text = str(error) or type(error).__name__
    # What follows the first sentence is what to do about it.
    return shorten(re.split(r"\.\s+(?=[A-Z])|\n", text, maxsplit=1)[0])


def _refusal(report: AuditReport) -> str:
    """Sum a refused batch up: ``40.00% of 10 rows: order_id not null``."""
    by_row = [check for check in report.broken if check.scope == "row"]
    if by_row:
        rules = [f"{c.column}: {c.rule}" if c.column else c.rule for c in by_row]
        more = f" and {len(rules) - _SHOWN} more rules" if len(rules) > _SHOWN else ""
        share = f"{report.refused_share:.2%} of {report.rows:,} rows"
        return f"{share}, {'; '.join(rules[:_SHOWN])}{more}"
    causes = [failure.rule for check in report.broken for failure in check.samples]
    more = f"; {len(causes) - _SHOWN} more" if len(causes) > _SHOWN else ""
    return "; ".join(causes[:_SHOWN]) + more
