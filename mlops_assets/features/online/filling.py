"""Filling an online store: the latest known row of every entity, and when the next one is known.

Beside the row that is the latest at the moment of the fill, a store needs to know from when on it
no longer is. Where the table already holds what becomes known later (a timetable that is published
ahead, a replayed year), a row says when (`SUPERSEDED_AT`), and an entity of which nothing is known
yet has a row that says only that. So a stored row is the point-in-time join's answer over the same
table version for every moment for which it is used, not only for that of the fill.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic

import duckdb
import pyarrow as pa

from mlops_assets.features.errors import PointInTimeJoinError
from mlops_assets.features.identifiers import literal, quote
from mlops_assets.features.online.errors import OnlineStoreError
from mlops_assets.features.online.layout import (
    Kind,
    Layout,
    SpineTable,
    StoredColumn,
    ViewState,
    kind_of,
)
from mlops_assets.features.online.rows import AVAILABLE_AT, EVENT_TIME, SUPERSEDED_AT
from mlops_assets.features.online.store import OnlineStore
from mlops_assets.features.point_in_time import latest_sql
from mlops_assets.features.view import FeatureView
from mlops_assets.lake import Lake, TableName, TableVersion

_BATCH_ROWS = 10_000  # the rows of one batch are Python objects all at once


@dataclass(frozen=True)
class FillProgress:
    """How far a fill is.

    Attributes
    ----------
    name
        What is being filled.
    rows
        Rows read so far.
    state
        What is stored now; None while it is still being filled.
    seconds
        Since this view's fill began.
    """

    name: str
    rows: int
    state: ViewState | None
    seconds: float


def fill(
    lake: Lake,
    store: OnlineStore,
    wanted: Sequence[FeatureView | SpineTable],
    as_of: datetime,
    *,
    on_progress: Callable[[FillProgress], None] | None = None,
) -> tuple[ViewState, ...]:
    """Store what was the latest known of every entity at one moment, view by view.

    All views are read from the versions their tables have when the fill begins. A view that is
    stored stays so if a later one fails.

    Parameters
    ----------
    lake
        Holds the views' tables, and the spines'.
    store
        What to fill.
    wanted
        Feature views, and spines to find entities in.
    as_of
        The moment, with a time zone; now, unless the past is to be replayed.
    on_progress
        Called after every batch of rows, and when a view is stored.

    Returns
    -------
    tuple of ViewState
        What is stored now, in the order of ``wanted``.

    Raises
    ------
    OnlineStoreError
        If a column cannot be stored, a spine has a key twice, or the store refuses.
    PointInTimeJoinError
        If ``as_of`` has no time zone.
    mlops_assets.lake.LakeError
        If a table cannot be read.
    """
    if as_of.tzinfo is None:
        raise PointInTimeJoinError(f"as_of {as_of.isoformat()} has no time zone; give one, say UTC")
    tell = on_progress or (lambda _progress: None)
    tables = {each.table: lake.version(each.table) for each in wanted}
    states = []
    with lake.connect(versions=tables, tables=tables) as con:
        for each in wanted:
            started = monotonic()
            layout = _layout(con, each)
            source = TableVersion(each.table, tables[each.table])
            batches = _told(_batches(con, each, layout, as_of), layout.name, started, tell)
            state = store.replace(layout, source, as_of, batches)
            tell(FillProgress(layout.name, state.rows, state, monotonic() - started))
            states.append(state)
    return tuple(states)


def types_in(con: duckdb.DuckDBPyConnection, table: TableName) -> dict[str, str]:
    """Return the DuckDB type of each column of a table in the session."""
    described = con.execute(f"DESCRIBE SELECT * FROM {table.sql}").fetchall()
    return {name: str(kind) for name, kind, *_ in described}


def stored_columns(
    types: dict[str, str], names: Sequence[str], table: TableName
) -> tuple[StoredColumn, ...]:
    """Return columns of a table with their kinds.

    Raises
    ------
    OnlineStoreError
        If the table lacks one, or has one of a type that cannot be stored.
    """
    for name in names:
        if name not in types:
            raise OnlineStoreError(
                f"{table} has no column {name!r}, which is declared; it was built by an older "
                "model. Build it again"
            )
    return tuple(StoredColumn(name, kind_of(types[name], f"{table}.{name}")) for name in names)


def _layout(con: duckdb.DuckDBPyConnection, wanted: FeatureView | SpineTable) -> Layout:
    types = types_in(con, wanted.table)
    columns = (
        wanted.feature_names
        if isinstance(wanted, FeatureView)
        else [name for name in types if name not in wanted.entity]
    )
    return Layout(
        wanted.name,
        stored_columns(types, wanted.entity, wanted.table),
        stored_columns(types, columns, wanted.table),
    )


def _batches(
    con: duckdb.DuckDBPyConnection,
    wanted: FeatureView | SpineTable,
    layout: Layout,
    as_of: datetime,
) -> Iterator[pa.RecordBatch]:
    statement = (
        _view_sql(wanted, layout, as_of)
        if isinstance(wanted, FeatureView)
        else _spine_sql(wanted, layout)
    )
    return iter(con.sql(statement).to_arrow_reader(_BATCH_ROWS))


def _told(
    batches: Iterator[pa.RecordBatch],
    name: str,
    started: float,
    tell: Callable[[FillProgress], None],
) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        yield batch
        rows += batch.num_rows
        tell(FillProgress(name, rows, None, monotonic() - started))


def _view_sql(view: FeatureView, layout: Layout, as_of: datetime) -> str:
    """Select the latest row of each entity, expired or not: a lookup says which, and since when.

    In the order of the key, which is the order that a B-tree is quickest to grow in.
    """
    moment = f"TIMESTAMPTZ {literal(as_of.astimezone(UTC).isoformat(sep=' '))}"
    entity = ", ".join(map(quote, view.entity))
    not_null = " AND ".join(
        f"{quote(name)} IS NOT NULL" for name in (*view.entity, view.event_time)
    )
    return f"""\
WITH latest AS (
{latest_sql(replace(view, ttl=None), as_of)}
),
coming AS (
    -- Rows of an event older than one known before count too: they send a lookup to the lake, which
    -- knows better, rather than keep it from there.
    SELECT {entity}, min({quote(view.available_at)}) AS {quote(SUPERSEDED_AT)}
    FROM {view.table.sql}
    WHERE {quote(view.available_at)} > {moment} AND {not_null}
    GROUP BY ALL
)
SELECT
    {stored_sql(layout.key, "")},
    epoch_us(latest.{quote(view.event_time)}) AS {quote(EVENT_TIME)},
    epoch_us(latest.{quote(view.available_at)}) AS {quote(AVAILABLE_AT)},
    epoch_us(coming.{quote(SUPERSEDED_AT)}) AS {quote(SUPERSEDED_AT)},
    {stored_sql(layout.columns, "latest.")}
FROM latest FULL JOIN coming USING ({entity})
ORDER BY {entity}"""


def _spine_sql(spine: SpineTable, layout: Layout) -> str:
    not_null = " AND ".join(f"{quote(name)} IS NOT NULL" for name in spine.entity)
    times = ", ".join(
        f"NULL::BIGINT AS {quote(name)}" for name in (EVENT_TIME, AVAILABLE_AT, SUPERSEDED_AT)
    )
    columns = ", ".join(
        filter(None, (stored_sql(layout.key, ""), times, stored_sql(layout.columns, "")))
    )
    return (
        f"SELECT {columns}\n"
        f"FROM (SELECT * FROM {spine.table.sql} WHERE {spine.filter or 'true'})\n"
        f"WHERE {not_null}\nORDER BY {', '.join(map(quote, spine.entity))}"
    )


def stored_sql(columns: Sequence[StoredColumn], table: str) -> str:
    """Select columns as they are stored; ``table`` is what stands before their names."""
    cast = {
        Kind.integer: "CAST({} AS BIGINT)",
        Kind.number: "CAST({} AS DOUBLE)",
        Kind.boolean: "{}",
        Kind.text: "CAST({} AS VARCHAR)",
        Kind.instant: "epoch_us({})",
        Kind.wall_time: "epoch_us({})",
        Kind.date: "CAST({} - DATE '1970-01-01' AS BIGINT)",
    }
    return ", ".join(
        f"{cast[column.kind].format(table + quote(column.name))} AS {quote(column.name)}"
        for column in columns
    )
