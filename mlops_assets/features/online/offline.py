"""Looking features up in the lake: slower than a store, for any moment, from any table version.

The rows that a request is about are singled out of each view's table, and joined to it as a
training set is, by `mlops_assets.features.point_in_time_join`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa

from mlops_assets.features.identifiers import quote
from mlops_assets.features.online.asking import AsOf, Entities, KeyColumns, Question, ttl_of
from mlops_assets.features.online.filling import stored_columns, stored_sql, types_in
from mlops_assets.features.online.layout import SpineTable, StoredColumn, from_stored
from mlops_assets.features.online.looked_up import (
    LookedUp,
    Status,
    ViewLookup,
    columns_of,
    judge,
)
from mlops_assets.features.online.rows import StoredRow
from mlops_assets.features.point_in_time import point_in_time_join
from mlops_assets.features.selection import AVAILABLE_AT_SUFFIX, Selection, Spine
from mlops_assets.features.view import Feature, FeatureView
from mlops_assets.lake import Lake, TableName, VersionNotFoundError

_ROW, _AS_OF, _PREFIX = "@row", "@as_of", "view:"
_ASKED = "asked"  # a schema of the session, beside those of the lake


@dataclass(frozen=True)
class LakeRequest:
    """Rows of one selection that the lake is to answer.

    Attributes
    ----------
    selection
        What of them.
    spine
        The columns the selection is joined by, row by row.
    as_of
        Moment of each row, in microseconds.
    version
        Version of the view's table to read; None, and where it is gone: the latest.
    """

    selection: Selection
    spine: Mapping[str, Sequence[Any]]
    as_of: Sequence[int]
    version: int | None = None


@dataclass(frozen=True)
class LakeAnswer:
    """What the lake knows of one selection.

    Attributes
    ----------
    version
        Of the view's table that was read.
    rows
        The latest row known at each moment, however old, with the values of the selection's
        features in their order; None where nothing was known.
    """

    version: int
    rows: Sequence[StoredRow | None]


class OfflineLookup:
    """Looks up a family's features in the lake.

    Parameters
    ----------
    lake
        Holds the views' tables and the spine's.
    spine
        Where an entity is found by its key.
    selections
        Features, by the spine columns they are joined by.

    Raises
    ------
    mlops_assets.features.PointInTimeJoinError
        If no feature is selected, or two output columns would have one name.
    """

    def __init__(self, lake: Lake, spine: SpineTable, selections: Sequence[Selection]) -> None:
        self._lake = lake
        self.question = Question(spine, tuple(selections))

    def rows(self, entities: Entities, as_of: AsOf = None) -> LookedUp:
        """Look up feature values as they were known.

        Parameters
        ----------
        entities
            What to look up; see `Entities`.
        as_of
            As of when; see `AsOf`.

        Raises
        ------
        EntityValueError
            If an entity lacks columns, or has a value that its column cannot have.
        mlops_assets.lake.LakeError
            If a table cannot be read.
        """
        asked = self.question.complete(entities, as_of, self.spine_rows)
        everything = frozenset(range(len(asked.as_of)))
        answers = self.answer(
            [LakeRequest(each, asked.spine, asked.as_of) for each in self.question.selections]
        )
        columns: dict[str, Sequence[Any]] = {}
        views = []
        for selection, answer in zip(self.question.selections, answers, strict=True):
            ttl = ttl_of(selection)
            statuses = [
                judge(row, moment, ttl)
                for row, moment in zip(answer.rows, asked.as_of, strict=True)
            ]
            nothing = [None] * len(selection.features)
            values = [
                row.values if row is not None and status is Status.fresh else nothing
                for row, status in zip(answer.rows, statuses, strict=True)
            ]
            outputs = [f"{selection.prefix}{name}" for name in selection.features]
            columns |= columns_of(outputs, values)
            views.append(
                view_lookup(
                    selection, answer.version, answer.rows, statuses, asked.as_of, everything
                )
            )
        return LookedUp(columns, views, asked.spine, asked.as_of, asked.unknown)

    def spine_version(self) -> int:
        """Return the latest version of the spine's table."""
        return self._lake.version(self.question.spine.table)

    def spine_rows(self, keys: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any] | None]:
        """Find spine rows by the entity's key; None where there is none.

        Raises
        ------
        EntityValueError
            If a value is none that its column can have.
        """
        spine = self.question.spine
        if not keys:
            return []
        with self._lake.connect(tables=[spine.table]) as con:
            types = types_in(con, spine.table)
            columns = stored_columns(types, tuple(types), spine.table)
            entity = stored_columns(types, spine.entity, spine.table)
            given = {name: [key[name] for key in keys] for name in spine.entity}
            _ask(con, spine.entity, KeyColumns(entity).keys(given), entity, types)
            found = con.execute(
                f"""
                SELECT asked.{quote(_ROW)}, {stored_sql(columns, "spine.")}
                FROM {_ASKED}.rows AS asked
                JOIN (SELECT * FROM {spine.table.sql} WHERE {spine.filter or "true"}) AS spine
                  ON {_same(spine.entity)}
                """
            ).fetchall()
        by_row = {
            row: {
                column.name: from_stored(value, column.kind)
                for column, value in zip(columns, values, strict=True)
            }
            for row, *values in found
        }
        return [by_row.get(row) for row in range(len(keys))]

    def answer(self, requests: Sequence[LakeRequest]) -> Sequence[LakeAnswer]:
        """Answer requests in one session.

        Raises
        ------
        EntityValueError
            If a value is none that its column can have.
        mlops_assets.lake.LakeError
            If a table cannot be read.
        """
        versions = {
            each.selection.view.table: each.version for each in requests if each.version is not None
        }
        try:
            return self._answer(requests, versions)
        except VersionNotFoundError:  # a vacuum was faster than the next fill
            return self._answer(requests, {})

    def _answer(
        self, requests: Sequence[LakeRequest], versions: Mapping[TableName, int]
    ) -> Sequence[LakeAnswer]:
        tables = dict.fromkeys(each.selection.view.table for each in requests)
        pins = {
            table: versions[table] if table in versions else self._lake.version(table)
            for table in tables
        }
        with self._lake.connect(versions=pins, tables=pins) as con:
            return [
                LakeAnswer(pins[each.selection.view.table], _joined(con, each)) for each in requests
            ]


def view_lookup(
    selection: Selection,
    version: int | None,
    rows: Sequence[StoredRow | None],
    statuses: Sequence[Status],
    as_of: Sequence[int],
    from_lake: frozenset[int],
) -> ViewLookup:
    """Say how the values of a selection came to be known."""
    shown = [
        row if status in {Status.fresh, Status.expired} else None
        for row, status in zip(rows, statuses, strict=True)
    ]
    event_times = [None if row is None else row.event_time for row in shown]
    return ViewLookup(
        label=selection.label,
        view=selection.view.name,
        version=version,
        statuses=statuses,
        event_times=event_times,
        available_ats=[None if row is None else row.available_at for row in shown],
        ages=[
            None if time is None else (moment - time) / 1e6
            for time, moment in zip(event_times, as_of, strict=True)
        ],
        from_lake=from_lake,
    )


def _joined(con: duckdb.DuckDBPyConnection, request: LakeRequest) -> Sequence[StoredRow | None]:
    """Find the latest row known at each moment, whatever its age."""
    selection, view = request.selection, request.selection.view
    if not request.as_of:
        return []
    types = types_in(con, view.table)
    entity = stored_columns(types, view.entity, view.table)
    keys = KeyColumns.of(selection, entity).keys(request.spine)
    _ask(con, view.entity, keys, entity, types, request.as_of)
    needed = dict.fromkeys((*view.entity, view.event_time, view.available_at, *selection.features))
    con.execute(
        f"""
        CREATE OR REPLACE TABLE {_ASKED}.known AS
        SELECT {", ".join(map(quote, needed))} FROM {view.table.sql} AS spine
        SEMI JOIN {_ASKED}.rows AS asked ON {_same(view.entity)}
        WHERE {quote(view.available_at)} <= (SELECT max({quote(_AS_OF)}) FROM {_ASKED}.rows)
        """
    )
    joined = point_in_time_join(
        con,
        Spine(f"{_ASKED}.rows", view.entity, _AS_OF),
        [_singled_out(view).select((*selection.features, view.event_time), prefix=_PREFIX)],
    )
    event_time = quote(_PREFIX + view.event_time)
    available_at = quote(_PREFIX + view.name + AVAILABLE_AT_SUFFIX)
    columns = stored_columns(types, selection.features, view.table)
    values = stored_sql([StoredColumn(_PREFIX + each.name, each.kind) for each in columns], "")
    rows = con.sql(
        f"""
        SELECT epoch_us({event_time}), epoch_us({available_at}), {values}
        FROM ({joined.sql_query()}) ORDER BY {quote(_ROW)}
        """
    ).fetchall()
    return [
        None if known_since is None else StoredRow(happened, known_since, None, list(found))
        for happened, known_since, *found in rows
    ]


def _singled_out(view: FeatureView) -> FeatureView:
    """Return the view over the rows that are asked about, with its event time, whatever its age."""
    event_time = Feature(view.event_time, "TIMESTAMP WITH TIME ZONE", "What the row describes.")
    return replace(
        view,
        table=TableName(_ASKED, "known"),
        ttl=None,
        features=(*view.features, event_time),
    )


def _ask(
    con: duckdb.DuckDBPyConnection,
    names: Sequence[str],
    keys: Sequence[Sequence[Any] | None],
    entity: Sequence[StoredColumn],
    types: Mapping[str, str],
    as_of: Sequence[int] | None = None,
) -> None:
    """Make the table of the rows that are asked about: number, key, moment where there is one."""
    columns = {
        name: [None if key is None else from_stored(key[place], column.kind) for key in keys]
        for place, (name, column) in enumerate(zip(names, entity, strict=True))
    }
    moments: Sequence[int | None] = as_of or [None] * len(keys)
    con.register(
        "given",
        pa.table(
            {_ROW: range(len(keys)), _AS_OF: pa.array(moments, pa.timestamp("us", "UTC"))} | columns
        ),
    )
    cast = ", ".join(f"CAST({quote(name)} AS {types[name]}) AS {quote(name)}" for name in names)
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {_ASKED}")
    con.execute(
        f"CREATE OR REPLACE TABLE {_ASKED}.rows AS SELECT {quote(_ROW)}, {quote(_AS_OF)}, {cast} "
        "FROM given"
    )
    con.unregister("given")


def _same(names: Sequence[str]) -> str:
    return " AND ".join(f"spine.{quote(name)} = asked.{quote(name)}" for name in names)
