"""The point-in-time join: each prediction gets what was known when it was made.

For one spine row and one feature view, the join takes from the rows of that entity with
``available_at <= prediction_time`` the one that describes the latest event, in its last version
known by then. Three things follow that simpler joins get wrong:

- A value counts from the moment it could be known, not from the moment it describes.
- A correction counts from its own ``available_at``; a prediction made before it sees the old value.
- A correction of an *old* event does not hide a newer event, although it became known later.

The statement first keeps of each view the rows that ever are the answer to "what is the latest
known?", those whose event is not older than any event known before. Among them ``available_at``
alone decides, and that is what DuckDB's ``ASOF JOIN`` finds. That join picks any one of several
rows with equal times (duckdb/duckdb#25536), so the same pass leaves one row for each
``available_at``, and stops where two rows contradict each other with one key. The pass sorts the
columns asked for, about a third of the join's time. A view whose table is published only after a
test found it ordered so already (`FeatureView.knowledge_ordered`) is joined without it.
``benchmarks/point_in_time.py`` compares both with a bare ``ASOF JOIN``.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import duckdb

from mlops_assets.features.duration import format_duration
from mlops_assets.features.errors import PointInTimeJoinError, nearest
from mlops_assets.features.identifiers import literal, quote, relation
from mlops_assets.features.selection import Selection, Spine, repeated_names
from mlops_assets.features.view import FeatureView
from mlops_assets.lake import TableName

_SPINE = "spine"
_KNOWN_SUFFIX = "__known"
_INSTANTS = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S")


def point_in_time_sql(spine: Spine, selections: Sequence[Selection]) -> str:
    """Return the point-in-time join as one DuckDB statement.

    Parameters
    ----------
    spine
        What is to be scored.
    selections
        Features to add, from any number of views.

    Returns
    -------
    str
        A SELECT that gives every spine row exactly once, in no particular order: the spine's
        columns, then for each selection its features and ``<prefix><view>__available_at``, since
        when the values used were known. All of these are null where nothing was known, where an
        entity column is null, and where the latest event is older than the view's ttl. It reads the
        view's lake table as ``schema.name``, which `Lake.connect` provides.

    Raises
    ------
    PointInTimeJoinError
        If the spine lacks an entity column, or two output columns would have one name.

    Notes
    -----
    Running the statement raises `duckdb.InvalidInputException` if a feature view holds two rows
    with the same entity, ``event_time`` and ``available_at``: neither can be said to be right.
    A ``knowledge_ordered`` view has been tested to hold none.
    """
    if not selections:
        raise PointInTimeJoinError("no feature is selected; give at least one selection")
    _check_names(spine, selections)
    ctes = ",\n".join(
        f"{quote(view.name + _KNOWN_SUFFIX)} AS (\n{_known_sql(view, _needed(view, selections))}\n)"
        for view in _distinct_views(selections)
    )
    columns = ",\n".join(column for s in selections for column in _columns_sql(spine, s))
    joins = "\n".join(_join_sql(spine, s) for s in selections)
    return (
        f"WITH\n{ctes}\n"
        f"SELECT\n    {_SPINE}.*,\n{columns}\n"
        f"FROM {relation(spine.relation)} AS {_SPINE}\n"
        f"{joins}"
    )


def point_in_time_join(
    con: duckdb.DuckDBPyConnection, spine: Spine, selections: Sequence[Selection]
) -> duckdb.DuckDBPyRelation:
    """Join features to a spine by what was known at each prediction time.

    Parameters
    ----------
    con
        A session in which the spine and every selected view's table exist; see `Lake.connect`.
    spine, selections
        As for `point_in_time_sql`.

    Returns
    -------
    duckdb.DuckDBPyRelation
        Not yet executed. Stream it with ``to_arrow_reader()``; the session then spills to disk what
        exceeds its memory limit. The session's ``asof_loop_join_threshold`` is 0 from here on.

    Raises
    ------
    PointInTimeJoinError
        If the spine or a table is not in the session, a column is missing, the prediction time is
        no timestamp, or an output column would have the name of a spine column.
    """
    statement = point_in_time_sql(spine, selections)
    found = _columns_of(con, relation(spine.relation), f"spine {spine.relation}")
    for name in (spine.prediction_time, *spine.entity_columns):
        if name.casefold() not in found:
            raise PointInTimeJoinError(
                f"spine {spine.relation} has no column {name!r}; {nearest(name, found)}"
            )
    kind = found[spine.prediction_time.casefold()]
    if kind not in _INSTANTS:
        raise PointInTimeJoinError(
            f"spine {spine.relation}: prediction time {spine.prediction_time!r} is {kind}, not a "
            "timestamp. A day is not an instant: say at what time of day the prediction is made"
        )
    for selection in selections:
        for output, _ in selection.outputs:
            if output.casefold() in found:
                raise PointInTimeJoinError(
                    f"spine {spine.relation} already has a column {output!r}, which view "
                    f"{selection.view.name} would add. Give the selection a prefix"
                )
    for view in _distinct_views(selections):
        where = f"feature view {view.name} ({view.table})"
        present = _columns_of(con, view.table.sql, where)
        needed = _needed(view, selections)
        if missing := [name for name in needed if name.casefold() not in present]:
            raise PointInTimeJoinError(
                f"{where}: the table lacks the declared columns {', '.join(missing)}. "
                "It was built by an older model; build it again"
            )
    # DuckDB plans a quadratic nested loop where it expects a small spine, and it expects wrongly
    # behind filters and some file scans: 100,000 x 100,000 rows then took 6 s, not 0.2 s.
    con.execute("SET asof_loop_join_threshold = 0")
    return con.sql(statement)


def latest_sql(view: FeatureView, as_of: datetime) -> str:
    """Return a statement for the latest known feature values of every entity at one moment.

    It gives what a point-in-time join with ``as_of`` as prediction time would use; an online store
    is filled from it.

    Parameters
    ----------
    as_of
        The moment, with a time zone.

    Returns
    -------
    str
        A SELECT of the view's entity columns, its times and all features: one row for each entity
        of which something not older than the view's ttl was known.

    Raises
    ------
    PointInTimeJoinError
        If ``as_of`` has no time zone.
    """
    if as_of.tzinfo is None:
        raise PointInTimeJoinError(f"as_of {as_of.isoformat()} has no time zone; give one, say UTC")
    moment = f"TIMESTAMPTZ {literal(as_of.astimezone(UTC).isoformat(sep=' '))}"
    event_time, available_at = quote(view.event_time), quote(view.available_at)
    fresh = (
        "" if view.ttl is None else f"\n    AND {event_time} >= {moment} - {_interval(view.ttl)}"
    )
    known = quote(view.name + _KNOWN_SUFFIX)
    return (
        f"WITH {known} AS (\n{_known_sql(view, _needed(view, [view.select()]))}\n)\n"
        f"SELECT *\nFROM {known}\n"
        f"WHERE {available_at} <= {moment}{fresh}\n"
        "QUALIFY row_number() OVER (\n"
        f"    PARTITION BY {', '.join(map(quote, view.entity))} ORDER BY {available_at} DESC\n"
        ") = 1"
    )


def column_lineage(
    selections: Sequence[Selection],
) -> Mapping[str, tuple[tuple[TableName, str], ...]]:
    """Return from which table and column each output column of a join takes its values.

    Returns
    -------
    Mapping
        Output column to its sources. The spine's own columns are not in it: they pass unchanged.
    """
    return {
        output: ((selection.view.table, column),)
        for selection in selections
        for output, column in selection.outputs
    }


def _check_names(spine: Spine, selections: Sequence[Selection]) -> None:
    """Refuse what would make an ambiguous statement."""
    for selection in selections:
        view = selection.view.name
        for column in selection.entity:
            if column not in spine.entity_columns:
                raise PointInTimeJoinError(
                    f"view {view}: the spine {spine.relation} has no entity column {column!r}; "
                    f"{nearest(column, spine.entity_columns)}"
                )
        for column, entity in selection.keys:
            if column not in spine.entity_columns:
                raise PointInTimeJoinError(
                    f"view {view}: no entity column of the spine {spine.relation} is joined to "
                    f"{entity!r}. Map one of {', '.join(spine.entity_columns)} to it"
                )
        if selection.label.casefold() == _SPINE:
            raise PointInTimeJoinError(f"view {view}: a view named {_SPINE} needs a prefix")
    if twice := repeated_names([s.label for s in selections]):
        raise PointInTimeJoinError(
            f"{twice[0]!r} is selected twice under one name. Put all features of one view into one "
            "selection, or give each selection a prefix of its own"
        )
    views = _distinct_views(selections)
    if twice := repeated_names([view.name for view in views]):
        raise PointInTimeJoinError(
            f"two different feature views are named {twice[0]!r}; select from one registry"
        )
    outputs = [(output, s.view.name) for s in selections for output, _ in s.outputs]
    if twice := repeated_names([output for output, _ in outputs]):
        both = " and ".join(view for output, view in outputs if output.casefold() == twice[0])
        raise PointInTimeJoinError(
            f"views {both} would both add a column {twice[0]!r}. "
            "Give one of the selections a prefix"
        )


def _distinct_views(selections: Sequence[Selection]) -> tuple[FeatureView, ...]:
    return tuple(dict.fromkeys(selection.view for selection in selections))


def _needed(view: FeatureView, selections: Sequence[Selection]) -> tuple[str, ...]:
    """Return the columns of a view that a join reads, in the view's order."""
    asked = {name for s in selections if s.view == view for name in s.features}
    features = (name for name in view.feature_names if name in asked)
    return tuple(dict.fromkeys((*view.entity, view.event_time, view.available_at, *features)))


def _known_sql(view: FeatureView, columns: Sequence[str]) -> str:
    """Select the rows of a view that are ever its latest known, one for each available_at."""
    not_null = dict.fromkeys((*view.entity, view.event_time, view.available_at))
    selected = ",\n        ".join(map(quote, columns))
    rows = f"""\
    -- {_comment(view)}
    SELECT
        {selected}
    FROM {view.table.sql}
    WHERE {" AND ".join(f"{quote(column)} IS NOT NULL" for column in not_null)}"""
    if view.knowledge_ordered:
        return rows
    event_time, available_at = quote(view.event_time), quote(view.available_at)
    key = ", ".join(f"{literal(name)}: {quote(name)}" for name in not_null)
    problem = literal(f"feature view {view.name} ({view.table}) has several rows with one key, ")
    advice = literal(
        ". They contradict each other; make the model give one, and test it for uniqueness"
    )
    return f"""\
{rows}
    WINDOW known AS (
        PARTITION BY {", ".join(map(quote, view.entity))}
        ORDER BY {available_at}, {event_time}
        ROWS UNBOUNDED PRECEDING
    )
    QUALIFY CASE
        -- the last row of its available_at, unless a newer event was known before
        WHEN {available_at} IS DISTINCT FROM lead({available_at}) OVER known
            THEN {event_time} >= max({event_time}) OVER known
        WHEN {event_time} = lead({event_time}) OVER known
            THEN error(concat(
                {problem},
                {{{key}}},
                {advice}
            ))
        ELSE false
    END"""


def _comment(view: FeatureView) -> str:
    """Say on one line what a reader of the statement should know of a view."""
    ttl = "any age" if view.ttl is None else f"at most {format_duration(view.ttl)} old"
    order = "; a test guarantees its order" if view.knowledge_ordered else ""
    return f"{view.table}: latest known event, {ttl}{order}"


def _columns_sql(spine: Spine, selection: Selection) -> list[str]:
    """Show the columns of one selection; null where the value found is older than the ttl."""
    label, ttl = quote(selection.label), selection.view.ttl
    before, after = "", ""
    if ttl is not None:
        event_time = f"{label}.{quote(selection.view.event_time)}"
        oldest = f"{_SPINE}.{quote(spine.prediction_time)} - {_interval(ttl)}"
        before, after = f"CASE WHEN {event_time} >= {oldest} THEN ", " END"
    return [
        f"    {before}{label}.{quote(column)}{after} AS {quote(output)}"
        for output, column in selection.outputs
    ]


def _join_sql(spine: Spine, selection: Selection) -> str:
    label = quote(selection.label)
    conditions = [
        *(f"{_SPINE}.{quote(mine)} = {label}.{quote(its)}" for mine, its in selection.keys),
        f"{_SPINE}.{quote(spine.prediction_time)} >= {label}.{quote(selection.view.available_at)}",
    ]
    known = quote(selection.view.name + _KNOWN_SUFFIX)
    return f"ASOF LEFT JOIN {known} AS {label}\n    ON " + "\n    AND ".join(conditions)


def _interval(duration: timedelta) -> str:
    seconds = duration // timedelta(seconds=1)
    fraction = f".{duration.microseconds:06d}" if duration.microseconds else ""
    return f"INTERVAL '{seconds}{fraction} seconds'"


def _columns_of(con: duckdb.DuckDBPyConnection, name: str, what: str) -> Mapping[str, str]:
    """Column types of a relation by case-folded name."""
    try:
        empty = con.sql(f"SELECT * FROM {name} LIMIT 0")
    except duckdb.CatalogException as error:
        raise PointInTimeJoinError(
            f"{what} is not in this session: {error}. Build it, or show it in the session"
        ) from error
    return {
        column.casefold(): str(kind)
        for column, kind in zip(empty.columns, empty.types, strict=True)
    }
