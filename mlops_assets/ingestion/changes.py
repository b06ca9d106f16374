"""Late and corrected data: for which days a source no longer holds what was loaded from it.

What belongs here: comparing, day by day, the content of a source's files with the content that the
newest load of the day had read. Loading the days again is `ingest`; deciding when is the caller's.

A file counts by its content. Its time of writing only says that it need not be read again, or that
it may still be being written.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

from mlops_assets.ingestion.attempts import Attempt, Outcome, failure_reason, window_attempts
from mlops_assets.ingestion.contents import (
    NO_ROWS,
    DayContent,
    day_contents,
    in_period,
    reading_recipe,
)
from mlops_assets.ingestion.errors import (
    SourceChangedError,
    SourceNotFoundError,
    SourceRefusedError,
    SourceUnavailableError,
)
from mlops_assets.ingestion.locations import Location, locate
from mlops_assets.ingestion.periods import Period, days_of, midnight
from mlops_assets.ingestion.scratch import scratch_folder
from mlops_assets.ingestion.source_files import SeenFile, remember, seen_files
from mlops_assets.ingestion.sources import FileSource
from mlops_assets.ingestion.staging import REFUSALS, stage
from mlops_assets.lake import Lake, TableName, Window
from mlops_assets.quality import Contract, columns
from mlops_assets.quality.contract import ContractColumn, schema_of

SETTLED_AFTER = timedelta(seconds=10)
"""A file that was written less than this ago may be half a file."""


@dataclass(frozen=True)
class DayChange:
    """A day for which the source holds other rows than were loaded.

    Attributes
    ----------
    day
        Which.
    loaded
        What the newest load of the day read, also where the audit refused it; no rows where there
        was none.
    source
        What the source holds now.
    """

    day: date
    loaded: DayContent
    source: DayContent

    def __str__(self) -> str:
        """Return ``2013-05-03 (842 rows, were 841)``."""
        if not self.loaded.rows:
            return f"{self.day} ({self.source.rows} rows, late)"
        if self.source.rows == self.loaded.rows:
            return f"{self.day} ({self.source.rows} rows, other values)"
        return f"{self.day} ({self.source.rows} rows, were {self.loaded.rows})"


@dataclass(frozen=True)
class SourceChanges:
    """What was found when a source was compared with what is loaded of it.

    Attributes
    ----------
    table
        Whose source.
    days
        The days to load again, in order.
    waiting
        Files that could not be compared yet, each with the reason; a later look will.
    unreadable
        Files that cannot be read, each with the reason.
    not_compared
        Days that were loaded under another declaration of the source or another contract: whether
        they differ is not known until they are loaded again.
    """

    table: TableName
    days: tuple[DayChange, ...] = ()
    waiting: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    not_compared: int = 0


def find_changes(
    lake: Lake,
    source: FileSource,
    contract: type[Contract],
    table: TableName,
    *,
    column: str,
    until: date,
    root: Path,
    derived: Mapping[str, str] | None = None,
    settled_after: timedelta = SETTLED_AFTER,
    now: datetime | None = None,
    may_go_on: Callable[[], bool] = lambda: True,
) -> SourceChanges:
    """Compare a source with what was loaded from it.

    The days compared are those from the first to the last that anybody tried to load. So a day in
    between that was never loaded is late as soon as the source has rows for it.

    Parameters
    ----------
    lake, table
        What was loaded.
    source, contract, derived, root
        As for `ingest`.
    column
        The contract's column that says which day a row is of.
    until
        First day that is not looked at.
    settled_after
        A file that was written less than this ago is left for a later look.
    now
        Instant with its time zone; by default the present.
    may_go_on
        Asked before each file that has to be read; on ``False`` the rest is left for a later look.

    Returns
    -------
    SourceChanges
        The same again and again, until the days are loaded or the source changes.

    Raises
    ------
    SourceUnavailableError
        If the source's files cannot be listed.
    ScratchError
        If a private copy of a file cannot be made for lack of space.
    DeclarationError
        If the declaration does not fit the contract.
    """
    newest = _newest_attempts(window_attempts(lake, table), until)
    if not newest:
        return SourceChanges(table)
    wanted = columns(contract)
    look = _Look(
        lake=lake,
        source=source,
        columns=wanted,
        ignore_other_columns=schema_of(contract).strict == "filter",
        table=table,
        day_column=column,
        root=root,
        derived=derived or {},
        recipe=reading_recipe(source, wanted, derived or {}, column),
    )
    loaded = look.loaded(newest)
    held = look.files(newest, now or datetime.now(UTC), settled_after, may_go_on)
    changed = [
        DayChange(day, was, held.content(day))
        for day, was in loaded.items()
        if held.tells(day) and held.content(day) != was
    ]
    return SourceChanges(
        table, tuple(changed), held.waiting, held.unreadable, len(newest) - len(loaded)
    )


def _newest_attempts(attempts: Iterable[Attempt], until: date) -> dict[date, Attempt | None]:
    """Return the newest attempt that has read the rows of each day, from the first to the last.

    None where no attempt has: there was none, or each failed before.
    """
    newest: dict[date, Attempt | None] = {}
    for attempt in attempts:
        if attempt.window_start is None or attempt.window_end is None:
            continue
        has_read = attempt.outcome in {Outcome.published, Outcome.refused}
        for day in days_of(attempt.window_start, attempt.window_end):
            if day < until:
                newest[day] = attempt if has_read else newest.get(day)
    if not newest:
        return {}
    return {day: newest.get(day) for day in days_of(min(newest), max(newest) + timedelta(days=1))}


@dataclass(frozen=True)
class _File:
    """A file that was looked at; without days where it could not be read."""

    period: Period | None
    days: Mapping[date, DayContent] | None


@dataclass(frozen=True)
class _Held:
    """What the files of a source hold."""

    files: Sequence[_File]
    waiting: tuple[str, ...]
    unreadable: tuple[str, ...]

    def tells(self, day: date) -> bool:
        """Whether what the source holds for a day is known.

        Not if a file that may hold rows of it was not read, and not if no file is there for it:
        landing folders are cleaned, and that does not withdraw what came from them.
        """
        of_day = self._of(day)
        return bool(of_day) and all(file.days is not None for file in of_day)

    def content(self, day: date) -> DayContent:
        return sum(((file.days or {}).get(day, NO_ROWS) for file in self._of(day)), NO_ROWS)

    def _of(self, day: date) -> list[_File]:
        return [*self._of_any_day, *self._by_day.get(day, ())]

    @cached_property
    def _of_any_day(self) -> list[_File]:
        return [file for file in self.files if file.period is None]

    @cached_property
    def _by_day(self) -> dict[date, list[_File]]:
        by_day: dict[date, list[_File]] = {}
        for file in self.files:
            for day in file.period.days if file.period else ():
                by_day.setdefault(day, []).append(file)
        return by_day


@dataclass(frozen=True)
class _Look:
    """What one comparison of a source with its table needs to know."""

    lake: Lake
    source: FileSource
    columns: tuple[ContractColumn, ...]
    ignore_other_columns: bool
    table: TableName
    day_column: str
    root: Path
    derived: Mapping[str, str]
    recipe: str

    def loaded(self, newest: Mapping[date, Attempt | None]) -> dict[date, DayContent]:
        """Return what was read for each day when it was loaded; not for incomparable days."""
        found: dict[date, DayContent] = {}
        unrecorded: list[date] = []
        for day, attempt in newest.items():
            if attempt is None or attempt.source_days is None:
                unrecorded.append(day)
            elif attempt.source_days.recipe == self.recipe:
                found[day] = attempt.source_days.days.get(day, NO_ROWS)
        if unrecorded:
            published = self._published(min(unrecorded), max(unrecorded))
            if published is not None:
                found |= {day: published.get(day, NO_ROWS) for day in unrecorded}
        return dict(sorted(found.items()))

    def _published(self, first: date, last: date) -> Mapping[date, DayContent] | None:
        """Return what the table itself holds; None where it lacks a column of the contract."""
        if not self.lake.exists(self.table):
            return {}
        if not {column.name for column in self.columns} <= set(self.lake.schema(self.table).names):
            return None
        days = Window(self.day_column, first, last + timedelta(days=1))
        with self.lake.connect(tables=[self.table]) as con:
            by_file = day_contents(
                con,
                f"(SELECT * FROM {self.table.sql} WHERE {days.sql})",
                self.columns,
                self.day_column,
                refusals="[]",
            )
        held: dict[date, DayContent] = {}
        for contents in by_file.values():
            for day, content in contents.items():
                held[day] = held.get(day, NO_ROWS) + content
        return held

    def files(
        self,
        days: Collection[date],
        now: datetime,
        settled_after: timedelta,
        may_go_on: Callable[[], bool],
    ) -> _Held:
        """Return what the files hold, reading only those that are not known."""
        known = seen_files(self.lake, self.table, self.recipe)
        files: list[_File] = []
        read: list[SeenFile] = []
        waiting: list[str] = []
        unreadable: list[str] = []
        for location in self._locations(days):
            seen: SeenFile | None = None
            try:
                with location.guard():
                    state = location.fingerprint()
                before = known.get(location.uri)
                if before and before.identity == state.identity:
                    seen = before
                elif state.modified_at and now - state.modified_at < settled_after:
                    waiting.append(f"{location.uri} was written just now")
                elif not may_go_on():
                    waiting.append(f"{location.uri} is not read yet")
                else:
                    seen = self._read(location, state.identity, before)
                    read.append(seen)
            except SourceChangedError:
                waiting.append(f"{location.uri} is being written")
            except (SourceRefusedError, SourceUnavailableError) as error:
                unreadable.append(failure_reason(error))
            files.append(_File(location.period, seen.days if seen else None))
        remember(self.lake, self.table, self.recipe, read, seen_at=now)
        return _Held(files, tuple(waiting), tuple(unreadable))

    def _locations(self, days: Collection[date]) -> list[Location]:
        """Return the files that may hold rows of these days; none is there: none is compared."""
        try:
            found = locate(self.source, root=self.root, window=None)
        except SourceNotFoundError:
            return []  # whether that is right, the next load says
        start, end = midnight(min(days)), midnight(max(days) + timedelta(days=1))
        return [
            location
            for location in found
            if location.period is None or location.period.overlaps(start, end)
        ]

    def _read(self, location: Location, identity: str, before: SeenFile | None) -> SeenFile:
        """Read a file, unless its bytes are those of before.

        Parameters
        ----------
        identity
            Of the file before it is read. If it is written meanwhile, the next look sees another.
        """
        known = [(before.uri, before.sha256)] if before else []
        with (
            scratch_folder(self.lake.limits.scratch) as scratch,
            self.lake.connect(tables=()) as con,
        ):
            staged = stage(
                con,
                self.source,
                self.columns,
                root=self.root,
                scratch=scratch,
                window=Window(self.day_column, date.min, date.max),
                derived=self.derived,
                loaded_at=datetime.now(UTC),
                ignore_other_columns=self.ignore_other_columns,
                known=known,
                locations=[location],
            )
            [file] = staged.files
            if before and file.known:
                return replace(before, identity=identity)
            found = day_contents(
                con, staged.relation, self.columns, self.day_column, refusals=REFUSALS
            )
        days = in_period(found.get(file.uri, {}), file.period)
        return SeenFile(file.uri, identity, file.sha256, days)
