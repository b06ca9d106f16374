"""Drift: how far current rows are from a reference, column by column.

Per column: the population stability index (Lewis 1994, An Introduction to Credit Scoring), the
Jensen-Shannon distance (Lin 1991, IEEE Transactions on Information Theory 37, 145-151; base 2,
between 0 and 1), for numbers the Kolmogorov-Smirnov distance, the change of the share of missing
values, and for texts the share of rows with a new level. Each comes with its threshold: the greater
of what is declared harmless and what chance does at these sizes, which is said in
`mlops_assets.monitoring.no_change`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
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
    count_cells,
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
    policy = policy or DriftPolicy()
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
    days_sql = f"count(DISTINCT {quote(day)}::DATE)" if day else "1"
    [(rows, days)] = con.execute(f"SELECT count(*), {days_sql} FROM {relation}").fetchall()
    state = NO_ROWS if not rows else TOO_FEW if rows < policy.min_rows else COMPARED
    found: tuple[ColumnDrift, ...] = ()
    if state == COMPARED:
        compare = _Comparison(con, relation, profile.subject, rows, days, policy)
        found = tuple(compare.column(column) for column in profile.columns)
    return DriftReport(profile.subject, profile.source, rows, days if rows else 0, state, found)


@dataclass(frozen=True)
class _Comparison:
    con: "duckdb.DuckDBPyConnection"
    relation: str
    subject: Subject
    rows: int
    days: int
    policy: DriftPolicy

    def column(self, reference: NumericProfile | LevelProfile) -> ColumnDrift:
        if isinstance(reference, NumericProfile):
            return self._numeric(reference)
        return self._levels(reference)

    def _numeric(self, reference: NumericProfile) -> ColumnDrift:
        if reference.grid is None:
            [(present,)] = self.con.execute(
                f"SELECT count_if(NOT isnan({quote(reference.name)}::DOUBLE)) FROM {self.relation}"
            ).fetchall()
            return self._found(reference, missing=self.rows - int(present))
        cells, missing = count_cells(self.con, self.relation, reference.name, reference.grid)
        counts, before = reference.joined(cells), np.array(reference.counts)
        distance, error = kolmogorov_smirnov(counts, before, exact=reference.grid.exact)
        return self._found(
            reference,
            missing=missing,
            shares=(reference.shares(counts), reference.shares(before)),
            distance=distance,
            error=error,
        )

    def _levels(self, reference: LevelProfile) -> ColumnDrift:
        name, known = quote(reference.name), list(reference.levels)
        value = f"{name}::VARCHAR"
        counted = self.con.execute(
            f"SELECT CASE WHEN {value} IN (SELECT unnest($known::VARCHAR[])) THEN {value} END AS "
            f"level, {name} IS NULL AS absent, count(*) FROM {self.relation} GROUP BY ALL",
            {"known": known},
        ).fetchall()
        counts = {level: n for level, _, n in counted if level is not None}
        missing = sum(n for _, absent, n in counted if absent)
        unknown = self.rows - missing - sum(counts.values())
        examples: tuple[str, ...] = ()
        if unknown and not reference.others:
            rows = self.con.execute(
                f"SELECT {value} AS level FROM {self.relation} WHERE level IS NOT NULL AND level "
                f"NOT IN (SELECT unnest($known::VARCHAR[])) GROUP BY level "
                f"ORDER BY count(*) DESC, level LIMIT {_EXAMPLES}",
                {"known": known},
            ).fetchall()
            examples = tuple(str(level) for (level,) in rows)
        present = reference.rows - reference.missing
        return self._found(
            reference,
            missing=missing,
            shares=(
                reference.shares(counts, self.rows - missing),
                reference.shares(reference.levels, present),
            ),
            unknown=None if reference.others else unknown,
            examples=examples,
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
