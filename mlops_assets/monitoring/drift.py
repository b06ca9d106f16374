"""Drift: how far current rows are from a reference, column by column.

Per column: the population stability index (Lewis 1994, An Introduction to Credit Scoring), the
Jensen-Shannon distance (Lin 1991, IEEE Transactions on Information Theory 37, 145-151; base 2,
between 0 and 1), for numbers the Kolmogorov-Smirnov distance, the change of the share of missing
values, and for texts the share of rows with a new level. Each comes with its threshold: the greater
of what is declared harmless and what chance does at these sizes, which is said in
`mlops_assets.monitoring.no_change`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features.identifiers import quote
from mlops_assets.monitoring.errors import MonitoringError
from mlops_assets.monitoring.no_change import NoChange
from mlops_assets.monitoring.profile import (
    LevelProfile,
    NumericProfile,
    ReferenceProfile,
    Subject,
    check_columns,
)
from mlops_assets.training.family_monitoring import DriftPolicy

if TYPE_CHECKING:
    import duckdb

_EXAMPLES = 5  # new levels that are named
_PRIOR = 0.5  # rows added to each bin, as in Jeffreys' prior


@dataclass(frozen=True)
class Statistic:
    """A drift statistic and the value that it must exceed to count.

    Attributes
    ----------
    value
        What was found.
    by_chance
        What it exceeds with a probability of alpha although nothing has changed.
    threshold
        The greater of that and what is declared harmless.
    """

    value: float
    by_chance: float
    threshold: float

    @property
    def exceeded(self) -> bool:
        """Whether it counts."""
        return self.value > self.threshold

    def __str__(self) -> str:
        side = "above" if self.exceeded else "within"
        return f"{self.value:.3f} {side} {self.threshold:.3f}"


@dataclass(frozen=True)
class ColumnDrift:
    """How one column differs from the reference.

    Attributes
    ----------
    column, subject
        Which one, and what it is.
    psi, jensen_shannon
        None where either side has no value at all.
    kolmogorov_smirnov
        None also for texts.
    kolmogorov_smirnov_error
        By how much the true distance may exceed the one found, because only the bounds of cells are
        compared; 0 where each cell holds one value.
    missing
        Absolute change of the share of missing values.
    missing_share, reference_missing_share
        The shares.
    new_levels
        Share of current rows with a level that the reference has not; None for numbers, and for a
        text with too many levels to keep.
    new_level_examples
        Some of them, the most frequent first.
    reasons
        What exceeded its threshold, in words; empty where nothing did.
    """

    column: str
    subject: Subject
    psi: Statistic | None
    jensen_shannon: Statistic | None
    kolmogorov_smirnov: Statistic | None
    kolmogorov_smirnov_error: float | None
    missing: Statistic
    missing_share: float
    reference_missing_share: float
    new_levels: Statistic | None
    new_level_examples: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def drifted(self) -> bool:
        """Whether anything exceeded its threshold."""
        return bool(self.reasons)


@dataclass(frozen=True)
class DriftReport:
    """How current rows differ from a reference.

    Attributes
    ----------
    subject
        What the columns are.
    reference
        Where the reference is from.
    rows, days
        Current rows, and how many days they are of.
    state
        `compared`; `no rows` and `too few rows` say that nothing was judged, and why.
    columns
        One a column of the profile; empty where nothing was judged.
    """

    subject: Subject
    reference: str
    rows: int
    days: int
    state: str
    columns: tuple[ColumnDrift, ...]

    @property
    def drifted(self) -> tuple[str, ...]:
        """Columns that drifted."""
        return tuple(column.column for column in self.columns if column.drifted)

    @property
    def drifted_share(self) -> float:
        """Share of the columns that drifted; 0 where nothing was judged."""
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


@dataclass(frozen=True)
class WindowDrift:
    """A drift report of a window of days.

    Attributes
    ----------
    window_days
        Its length.
    report
        Column by column.
    reconstruction
        Of all columns together; None where it was not looked at.
    """

    window_days: int
    report: DriftReport
    reconstruction: Statistic | None = None


COMPARED, NO_ROWS, TOO_FEW = "compared", "no rows", "too few rows"
"""States of a report."""


def find_drift(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    profile: ReferenceProfile,
    policy: DriftPolicy | None = None,
    *,
    day: str | None = None,
) -> DriftReport:
    """Compare current rows with a reference.

    Parameters
    ----------
    con
        A session that knows the relation.
    relation
        What stands after FROM: a table, or a query in parentheses, as for `profile_reference`. It
        has the profile's columns; others do not matter. Store a window of a large table as a
        temporary table first: every column is a query, which would filter it anew.
    profile
        Of the reference.
    policy
        What counts; by default the declaration's defaults.
    day
        Column with each row's day. By default all rows count as one day's.

    Raises
    ------
    MonitoringError
        When a column of the profile is absent, or has become text or number.
    """
    days_sql = f"count(DISTINCT {quote(day)}::DATE)" if day else "1"
    [report] = _find(con, relation, profile, policy or DriftPolicy(), day, days_sql, "0", 1)
    return report


def find_drift_by_window(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    profile: ReferenceProfile,
    policy: DriftPolicy,
    *,
    day: str,
    last: date,
    windows: Sequence[int],
) -> dict[int, DriftReport]:
    """Compare windows that end with one day with a reference, reading each column once for all.

    Parameters
    ----------
    con, relation, profile, policy
        As for `find_drift`; the relation holds the longest window and nothing else.
    day
        Column with each row's day.
    last
        Last day of every window.
    windows
        Their lengths in days, rising.

    Returns
    -------
    dict
        Length to what was found.

    Raises
    ------
    MonitoringError
        As for `find_drift`.
    """
    shorter = "".join(
        f"WHEN {quote(day)}::DATE > DATE '{last - timedelta(days=length):%Y-%m-%d}' THEN {place} "
        for place, length in enumerate(windows[:-1])
    )
    ring = f"CASE {shorter}ELSE {len(windows) - 1} END" if shorter else "0"
    days_sql = f"count(DISTINCT {quote(day)}::DATE)"
    found = _find(con, relation, profile, policy, day, days_sql, ring, len(windows))
    return dict(zip(windows, found, strict=True))


def _find(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    profile: ReferenceProfile,
    policy: DriftPolicy,
    day: str | None,
    days_sql: str,
    ring: str,
    windows: int,
) -> list[DriftReport]:
    """Compare windows that lie in each other.

    Parameters
    ----------
    ring
        SQL of the shortest window that holds a row, counted from 0.
    windows
        How many there are.
    """
    names = [column.name for column in profile.columns]
    kinds = check_columns(con, relation, [*names, *([day] if day else [])], free=day)
    for column in profile.columns:
        number = isinstance(column, NumericProfile)
        if kinds[column.name] != number:
            was, now = ("a number", "text") if number else ("text", "a number")
            raise MonitoringError(
                f"{relation}, column {column.name}: is {now}, and was {was} in the reference "
                f"{profile.source}. Cast it, or make a new reference"
            )
    sizes = {
        place: (rows, days)
        for place, rows, days in con.execute(
            f"SELECT {ring}, count(*), {days_sql} FROM {relation} GROUP BY ALL"
        ).fetchall()
    }
    # Days of one ring are in no other, so that both add up.
    each = [sizes.get(place, (0, 0)) for place in range(windows)]
    totals = [
        (sum(rows for rows, _ in each[: place + 1]), sum(days for _, days in each[: place + 1]))
        for place in range(windows)
    ]
    states = [
        NO_ROWS if not rows else TOO_FEW if rows < policy.min_rows else COMPARED
        for rows, _ in totals
    ]
    found: list[list[ColumnDrift]] = [[] for _ in states]
    counting = _Counting(con, relation, ring, windows)
    for column in profile.columns if COMPARED in states else ():
        if isinstance(column, NumericProfile):
            counts: Sequence[_Numbers | _Texts] = counting.numbers(column)
        else:
            counts = counting.texts(column)
        for place, state in enumerate(states):
            if state == COMPARED:
                rows, days = totals[place]
                compare = _Comparison(profile.subject, rows, days, policy)
                found[place].append(compare.column(column, counts[place]))
    return [
        DriftReport(profile.subject, profile.source, rows, days, state, tuple(columns))
        for (rows, days), state, columns in zip(totals, states, found, strict=True)
    ]


@dataclass(frozen=True)
class _Numbers:
    """Rows of a numeric column: in each cell of the reference's grid, and those without a value."""

    cells: Mapping[int, int]
    missing: int


@dataclass(frozen=True)
class _Texts:
    """Rows of a text column: of each level that the reference has, and of none."""

    levels: Mapping[str, int]
    missing: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class _Counting:
    """Counts rows of windows that lie in each other: a column is one query."""

    con: "duckdb.DuckDBPyConnection"
    relation: str
    ring: str
    windows: int

    def numbers(self, reference: NumericProfile) -> list[_Numbers]:
        cell = reference.grid.sql(reference.name) if reference.grid is not None else None
        if cell is None:
            # The reference has no value: all that can be told is which rows have one.
            cell = f"CASE WHEN NOT isnan({quote(reference.name)}::DOUBLE) THEN 0 END"
        counted = self.con.execute(
            f"SELECT {self.ring}, {cell}, count(*) FROM {self.relation} GROUP BY ALL"
        ).fetchall()
        found = []
        for place in range(self.windows):
            cells: Counter[int | None] = Counter()
            for ring, number, rows in counted:
                if ring <= place:
                    cells[number] += rows
            missing = cells.pop(None, 0)
            found.append(_Numbers({n: rows for n, rows in cells.items() if n is not None}, missing))
        return found

    def texts(self, reference: LevelProfile) -> list[_Texts]:
        name, known = quote(reference.name), list(reference.levels)
        value = f"{name}::VARCHAR"
        counted = self.con.execute(
            f"SELECT {self.ring}, CASE WHEN {value} IN (SELECT unnest($known::VARCHAR[])) "
            f"THEN {value} END, {name} IS NULL, count(*) FROM {self.relation} GROUP BY ALL",
            {"known": known},
        ).fetchall()
        unknown = any(level is None and not absent for _, level, absent, _ in counted)
        fresh: list[tuple[int, str, int]] = []
        if unknown and not reference.others:
            fresh = self.con.execute(
                f"SELECT {self.ring}, {value}, count(*) FROM {self.relation} "
                f"WHERE {name} IS NOT NULL AND {value} NOT IN (SELECT unnest($known::VARCHAR[])) "
                "GROUP BY ALL",
                {"known": known},
            ).fetchall()
        found = []
        for place in range(self.windows):
            levels: Counter[str] = Counter()
            others: Counter[str] = Counter()
            missing = 0
            for ring, level, absent, rows in counted:
                if ring <= place and level is not None:
                    levels[level] += rows
                elif ring <= place and absent:
                    missing += rows
            for ring, level, rows in fresh:
                if ring <= place:
                    others[level] += rows
            most = sorted(others, key=lambda level: (-others[level], level))[:_EXAMPLES]
            found.append(_Texts(levels, missing, tuple(most)))
        return found


@dataclass(frozen=True)
class _Comparison:
    subject: Subject
    rows: int
    days: int
    policy: DriftPolicy

    def column(
        self, reference: NumericProfile | LevelProfile, counts: _Numbers | _Texts
    ) -> ColumnDrift:
        if isinstance(reference, NumericProfile) and isinstance(counts, _Numbers):
            return self._numeric(reference, counts)
        if isinstance(reference, LevelProfile) and isinstance(counts, _Texts):
            return self._levels(reference, counts)
        raise TypeError(f"{reference.name}: counted as {type(counts).__name__}")

    def _numeric(self, reference: NumericProfile, counted: _Numbers) -> ColumnDrift:
        if reference.grid is None:
            return self._found(reference, missing=counted.missing)
        counts, before = reference.joined(counted.cells), np.array(reference.counts)
        distance, error = kolmogorov_smirnov(counts, before, exact=reference.grid.exact)
        return self._found(
            reference,
            missing=counted.missing,
            shares=(reference.shares(counts), reference.shares(before)),
            distance=distance,
            error=error,
        )

    def _levels(self, reference: LevelProfile, counted: _Texts) -> ColumnDrift:
        present = self.rows - counted.missing
        return self._found(
            reference,
            missing=counted.missing,
            shares=(
                reference.shares(counted.levels, present),
                reference.shares(reference.levels, reference.rows - reference.missing),
            ),
            unknown=None if reference.others else present - sum(counted.levels.values()),
            examples=counted.examples,
        )

    def _found(
        self,
        reference: NumericProfile | LevelProfile,
        *,
        missing: int,
        shares: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        distance: float | None = None,
        error: float | None = None,
        unknown: int | None = None,
        examples: tuple[str, ...] = (),
    ) -> ColumnDrift:
        policy = self.policy
        present, before = self.rows - missing, reference.rows - reference.missing
        psi = jensen = smirnov = new = None
        if shares is not None and present and before:
            chance = NoChange(present, before, self.days, reference.effects, policy.alpha)
            bins = max(2, int(np.count_nonzero(shares[1])))
            psi = _statistic(stability_index(*shares), chance.psi(bins), policy.psi)
            jensen = _statistic(
                jensen_shannon(*shares), chance.jensen_shannon(bins), policy.jensen_shannon
            )
            if distance is not None:
                smirnov = _statistic(
                    distance, chance.kolmogorov_smirnov(), policy.kolmogorov_smirnov
                )
            if unknown is not None and isinstance(reference, LevelProfile):
                new = _statistic(
                    unknown / self.rows, chance.unseen(reference.once), policy.new_levels
                )
        everyone = NoChange(self.rows, reference.rows, self.days, reference.effects, policy.alpha)
        share, share_before = missing / self.rows, reference.missing / reference.rows
        gap = _statistic(
            abs(share - share_before), everyone.missing(reference.missing), policy.missing
        )
        name = policy.statistic
        if name == "kolmogorov_smirnov" and smirnov is None:
            name = "jensen_shannon"  # a text has no order
        deciding = {"psi": psi, "jensen_shannon": jensen, "kolmogorov_smirnov": smirnov}[name]
        reasons = _reasons(name, deciding, gap, (share_before, share), new, examples)
        return ColumnDrift(
            column=reference.name,
            subject=self.subject,
            psi=psi,
            jensen_shannon=jensen,
            kolmogorov_smirnov=smirnov,
            kolmogorov_smirnov_error=None if smirnov is None else error,
            missing=gap,
            missing_share=share,
            reference_missing_share=share_before,
            new_levels=new,
            new_level_examples=examples,
            reasons=reasons,
        )


def stability_index(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Return the population stability index of rows by bin, each of shape (bins,).

    Both sides are drawn alike towards equal shares, by half a row of the smaller one a bin, so that
    an empty bin gives no infinite index and equal shares give zero.
    """
    prior = _PRIOR / min(current.sum(), reference.sum())
    now, before = (
        (counts / counts.sum() + prior) / (1 + prior * len(counts))
        for counts in (current, reference)
    )
    return float(((now - before) * np.log(now / before)).sum())


def jensen_shannon(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Return the Jensen-Shannon distance in base 2 of rows by bin, each of shape (bins,)."""
    from scipy.special import rel_entr

    now, before = current / current.sum(), reference / reference.sum()
    middle = (now + before) / 2
    divergence = float((rel_entr(now, middle) + rel_entr(before, middle)).sum()) / 2
    return math.sqrt(max(0.0, divergence) / math.log(2))


def kolmogorov_smirnov(
    current: NDArray[np.int64], reference: NDArray[np.int64], *, exact: bool
) -> tuple[float, float]:
    """Return the greatest distance at the bounds of cells, and how much greater it may be within.

    Within a cell one distribution can rise while the other waits, so that the distance grows by at
    most the cell's greater share.

    Parameters
    ----------
    current, reference
        Rows of each cell, shape (cells,).
    exact
        Whether no cell holds more than one value.
    """
    if not current.sum() or not reference.sum():
        return 0.0, 0.0
    now, before = current / current.sum(), reference / reference.sum()
    distance = np.abs(np.cumsum(now) - np.cumsum(before))
    found = float(distance.max())
    if exact:
        return found, 0.0
    outer = np.maximum(distance, np.r_[0.0, distance[:-1]]) + np.maximum(now, before)
    return found, min(1.0, float(outer.max())) - found


def _statistic(value: float, by_chance: float, harmless: float) -> Statistic:
    return Statistic(value, by_chance, max(by_chance, harmless))


_TITLES: Mapping[str, str] = {
    "psi": "population stability index",
    "jensen_shannon": "Jensen-Shannon distance",
    "kolmogorov_smirnov": "Kolmogorov-Smirnov distance",
}


def _reasons(
    name: str,
    deciding: Statistic | None,
    missing: Statistic,
    shares: tuple[float, float],
    new: Statistic | None,
    examples: tuple[str, ...],
) -> tuple[str, ...]:
    found = []
    if deciding is not None and deciding.exceeded:
        found.append(f"{_TITLES[name]} {deciding}")
    if missing.exceeded:
        before, now = shares
        found.append(f"missing {now:.1%} instead of {before:.1%}, a change of {missing}")
    if new is not None and new.exceeded:
        found.append(f"share of new levels {new}, such as {', '.join(examples)}")
    return tuple(found)
