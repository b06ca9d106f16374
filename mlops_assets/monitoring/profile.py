"""A reference, read once: the bins of every column and what they hold, small enough to keep.

All bounds come from the reference. A numeric column gets a grid of at most `GRID_CELLS` equal cells
over what a sample of the reference spans, on a scale of its own where the column is skewed. Cells
are counted exactly over all rows, then joined: into about a thousand for the cumulative
distribution and into ten of equal mass for shares. A text column gets its levels. Whoever compares
current rows with the profile counts them into the same cells and needs the reference no more.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features.identifiers import literal, quote
from mlops_assets.monitoring.errors import MonitoringError
from mlops_assets.monitoring.no_change import DayEffects, Floats, day_effects

if TYPE_CHECKING:
    import duckdb

GRID_CELLS = 4000
"""Cells of a numeric column's grid."""

CUMULATIVE_CELLS = 1000
"""About how many cells remain for the cumulative distribution."""

BINS = 10
"""Bins of shares of a numeric column, by equal mass."""

LEVEL_BINS = 20
"""Bins of shares of a text column: the most frequent levels, the last bin being all others."""

MOST_LEVELS = 10_000
"""Levels kept of a text column; of one that has more, new levels are not looked for."""

SAMPLE_ROWS = 50_000
"""Rows of the reference that grids are chosen by."""

FORMAT = 1
"""Number of this way to write a profile."""

_NUMBERS = (
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT",
    "UINTEGER", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip
_TEXTS = ("VARCHAR", "ENUM")
_TAIL = 0.001  # of the sample beyond each end of the bulk
_STRETCH = 3.0  # how far beyond the bulk a grid may reach, in widths of the bulk
_HEAVY = 4.0  # a cell this many times heavier than one of equal mass asks for the other scale


class Subject(StrEnum):
    """What the columns of a relation are."""

    feature = "feature"
    prediction = "prediction"
    label = "label"


@dataclass(frozen=True)
class Grid:
    """Equal cells over the span of a column, or over ``asinh((x - centre) / scale)`` of it.

    Attributes
    ----------
    low, width, cells
        Where the first cell begins, how wide each is, and how many there are. What lies outside
        belongs to the first or the last.
    centre, scale
        Of the inverse hyperbolic sine, which spreads what is near the centre and draws the tails
        together; None for the plain values.
    exact
        Whether each cell holds one value of the reference, so that no distance is lost inside.
    """

    low: float
    width: float
    cells: int
    centre: float | None = None
    scale: float | None = None
    exact: bool = False

    def sql(self, column: str) -> str:
        """Return the SQL of a value's cell, from 0; null where the value is null or no number."""
        value = f"{quote(column)}::DOUBLE"
        scaled = value
        if self.centre is not None:
            scaled = f"asinh(({value} - {self.centre!r}::DOUBLE) / {self.scale!r}::DOUBLE)"
        place = f"({scaled} - {self.low!r}::DOUBLE) * {1 / self.width!r}::DOUBLE"
        inside = f"least(greatest({place}, 0), {self.cells - 1})"
        return f"CASE WHEN NOT isnan({value}) THEN floor({inside})::USMALLINT END"


@dataclass(frozen=True)
class NumericProfile:
    """A numeric column of the reference.

    Attributes
    ----------
    name
        Of the column.
    rows, missing
        All rows, and those without a value; NaN is missing too.
    grid
        None where no row has a value.
    starts, counts
        First grid cell of each joined cell, from 0, and the rows in it.
    bins
        Index of the first joined cell of each bin of shares, from 0.
    effects
        Of its days.
    """

    name: str
    rows: int
    missing: int
    grid: Grid | None
    starts: tuple[int, ...]
    counts: tuple[int, ...]
    bins: tuple[int, ...]
    effects: DayEffects

    def joined(self, cells: Mapping[int, int]) -> NDArray[np.int64]:
        """Return rows of each joined cell, from rows of each grid cell."""
        found = np.zeros(len(self.starts), np.int64)
        if cells:
            at = np.searchsorted(self.starts, list(cells), side="right") - 1
            np.add.at(found, at, list(cells.values()))
        return found

    def shares(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows of each bin of shares, from rows of each joined cell."""
        return np.add.reduceat(counts, self.bins)


@dataclass(frozen=True)
class LevelProfile:
    """A text column of the reference.

    Attributes
    ----------
    name
        Of the column.
    rows, missing
        All rows, and those without a value.
    levels
        Level to its rows, the most frequent first.
    others
        Rows of levels that are not kept.
    once
        Levels with a single row.
    effects
        Of its days.
    """

    name: str
    rows: int
    missing: int
    levels: Mapping[str, int]
    others: int
    once: int
    effects: DayEffects

    @property
    def binned(self) -> tuple[str, ...]:
        """Levels that have a bin of shares of their own."""
        fits = len(self.levels) <= LEVEL_BINS and not self.others
        return tuple(self.levels)[: LEVEL_BINS if fits else LEVEL_BINS - 1]

    def shares(self, counts: Mapping[str, int], total: int) -> NDArray[np.int64]:
        """Return rows of each bin of shares; the last is everything else.

        Parameters
        ----------
        counts
            Rows of each known level.
        total
            Rows with any value.
        """
        found = [counts.get(level, 0) for level in self.binned]
        return np.array([*found, total - sum(found)], np.int64)


ColumnProfile = NumericProfile | LevelProfile


@dataclass(frozen=True)
class ReferenceProfile:
    """What current rows are compared with.

    Attributes
    ----------
    subject
        What its columns are.
    source
        Where it is from, for people: ``training/flight_delay@3 (train)``.
    versions
        Lake table to the version that was read.
    rows, days
        How many the reference has; 0 days where it was not told by day.
    columns
        One a column.
    """

    subject: Subject
    source: str
    versions: Mapping[str, int]
    rows: int
    days: int
    columns: tuple[ColumnProfile, ...]

    def to_json(self) -> str:
        """Return it as JSON; every number survives to the last bit."""
        content = {
            "format": FORMAT,
            **{key: value for key, value in asdict(self).items() if key != "columns"},
            "numeric": [asdict(c) for c in self.columns if isinstance(c, NumericProfile)],
            "levels": [asdict(c) for c in self.columns if isinstance(c, LevelProfile)],
            "order": [column.name for column in self.columns],
        }
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "ReferenceProfile":
        """Read what `to_json` wrote.

        Raises
        ------
        MonitoringError
            When it is no profile, or one of another format.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise MonitoringError(
                    f"the reference profile is of format {raw['format']}, not {FORMAT}; "
                    "make it anew from its table"
                )
            found: dict[str, ColumnProfile] = {}
            for one in raw["numeric"]:
                grid = None if one["grid"] is None else Grid(**one["grid"])
                lists = {key: tuple(one[key]) for key in ("starts", "counts", "bins")}
                effects = DayEffects(**one["effects"])
                found[one["name"]] = NumericProfile(
                    **{**one, **lists, "grid": grid, "effects": effects}
                )
            for one in raw["levels"]:
                found[one["name"]] = LevelProfile(
                    **{**one, "effects": DayEffects(**one["effects"])}
                )
            return cls(
                subject=Subject(raw["subject"]),
                source=raw["source"],
                versions=raw["versions"],
                rows=raw["rows"],
                days=raw["days"],
                columns=tuple(found[name] for name in raw["order"]),
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise MonitoringError(f"this is no reference profile: {error!r}") from error


def profile_reference(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    columns: Sequence[str],
    *,
    subject: Subject = Subject.feature,
    source: str = "",
    versions: Mapping[str, int] | None = None,
    day: str | None = None,
) -> ReferenceProfile:
    """Read a reference once, so that rows can be compared with it any number of times.

    Parameters
    ----------
    con
        A session that knows the relation, such as `Lake.connect` gives.
    relation
        What stands after FROM: a table, or a query in parentheses. Each column is read by a query
        of its own, so that of a table no byte is read twice; store what is costly to compute as a
        temporary table first.
    columns
        Numbers, booleans and texts of the relation.
    subject, source, versions
        What is read, for people and for whoever repeats it.
    day
        Its column with each row's day, to learn how much days differ. By default rows count as
        independent.

    Raises
    ------
    MonitoringError
        When the reference has no row, or a column is absent or of another type.
    """
    kinds = check_columns(con, relation, [*columns, *([day] if day else [])], free=day)
    [(rows, days)] = con.execute(
        f"SELECT count(*), {f'count(DISTINCT {quote(day)}::DATE)' if day else '0'} FROM {relation}"
    ).fetchall()
    if not rows:
        raise MonitoringError(
            f"the reference {source or relation} has no row, so nothing can be compared with it. "
            "Check its filter and dates, and that the table was filled"
        )
    numeric = [name for name in columns if kinds[name]]
    grids = _grids(con, relation, numeric, rows)
    found: list[ColumnProfile] = [
        _numeric(con, relation, name, grids[name], rows, day)
        if kinds[name]
        else _levels(con, relation, name, rows, day)
        for name in columns
    ]
    return ReferenceProfile(
        subject, source or relation, dict(versions or {}), rows, days, tuple(found)
    )


def check_columns(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    columns: Sequence[str],
    *,
    free: str | None = None,
) -> dict[str, bool]:
    """Tell for each column whether it is a number; text otherwise.

    Parameters
    ----------
    con, relation
        Where they are.
    columns
        Which to look at.
    free
        One of them that may have any type.

    Raises
    ------
    MonitoringError
        When one is not there, or is neither number, boolean nor text.
    """
    there = {
        str(row[0]): str(row[1]) for row in con.execute(f"DESCRIBE FROM {relation}").fetchall()
    }
    if absent := [name for name in columns if name not in there]:
        raise MonitoringError(
            f"{relation} has no column {', '.join(absent)}; it has {', '.join(there)}"
        )
    kinds = {}
    for name in columns:
        kinds[name] = there[name].startswith(_NUMBERS)
        if name != free and not there[name].startswith(_NUMBERS + _TEXTS):
            raise MonitoringError(
                f"{relation}, column {name}: {there[name]} has no drift statistics; numbers, "
                "booleans and texts have. Leave it out, or derive one of these in SQL"
            )
    return kinds


def count_cells(
    con: "duckdb.DuckDBPyConnection", relation: str, column: str, grid: Grid
) -> tuple[dict[int, int], int]:
    """Count the rows of each grid cell, and those without a value."""
    cells = dict(
        con.execute(f"SELECT {grid.sql(column)}, count(*) FROM {relation} GROUP BY ALL").fetchall()
    )
    missing = cells.pop(None, 0)
    return cells, missing


def _grids(
    con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[str], rows: int
) -> dict[str, Grid | None]:
    """Choose every grid by one evenly spaced sample, the same in every run."""
    if not columns:
        return {}
    every = max(1, rows // SAMPLE_ROWS)
    chosen = ", ".join(f"{quote(name)}::DOUBLE AS {quote(name)}" for name in columns)
    sample = con.sql(
        f'SELECT * EXCLUDE ("@row") FROM (SELECT {chosen}, row_number() OVER () AS "@row" '
        f'FROM {relation}) WHERE "@row" % {every} = 0'
    ).to_arrow_table()
    return {
        name: grid_for(sample[name].to_numpy(zero_copy_only=False).astype(np.float64))
        for name in columns
    }


def grid_for(values: Floats) -> Grid | None:
    """Choose the grid of a column by a sample of its values; None where none is finite."""
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return None
    distinct = np.unique(values)
    if len(distinct) == 1:
        only = float(distinct[0])
        width = max(abs(only), 1.0) * 1e-6
        return Grid(only - 1.5 * width, width, 3, exact=True)  # below it, it, above it
    step = float(np.diff(distinct).min())
    span = float(distinct[-1] - distinct[0])
    if span / step <= GRID_CELLS - 3:
        places = (distinct - distinct[0]) / step
        if np.abs(places - np.round(places)).max() < 0.01:
            # One value a cell, each in its middle, and a cell for what lies beyond each end.
            cells = round(span / step) + 3
            return Grid(float(distinct[0]) - 1.5 * step, step, cells, exact=True)
    plain = _spanning(values)
    middle, low, high = np.quantile(values, [0.5, 0.25, 0.75])
    scale = float(high - low) or float(np.quantile(np.abs(values - middle), 0.95)) or span
    bent = np.arcsinh((values - middle) / scale)
    curved = _spanning(bent, float(middle), scale)
    heaviest, other = _heaviest(values, plain), _heaviest(bent, curved)
    return curved if heaviest > _HEAVY / CUMULATIVE_CELLS and other < heaviest else plain


def _spanning(values: Floats, centre: float | None = None, scale: float | None = None) -> Grid:
    """Span sorted values, but no farther than a few widths beyond their bulk."""
    first, last = np.quantile(values, [_TAIL, 1 - _TAIL])
    reach = _STRETCH * (last - first) if last > first else values[-1] - values[0]
    low, high = max(values[0], first - reach), min(values[-1], last + reach)
    width = float(high - low) / (GRID_CELLS - 2)
    return Grid(float(low) - width, width, GRID_CELLS, centre, scale)


def _heaviest(values: Floats, grid: Grid) -> float:
    cells = np.clip((values - grid.low) / grid.width, 0, grid.cells - 1).astype(np.intp)
    return float(np.bincount(cells).max() / len(values))


def _numeric(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    name: str,
    grid: Grid | None,
    rows: int,
    day: str | None,
) -> NumericProfile:
    if grid is None:
        return NumericProfile(name, rows, rows, None, (), (), (), DayEffects())
    cells, missing = count_cells(con, relation, name, grid)
    counts = np.zeros(grid.cells, np.int64)
    counts[list(cells)] = list(cells.values())
    starts = np.arange(grid.cells) if grid.exact else _equal_mass(counts, CUMULATIVE_CELLS)
    joined = np.add.reduceat(counts, starts)
    bins = _equal_mass(joined, BINS)
    effects = DayEffects()
    if day is not None:
        first = [int(starts[b]) for b in bins[1:]]
        by_bin = " + ".join(f"(cell >= {cell})::INTEGER" for cell in first) or "0 * cell"
        effects = _effects(
            con,
            f"SELECT {quote(day)}::DATE AS day, {by_bin} AS bin FROM "
            f"(SELECT {quote(day)}, {grid.sql(name)} AS cell FROM {relation})",
            len(bins),
        )
    return NumericProfile(
        name, rows, missing, grid, tuple(map(int, starts)), tuple(map(int, joined)),
        tuple(map(int, bins)), effects,
    )  # fmt: skip


def _equal_mass(counts: NDArray[np.int64], parts: int) -> NDArray[np.intp]:
    """Return where parts of about equal mass begin.

    A cell that is heavier than that is a part by itself, so that what lies beside a single frequent
    value is told from it even where the reference has nothing there.
    """
    most = counts.sum() / parts
    starts, held = [0], 0
    for place, count in enumerate(counts.tolist()):
        overshoots = held > 0 and held + count - most > most - held
        if place and (held >= most or count >= most or overshoots):
            starts.append(place)
            held = 0
        held += count
    return np.array(starts)


def _levels(
    con: "duckdb.DuckDBPyConnection", relation: str, name: str, rows: int, day: str | None
) -> LevelProfile:
    con.execute(
        "CREATE OR REPLACE TEMP TABLE monitoring_levels AS "
        f"SELECT {quote(name)}::VARCHAR AS level, count(*) AS n FROM {relation} GROUP BY level"
    )
    kept = con.execute(
        "SELECT level, n FROM monitoring_levels WHERE level IS NOT NULL "
        f"ORDER BY n DESC, level LIMIT {MOST_LEVELS}"
    ).fetchall()
    [(present, once)] = con.execute(
        "SELECT coalesce(sum(n) FILTER (level IS NOT NULL), 0)::BIGINT, "
        "count_if(n = 1 AND level IS NOT NULL) FROM monitoring_levels"
    ).fetchall()
    con.execute("DROP TABLE monitoring_levels")
    levels = dict(kept)
    others = present - sum(levels.values())
    found = LevelProfile(name, rows, rows - present, levels, others, once, DayEffects())
    if day is None:
        return found
    whens = " ".join(f"WHEN {literal(v)} THEN {i}" for i, v in enumerate(found.binned))
    value = f"{quote(name)}::VARCHAR"
    case = f"CASE {value} {whens} ELSE {len(found.binned)} END" if whens else "0"
    effects = _effects(
        con,
        f"SELECT {quote(day)}::DATE AS day, CASE WHEN {quote(name)} IS NOT NULL THEN {case} END AS "
        f"bin FROM {relation}",
        len(found.binned) + 1,
    )
    return LevelProfile(name, rows, found.missing, levels, others, once, effects)


def _effects(con: "duckdb.DuckDBPyConnection", by_day: str, bins: int) -> DayEffects:
    """Estimate day effects of a query with a row's day and bin, the bin null where missing."""
    found = con.execute(
        f"SELECT dense_rank() OVER (ORDER BY day) - 1, bin, n FROM (SELECT day, bin, count(*) AS n "
        f"FROM ({by_day}) GROUP BY day, bin)"
    ).fetchall()
    days = 1 + max(int(place) for place, _, _ in found)
    counts, missing = np.zeros((days, bins)), np.zeros(days)
    for place, part, n in found:
        if part is None:
            missing[place] = n
        else:
            counts[place, int(part)] = n
    return day_effects(counts[:, counts.any(axis=0)], missing)
