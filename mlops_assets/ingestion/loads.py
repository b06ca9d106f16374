"""What is loaded of a table and what is not: its days, and the refused rows that are still open.

What belongs here: putting together what the table's commits say was published and what the log of
attempts says has failed since. Nothing is stored: a day that is mended is gone from the answer, and
one that a restore has taken away is back in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

from mlops_assets.ingestion.attempts import ATTEMPTS, Attempt, failures
from mlops_assets.ingestion.periods import days_of
from mlops_assets.lake import Lake, TableName
from mlops_assets.quality import PublishedBatch, published_batches, quarantine_name

NEVER_LOADED = "never loaded"


@dataclass(frozen=True)
class Shortfall:
    """Days that follow each other, or a whole table, for which the newest attempt did not publish.

    Attributes
    ----------
    first, last
        The days, both inclusive; None where the table is not loaded by day.
    outcome
        What came of the newest attempt; ``never loaded`` for a gap where there was none.
    reason
        Why, in a line.
    kept
        Whether rows of an earlier load are still published for it.
    """

    first: date | None
    last: date | None
    outcome: str
    reason: str
    kept: bool

    @property
    def days(self) -> int:
        """How many days these are; 0 for a whole table."""
        return 0 if self.first is None or self.last is None else (self.last - self.first).days + 1

    def __str__(self) -> str:
        """Return ``2024-01-03 (refused: 40.00% of 10 rows, order_id: not null)``."""
        cause = f"{self.outcome}: {self.reason}" if self.reason else self.outcome
        if self.first is None:
            return cause
        span = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return f"{span} ({cause})"


@dataclass(frozen=True)
class Loads:
    """How complete a table is.

    Attributes
    ----------
    table
        Which.
    days
        Days from the first to the last that anybody tried to load; 0 where it is not loaded by day.
    shortfalls
        What is not loaded, or no longer the newest, in order of days.
    open_quarantine
        Refused rows that no later load has replaced; see `OPEN_QUARANTINE`.
    """

    table: TableName
    days: int
    shortfalls: tuple[Shortfall, ...]
    open_quarantine: int

    def lines(self) -> list[str]:
        """Say what is short, a line for each kind; no line where all is well."""
        told = []
        for kept, words in ((False, "not loaded"), (True, "not reloaded, earlier rows stay")):
            found = [s for s in self.shortfalls if s.kept is kept]
            if found:
                number = sum(s.days for s in found)
                count = f"{number} of {self.days} days " if number else ""
                told.append(f"{self.table}: {count}{words}: {', '.join(map(str, found))}")
        return told


OPEN_QUARANTINE = """\
select q.*
from {quarantine} as q
where not exists (
  select 1
  from ingestion.attempts as a
  where a.table_name = q.table_name and a.outcome = 'published'
    and a.attempted_at > q.refused_at and a.batch_id <> q.batch_id
    and (a.mode = 'snapshot'
         or (q.window_start >= a.window_start and q.window_end <= a.window_end)
         or (q.window_start is null
             and (q.source is null or list_contains(a.sources, q.source)))))"""
"""SQL of the refused rows that are still open, with the name of a quarantine table to fill in.

A row is closed once another batch was published over the day it belongs to. Where its day is not
known, because it has none or was never in the window, that batch has read the row's source again.
"""


def table_loads(lake: Lake, table: TableName) -> Loads:
    """Tell how complete a table is.

    Parameters
    ----------
    lake, table
        The table; it may have been tried and never been made.
    """
    published, failed = published_batches(lake, table), failures(lake, table)
    daily, attempts = _days_published(published), _days_failed(failed)
    whole = _whole_table(published, failed)
    opened = open_quarantine(lake, table)
    if not daily and not attempts:
        return Loads(table, 0, whole, opened)
    touched = [*daily, *attempts]
    first, last = min(touched), max(touched)
    span = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    verdicts = [(day, _verdict(daily.get(day), attempts.get(day))) for day in span]
    return Loads(table, len(span), (*whole, *_compressed(verdicts)), opened)


def open_quarantine(lake: Lake, table: TableName) -> int:
    """Count the refused rows of a table that are still open."""
    quarantine = quarantine_name(table)
    if not lake.exists(quarantine):
        return 0
    tables = [name for name in (quarantine, ATTEMPTS) if lake.exists(name)]
    query = OPEN_QUARANTINE if ATTEMPTS in tables else "select * from {quarantine}"
    with lake.connect(tables=tables) as con:
        [(count,)] = con.execute(
            f"SELECT count(*) FROM ({query.format(quarantine=quarantine.sql)})"
        ).fetchall()
    return int(count)


_Cause = tuple[str, str, bool]


def _verdict(loaded: datetime | None, failed: Attempt | None) -> _Cause | None:
    """Return outcome, reason and whether rows are kept; None where the newest load is published."""
    if failed is not None and (loaded is None or failed.attempted_at > loaded):
        return str(failed.outcome), failed.reason, loaded is not None
    return None if loaded is not None else (NEVER_LOADED, "", False)


def _days_published(published: Iterable[PublishedBatch]) -> dict[date, datetime]:
    """Return when each day was published last."""
    return {
        day: batch.at
        for batch in published
        if batch.window is not None
        for day in days_of(batch.window.start, batch.window.end)
    }


def _days_failed(failed: Iterable[Attempt]) -> dict[date, Attempt]:
    """Return the newest failed attempt at each day."""
    return {
        day: attempt
        for attempt in failed
        if attempt.window_start is not None and attempt.window_end is not None
        for day in days_of(attempt.window_start, attempt.window_end)
    }


def _whole_table(
    published: Sequence[PublishedBatch], failed: Sequence[Attempt]
) -> tuple[Shortfall, ...]:
    """Return the newest attempt at a table as a whole, if it failed."""
    newest = next((attempt for attempt in reversed(failed) if attempt.window_start is None), None)
    if newest is None or any(batch.at >= newest.attempted_at for batch in published):
        return ()
    return (Shortfall(None, None, str(newest.outcome), newest.reason, bool(published)),)


def _compressed(verdicts: Sequence[tuple[date, _Cause | None]]) -> Iterable[Shortfall]:
    for cause, group in groupby(verdicts, key=lambda verdict: verdict[1]):
        if cause is not None:
            days = [day for day, _ in group]
            outcome, reason, kept = cause
            yield Shortfall(days[0], days[-1], outcome, reason, kept)
