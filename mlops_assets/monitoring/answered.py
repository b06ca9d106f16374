"""Predictions as monitoring reads them: rows of the inference log, or of batch scoring, with truth.

A prediction is joined to its label by the entity's keys, by what was known at an instant: a label
counts once its knowledge time has come, and of several the one known last. Labels that are late,
absent, or came more than once are counted, never dropped silently.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features.identifiers import literal, quote
from mlops_assets.lake import TableName
from mlops_assets.monitoring.errors import MonitoringError
from mlops_assets.monitoring.no_change import Floats
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.tasks import Task

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MOST_ROWS = 1_000_000
"""Predictions of one window that are looked at; of more, a sample drawn by their ids."""

_JOINED = "monitoring_joined"
_COUNTED = {
    "predictions": "true",
    "labelled": "state = 'labelled'",
    "never": "state = 'never'",
    "pending": "state = 'pending'",
    "overdue": "state = 'overdue'",
    "repeated": "times > 1",
    "changed": '"values" > 1',
    "without_features": "bare",
    "without_answer": "NOT answered",
}


@dataclass(frozen=True)
class PredictionLog:
    """Where the predictions of a family are, in the columns of the inference log.

    Attributes
    ----------
    relation
        What stands after FROM: ``inference.flight_delay``, or a query in parentheses. It has
        ``prediction_id``, ``version``, ``role``, ``as_of`` and ``answered_at``.
    entity
        Spine column to its column here, for the keys of the label.
    answers
        Columns of the answer, in the order of the task's outputs.
    features
        Columns of the features, to find predictions made without any.
    slices
        Name of a slice to the column with its value; `month` and `hour` need none.
    roles
        Predictions of these roles count; what only shadowed did not serve.
    day
        Column with the calendar day that each prediction belongs to. Default: the day of its
        instant, in UTC.
    """

    relation: str
    entity: Mapping[str, str]
    answers: tuple[str, ...] = ("answer",)
    features: tuple[str, ...] = ()
    slices: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ("champion", "canary")
    day: str | None = None

    @property
    def at(self) -> str:
        """SQL of the instant a prediction is for."""
        return "coalesce(as_of, answered_at)"

    @property
    def on(self) -> str:
        """SQL of the day a prediction belongs to."""
        return f"{self.at}::DATE" if self.day is None else quote(self.day)

    def where(self, first: date, last: date, version: int | None) -> str:
        """Return the SQL condition for predictions of some days, all inclusive."""
        roles = ", ".join(map(literal, self.roles))
        of_version = "" if version is None else f" AND version = {version:d}"
        return (
            f"role IN ({roles}) AND {self.on} BETWEEN DATE '{first:%Y-%m-%d}' "
            f"AND DATE '{last:%Y-%m-%d}'{of_version}"
        )


@dataclass(frozen=True)
class LabelCounts:
    """What became of the labels of some predictions.

    Attributes
    ----------
    predictions
        How many there are.
    labelled
        Those with a label that can be known by now.
    never
        Those that are known to get none: the label is null, or its filter excludes it.
    pending, overdue
        Those whose label is not known, before and after it was due.
    repeated, changed
        Labels that came more than once, and of them those whose value changed.
    without_features
        Predictions all of whose features were missing.
    without_answer
        Predictions whose answer is null or no number; they are in no metric.
    """

    predictions: int = 0
    labelled: int = 0
    never: int = 0
    pending: int = 0
    overdue: int = 0
    repeated: int = 0
    changed: int = 0
    without_features: int = 0
    without_answer: int = 0


@dataclass(frozen=True)
class AnsweredRows:
    """Predictions with their answers, and their labels where asked for.

    Attributes
    ----------
    answers
        Shape (rows,) or (rows, outputs).
    label
        As the task encodes it, shape (rows,); empty where labels were not asked for.
    day, hour
        Day each belongs to, and hour of its instant in UTC: datetime64[D] and 0 to 23, of shape
        (rows,).
    slices
        Name of a slice to each row's value as text, shape (rows,).
    versions
        Versions of the model that answered.
    rows
        How many there are in all, of which these may be a sample.
    also
        Further columns of the log that were asked for, row by row; None without any.
    """

    answers: Floats
    label: Floats
    day: NDArray[np.datetime64]
    hour: NDArray[np.int64]
    slices: Mapping[str, NDArray[np.str_]]
    versions: tuple[int, ...]
    rows: int
    also: "pa.Table | None" = None


def read_answered(
    con: "duckdb.DuckDBPyConnection",
    log: PredictionLog,
    first: date,
    last: date,
    *,
    version: int | None = None,
) -> AnsweredRows:
    """Read the answers of some days, without labels.

    Parameters
    ----------
    con
        A session that knows the log.
    log
        Where the predictions are.
    first, last
        Days, both inclusive.
    version
        Only of this version; by default of all.
    """
    answers = ", ".join(quote(name) for name in log.answers)
    finite = " AND ".join(f"isfinite({quote(name)})" for name in log.answers)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {_JOINED} AS SELECT prediction_id, version, "
        f"{log.at} AS instant, {log.on} AS on_day, {answers} FROM {log.relation} "
        f"WHERE {log.where(first, last, version)} AND {finite}"
    )
    try:
        return _rows(con, "true", log, {}, None)
    finally:
        con.execute(f"DROP TABLE {_JOINED}")


@dataclass(frozen=True)
class LabelledRows:
    """Predictions with their labels as known at an instant.

    Attributes
    ----------
    counts
        What became of the labels.
    rows
        Those that have one, and an answer.
    """

    counts: LabelCounts
    rows: AnsweredRows


def read_labelled(
    con: "duckdb.DuckDBPyConnection",
    log: PredictionLog,
    family: ModelFamily,
    task: Task,
    first: date,
    last: date,
    *,
    as_of: datetime,
    due: timedelta,
    version: int | None = None,
    also: Sequence[str] = (),
) -> LabelledRows:
    """Join the predictions of some days with their labels as known at an instant.

    Parameters
    ----------
    con
        A session that knows the log and the family's label table.
    log
        Where the predictions are.
    family, task
        Say where the label is and how it is read; the task with its classes.
    first, last
        Days, both inclusive.
    as_of
        Nothing that was known later counts; with a zone.
    due
        How long after its instant the label of a prediction must be there.
    version
        Only predictions of this version; by default all.
    also
        Further columns of the log that are wanted of each row, such as features.

    Raises
    ------
    MonitoringError
        When the log has no column for a key of the label, or ``as_of`` has no zone.
    """
    with joined_labels(
        con, log, family, task, (first, last), as_of=as_of, due=due, version=version, also=also
    ) as joined:
        return joined_rows(con, joined, log, task, first, also)


def joined_rows(
    con: "duckdb.DuckDBPyConnection",
    joined: str,
    log: PredictionLog,
    task: Task,
    first: date,
    also: Sequence[str] = (),
) -> LabelledRows:
    """Read what `joined_labels` has joined, from a day on.

    Parameters
    ----------
    con, log, task, also
        As they were given to it.
    joined
        The table that it gave.
    first
        The day.
    """
    since = f"on_day >= DATE '{first:%Y-%m-%d}'"
    counting = ", ".join(f"count(*) FILTER ({condition})" for condition in _COUNTED.values())
    [counted] = con.execute(f"SELECT {counting} FROM {joined} WHERE {since}").fetchall()
    rows = _rows(con, f"state = 'labelled' AND answered AND {since}", log, log.slices, task, also)
    return LabelledRows(LabelCounts(**dict(zip(_COUNTED, counted, strict=True))), rows)


@contextmanager
def joined_labels(
    con: "duckdb.DuckDBPyConnection",
    log: PredictionLog,
    family: ModelFamily,
    task: Task,
    days: tuple[date, date],
    *,
    as_of: datetime,
    due: timedelta,
    version: int | None = None,
    also: Sequence[str] = (),
) -> Iterator[str]:
    """Join the predictions of some days with the labels known last, while the context is open.

    Parameters
    ----------
    con, log, family, task, as_of, due, version, also
        As for `read_labelled`.
    days
        First and last, both inclusive.

    Yields
    ------
    str
        Name of a temporary table with the columns ``prediction_id``, ``version``, ``instant``,
        ``on_day``, ``label`` as it is stored, ``state``: labelled, never, overdue or pending; and
        ``also:<name>`` for each further column.

    Raises
    ------
    MonitoringError
        As for `read_labelled`.
    """
    if as_of.tzinfo is None:
        raise MonitoringError(f"as_of {as_of.isoformat()} has no time zone; give one, such as UTC")
    if absent := [column for column in family.label_keys if column not in log.entity]:
        raise MonitoringError(
            f"the predictions in {log.relation} have no column for {', '.join(absent)}, by which "
            f"the label is found; known are {', '.join(log.entity) or 'none'}"
        )
    _join(
        con,
        log,
        family,
        task,
        days,
        as_of=as_of.astimezone(UTC),
        due=due,
        version=version,
        also=also,
    )
    try:
        yield _JOINED
    finally:
        con.execute(f"DROP TABLE {_JOINED}")


def _join(
    con: "duckdb.DuckDBPyConnection",
    log: PredictionLog,
    family: ModelFamily,
    task: Task,
    days: tuple[date, date],
    *,
    as_of: datetime,
    due: timedelta,
    version: int | None,
    also: Sequence[str],
) -> None:
    """Make the table of predictions with the label known last, and what is known of it."""
    label = family.label
    keys = dict(family.label_keys)
    answers = ", ".join(f"log.{quote(name)}" for name in log.answers)
    finite = " AND ".join(f"coalesce(isfinite(log.{quote(a)}), false)" for a in log.answers)
    bare = " AND ".join(f"log.{quote(name)} IS NULL" for name in log.features) or "false"
    slices = "".join(
        f", log.{quote(column)}::VARCHAR AS {quote(f'slice:{name}')}"
        for name, column in log.slices.items()
    )
    wanted = "".join(f", log.{quote(name)} AS {quote(f'also:{name}')}" for name in also)
    by = ", ".join(quote(column) for column in keys.values())
    same = " AND ".join(
        f"log.{quote(log.entity[spine])} = known.{quote(column)}" for spine, column in keys.items()
    )
    value = task.label_sql(quote(label.column))
    if label.filter is not None:
        value = f"CASE WHEN {label.filter} THEN {value} END"
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {_JOINED} AS
        WITH log AS (
            SELECT *, {log.at} AS "@at", {log.on} AS "@on" FROM {log.relation}
            WHERE {log.where(*days, version)}
        ),
        known AS (
            SELECT {by}, count(*) AS times, count(DISTINCT "@label") AS "values",
                max({{'at': {quote(label.available_at)}, 'label': "@label"}}).label AS label
            FROM (SELECT *, {value} AS "@label" FROM {TableName.parse(label.table).sql})
            WHERE {quote(label.available_at)} <= $as_of
              AND ({by}) IN (
                SELECT ({", ".join(f"log.{quote(log.entity[spine])}" for spine in keys)}) FROM log
              )
            GROUP BY ALL
        )
        SELECT log.prediction_id, log.version, log."@at" AS instant, log."@on" AS on_day,
            {answers},
            {finite} AS answered,
            {bare} AS bare, known.label, coalesce(known.times, 0) AS times,
            coalesce(known."values", 0) AS "values",
            CASE
                WHEN known.label IS NOT NULL THEN 'labelled'
                WHEN known.times IS NOT NULL THEN 'never'
                WHEN log."@at" + $due <= $as_of THEN 'overdue'
                ELSE 'pending'
            END AS state{slices}{wanted}
        FROM log LEFT JOIN known ON {same}
        """,
        {"as_of": as_of, "due": due},
    )


def _rows(
    con: "duckdb.DuckDBPyConnection",
    condition: str,
    log: PredictionLog,
    slices: Mapping[str, str],
    task: Task | None,
    also: Sequence[str] = (),
) -> AnsweredRows:
    """Read rows of the joined table, at most `MOST_ROWS` of them."""
    [(total, versions)] = con.execute(
        f"SELECT count(*), list_sort(list(DISTINCT version)) FROM {_JOINED} WHERE {condition}"
    ).fetchall()
    every = -(-total // MOST_ROWS) if total else 1
    sampled = f" AND hash(prediction_id) % {every} = 0" if every > 1 else ""
    answers = ", ".join(quote(name) for name in log.answers)
    label = "label" if task is not None else "NULL AS label"
    texts = "".join(f", {quote(f'slice:{name}')}" for name in slices)
    wanted = [f"also:{name}" for name in also]
    texts += "".join(f", {quote(name)}" for name in wanted)
    found = con.sql(
        f"SELECT {answers}, {label}, on_day AS day, hour(instant) AS hour, "
        f"month(on_day) AS month{texts} "
        f"FROM {_JOINED} WHERE {condition}{sampled} ORDER BY prediction_id"
    ).to_arrow_table()
    columns = [_float64(found[name]) for name in log.answers]
    hour = found["hour"].to_numpy().astype(np.int64)
    values = {name: _texts(found[f"slice:{name}"]) for name in slices}
    values |= {"month": _texts(found["month"]), "hour": _texts(found["hour"])}
    return AnsweredRows(
        answers=columns[0] if len(columns) == 1 else np.stack(columns, axis=1),
        label=np.empty(0) if task is None else task.encode(found["label"]),
        day=found["day"].to_numpy().astype("datetime64[D]"),
        hour=hour,
        slices=values,
        versions=tuple(int(one) for one in versions or ()),
        rows=total,
        also=found.select(wanted).rename_columns(list(also)) if also else None,
    )


def _float64(column: "pa.ChunkedArray") -> Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _texts(column: "pa.ChunkedArray") -> NDArray[np.str_]:
    return np.array(["(missing)" if v is None else str(v) for v in column.to_pylist()], dtype=str)
