"""Training/serving skew: whether what was served is what the lake says was known.

For each prediction that was made from an online store, the log tells the feature values the model
saw, the moment they were for, and the version of each view's table that the store was filled from.
The point-in-time join over that version, the one that training sets are made by, must give the same
values. It is computed here without any code of the store or of lookups.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import duckdb

from mlops_assets.features.errors import FeatureError, nearest
from mlops_assets.features.identifiers import literal, quote
from mlops_assets.features.online.filling import types_in
from mlops_assets.features.online.layout import Kind, SpineTable, kind_of
from mlops_assets.features.point_in_time import point_in_time_join
from mlops_assets.features.selection import Selection, Spine
from mlops_assets.lake import Lake, TableName, TableVersion, VersionNotFoundError

MOST_PREDICTIONS = 100_000
"""Predictions compared at once, the newest; a skew that matters is in more than one of them."""

_SERVED, _OF_VERSION, _OFFLINE = "_served", "_served_of_version", "offline:"
_NEEDED = ("prediction_id", "as_of", "answered_at", "version", "source", "feature_versions")


class SkewError(FeatureError):
    """Predictions cannot be compared with the lake."""


@dataclass(frozen=True)
class SkewExample:
    """One prediction for which a feature had another value than the lake says.

    Attributes
    ----------
    prediction_id, as_of
        Which, and the moment its features are for.
    online
        What the model saw; numbers as 32-bit floats, None for missing.
    offline
        What the lake says.
    """

    prediction_id: str
    as_of: datetime
    online: float | str | None
    offline: float | str | None


@dataclass(frozen=True)
class FeatureSkew:
    """How often a feature was served with another value than the lake says.

    Attributes
    ----------
    feature
        Its output column.
    view
        Where it comes from.
    compared
        Predictions that were compared.
    different
        Those in which it differed.
    worst
        One of these, of a number the one that is furthest off; None where there is none.
    """

    feature: str
    view: str
    compared: int
    different: int
    worst: SkewExample | None


@dataclass(frozen=True)
class SkewReport:
    """What a comparison of served with recomputed feature values found.

    Attributes
    ----------
    table
        The log, at the version that was read.
    predictions
        Predictions made from the online store that were looked at.
    features
        One for each feature, in the order of the selections.
    gone
        Table versions that a store was filled from and that a vacuum has removed since, with the
        number of predictions whose features of that view could not be compared.
    """

    table: TableVersion
    predictions: int
    features: tuple[FeatureSkew, ...]
    gone: Mapping[TableVersion, int]

    @property
    def skewed(self) -> tuple[FeatureSkew, ...]:
        """The features that differed at all, the most frequent first."""
        found = [feature for feature in self.features if feature.different]
        return tuple(sorted(found, key=lambda feature: -feature.different))


def find_skew(
    lake: Lake,
    table: TableName,
    spine: SpineTable,
    selections: Sequence[Selection],
    *,
    since: datetime | None = None,
    most: int = MOST_PREDICTIONS,
    columns: Mapping[str, str] | None = None,
    features_of: Mapping[int, Collection[str]] | None = None,
) -> SkewReport:
    """Compare the feature values that were served from an online store with the lake's.

    Parameters
    ----------
    lake
        Holds the log, and the views' tables at the versions that the store was filled from.
    table
        The log of a family's predictions.
    spine
        Where the columns that features are joined by are found, by the entity's key, if the log
        does not hold them. A spine that changed since then shows as skew: log them.
    selections
        The family's features.
    since
        Only predictions answered at or after this instant; None: all.
    most
        At most so many predictions, the newest.
    columns
        Spine column or feature to its column in the log, where the names differ.
    features_of
        Features that a version of the model takes; a version that is not in it takes all.

    Returns
    -------
    SkewReport
        Numbers are compared as 32-bit floats, as the model sees them; NaN counts as missing.

    Raises
    ------
    SkewError
        If the log lacks a column.
    mlops_assets.lake.LakeError
        If a table cannot be read.
    """
    log = TableVersion(table, lake.version(table))
    if not _is_used(lake, log):
        # A log without such predictions has no columns yet to compare.
        return SkewReport(log, 0, (), {})
    reading = _Reading(
        lake, log, spine, tuple(selections), since, most, columns or {}, features_of or {}
    )
    with reading.session({}) as con:
        [(predictions,)] = con.execute(f"SELECT count(*) FROM {_SERVED}").fetchall()
        versions = {each.label: _versions(con, each) for each in selections}
    gone: dict[TableVersion, int] = {}
    found: dict[tuple[str, str], list[FeatureSkew]] = defaultdict(list)
    for pins, chosen in _rounds(lake, selections, versions, gone):
        with reading.session(pins) as con:
            for selection in chosen:
                for skew in reading.compared(con, selection, pins[selection.view.table]):
                    found[selection.label, skew.feature].append(skew)
    return SkewReport(
        log,
        predictions,
        tuple(
            _together(f"{each.prefix}{name}", each, found[each.label, f"{each.prefix}{name}"])
            for each in selections
            for name in each.features
        ),
        gone,
    )


@dataclass(frozen=True)
class _Reading:
    """What of the log is compared, and how it is read."""

    lake: Lake
    log: TableVersion
    spine: SpineTable
    selections: tuple[Selection, ...]
    since: datetime | None
    most: int
    columns: Mapping[str, str]
    features_of: Mapping[int, Collection[str]]

    @contextmanager
    def session(self, pins: Mapping[TableName, int]) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a session with the predictions that are compared, and views at some versions.

        Raises
        ------
        SkewError
            If the log lacks a column of what is to be compared.
        """
        versions = {**pins, self.log.table: self.log.version}
        tables = {*versions, self.spine.table}
        with self.lake.connect(versions=versions, tables=tables) as con:
            looked_up = self._lacking(types_in(con, self.log.table))
            found = ", ".join(["log.*", *(f"spine.{quote(name)}" for name in looked_up)])
            same = " AND ".join(
                f"log.{quote(self._column(name))} = spine.{quote(name)}"
                for name in self.spine.entity
            )
            spine = f"JOIN {self.spine.table.sql} AS spine ON {same}" if looked_up else ""
            con.execute(
                f"""
                CREATE TEMP TABLE {_SERVED} AS
                SELECT {found} FROM {self.log.table.sql} AS log {spine}
                WHERE log.source = 'online' AND log.as_of IS NOT NULL
                  AND ($since IS NULL OR log.answered_at >= $since)
                ORDER BY log.answered_at DESC LIMIT $most
                """,
                {"since": self.since, "most": self.most},
            )
            yield con

    def _lacking(self, present: Collection[str]) -> Sequence[str]:
        """Return columns that features are joined by and that the log does not hold."""
        for name in _NEEDED:
            self._require(name, name, present)
        for selection in self.selections:
            for name in selection.features:
                output = f"{selection.prefix}{name}"
                if not self._strangers(output):
                    self._require(output, self._column(output), present)
        joined_by = dict.fromkeys(name for each in self.selections for name, _ in each.keys)
        lacking = [name for name in joined_by if self._column(name) not in present]
        for name in self.spine.entity if lacking else ():
            self._require(name, self._column(name), present)
        return lacking

    def compared(
        self, con: duckdb.DuckDBPyConnection, selection: Selection, version: int
    ) -> Iterator[FeatureSkew]:
        """Compare the features of one selection, in the predictions made with one table version."""
        view = selection.view
        types = types_in(con, view.table)
        there = types_in(con, self.log.table)
        outputs = [
            (f"{selection.prefix}{name}", kind_of(types[name], f"{view.table}.{name}"))
            for name in selection.features
            if self._column(f"{selection.prefix}{name}") in there
        ]
        keys = [name for name, _ in selection.keys]
        con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE {_OF_VERSION} AS
            SELECT prediction_id AS "@prediction", version AS "@version", as_of AS "@as_of",
                   {", ".join(self._logged(name, name) for name in dict.fromkeys(keys))},
                   {", ".join(self._logged(name, f"online:{name}") for name, _ in outputs)}
            FROM {_SERVED} WHERE {_version_of(view.name)} = {version:d}
            """
        )
        joined = point_in_time_join(
            con,
            Spine(_OF_VERSION, tuple(dict.fromkeys(keys)), "@as_of"),
            [replace(selection, prefix=_OFFLINE + selection.prefix)],
        )
        for output, kind in outputs:
            compared, different, worst = _difference(
                con, joined, output, kind, self._strangers(output)
            )
            example = None if worst is None else SkewExample(*worst)
            yield FeatureSkew(output, view.name, compared, different, example)

    def _strangers(self, output: str) -> tuple[int, ...]:
        """Return the versions of the model that do not take a feature."""
        return tuple(
            version for version, features in self.features_of.items() if output not in features
        )

    def _column(self, name: str) -> str:
        return self.columns.get(name, name)

    def _logged(self, name: str, shown_as: str) -> str:
        return f"{quote(self._column(name))} AS {quote(shown_as)}"

    def _require(self, what: str, column: str, present: Collection[str]) -> None:
        if column not in present:
            raise SkewError(
                f"{self.log} has no column {column!r}, where {what} is to be; "
                f"{nearest(column, present)}"
            )


def _is_used(lake: Lake, log: TableVersion) -> bool:
    """Say whether any prediction was answered with features from the store."""
    with lake.connect(versions={log.table: log.version}, tables=[log.table]) as con:
        found = con.execute(
            f"SELECT 1 FROM {log.table.sql} WHERE source = 'online' AND as_of IS NOT NULL LIMIT 1"
        ).fetchone()
    return found is not None


def _versions(con: duckdb.DuckDBPyConnection, selection: Selection) -> Mapping[int, int]:
    """Return table versions that a view's values were of, and how many predictions each has."""
    rows = con.execute(
        f"SELECT {_version_of(selection.view.name)} AS filled_from, count(*) FROM {_SERVED} "
        "GROUP BY filled_from HAVING filled_from IS NOT NULL ORDER BY filled_from"
    )
    return dict(rows.fetchall())


def _rounds(
    lake: Lake,
    selections: Sequence[Selection],
    versions: Mapping[str, Mapping[int, int]],
    gone: dict[TableVersion, int],
) -> Iterator[tuple[Mapping[TableName, int], Sequence[Selection]]]:
    """Give the table versions of one session after the other, and what is compared in each.

    A session shows one version of a table, so there are as many sessions as the view that was
    filled most often has versions.
    """
    waiting: dict[str, list[int]] = {}
    for selection in selections:
        waiting[selection.label] = []
        for version, predictions in versions[selection.label].items():
            source = TableVersion(selection.view.table, version)
            if _is_there(lake, source):
                waiting[selection.label].append(version)
            else:
                gone[source] = predictions
    while any(waiting.values()):
        chosen = [each for each in selections if waiting[each.label]]
        yield {each.view.table: waiting[each.label][0] for each in chosen}, chosen
        for each in chosen:
            del waiting[each.label][0]


def _is_there(lake: Lake, source: TableVersion) -> bool:
    try:
        lake.read(source.table, source.version)
    except VersionNotFoundError:
        return False
    return True


def _difference(
    con: duckdb.DuckDBPyConnection,
    joined: duckdb.DuckDBPyRelation,
    output: str,
    kind: Kind,
    strangers: Sequence[int],
) -> tuple[int, int, Sequence[Any] | None]:
    """Count the predictions compared and those that differ, and find the one furthest off."""
    online, offline = quote(f"online:{output}"), quote(f"{_OFFLINE}{output}")
    gap = "1"
    if kind is not Kind.text:
        # As the model saw it. What is too large for that was infinite, which no model learns from.
        online, offline = (
            f"nullif(TRY_CAST({value} AS FLOAT), 'nan'::FLOAT)" for value in (online, offline)
        )
        gap = "coalesce(abs(online::DOUBLE - offline::DOUBLE), 'inf'::DOUBLE)"
    taken = f'"@version" NOT IN ({", ".join(map(str, strangers))})' if strangers else "true"
    compared = f"""
        SELECT "@prediction" AS id, "@as_of" AS as_of, {online} AS online, {offline} AS offline
        FROM ({joined.sql_query()}) WHERE {taken}
    """
    [(rows,)] = con.execute(f"SELECT count(*) FROM ({compared})").fetchall()
    differing = con.execute(
        f"""
        SELECT id, as_of, online, offline, count(*) OVER () FROM ({compared})
        WHERE online IS DISTINCT FROM offline ORDER BY {gap} DESC, id LIMIT 1
        """
    ).fetchall()
    if not differing:
        return rows, 0, None
    [(*worst, different)] = differing
    return rows, different, worst


def _together(feature: str, selection: Selection, parts: Sequence[FeatureSkew]) -> FeatureSkew:
    """Put together what was found with each version of a view's table."""
    examples = [part.worst for part in parts if part.worst is not None]
    return FeatureSkew(
        feature,
        selection.view.name,
        sum(part.compared for part in parts),
        sum(part.different for part in parts),
        max(examples, key=_gap, default=None),
    )


def _gap(example: SkewExample) -> float:
    if isinstance(example.online, float) and isinstance(example.offline, float):
        return abs(example.online - example.offline)
    return float("inf")


def _version_of(view: str) -> str:
    return f"map_extract_value(feature_versions, {literal(view)})"
