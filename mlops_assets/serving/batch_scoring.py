"""Scoring whole days at once, as the model server would have answered them one by one.

A day's rows are what the family's spine holds for that calendar day. Features are joined as they
were known at each row's prediction time, by the join that training sets are made with, so that
scoring a past day again, later, sees what was known then and nothing else. The rows have the
columns of the inference log (see `mlops_assets.serving.inference_log.tables`), so that monitoring
reads either.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_assets.features import FeatureRegistry, Selection, Spine
from mlops_assets.features.identifiers import literal, quote
from mlops_assets.features.side_by_side import SideBySide, join_side_by_side
from mlops_assets.lake import BATCH_ROWS, Lake, TableName, TableVersion, Window
from mlops_assets.serving.inference_log.answered import LoggedModel
from mlops_assets.serving.inference_log.tables import FIXED, ModelColumns, model_columns
from mlops_assets.training.dataset import FeatureSchema, feature_frame
from mlops_assets.training.training_set import select_features

if TYPE_CHECKING:
    import duckdb

    from mlops_assets.registry import ModelVersion
    from mlops_assets.training.estimators import Estimator
    from mlops_assets.training.family import ModelFamily

SCHEMA = "predictions"
DAY = "day"
_SCORED = "scored_rows"
_EXAMPLES = 5
_ROLE = "champion"
_CALLER = "batch"
_SOURCE = "offline"


class ScoringError(ValueError):
    """Rows cannot be scored: the spine lacks a column, or holds an entity twice."""


@dataclass(frozen=True)
class ScoredDays:
    """What scoring a range of days gave.

    Attributes
    ----------
    predictions
        The table's version that holds them.
    first, end
        The range of days; ``end`` is exclusive.
    rows
        How many were scored; 0 is a real state, a range in which nothing was to be scored.
    model
        ``family/version``.
    inputs
        Versions of the spine and of all feature tables.
    seconds
        How long it took.
    """

    predictions: TableVersion
    first: date
    end: date
    rows: int
    model: str
    inputs: tuple[TableVersion, ...]
    seconds: float


@dataclass(frozen=True)
class PublishedDays:
    """What the table of predictions holds of a range of days.

    Attributes
    ----------
    rows
        Predictions.
    repeated
        Ids that stand there more than once, a few of them.
    without_features
        Predictions all of whose features were missing.
    examples
        The first few: id, prediction time, answer, and entity columns.
    """

    rows: int
    repeated: tuple[str, ...]
    without_features: int
    examples: tuple[Mapping[str, Any], ...]


def predictions_table(family: str) -> TableName:
    """Return the table of a family's batch predictions."""
    return TableName(SCHEMA, family)


def scoring_inputs(family: "ModelFamily", views: FeatureRegistry) -> tuple[TableName, ...]:
    """Return the tables that scoring reads: the spine and the feature views, each once."""
    tables = [TableName.parse(family.spine.table)]
    tables += [selection.view.table for selection in select_features(family, views)]
    return tuple(dict.fromkeys(tables))


def prediction_columns(
    family: "ModelFamily", views: FeatureRegistry, schema: FeatureSchema, outputs: Sequence[str]
) -> ModelColumns:
    """Return which columns of the table of predictions hold what belongs to a model.

    Parameters
    ----------
    family, views
        Whose predictions, and the features there are.
    schema, outputs
        The model's features, and what it answers.
    """
    entity = pa.schema(
        [(name, pa.null()) for name in _kept(family, select_features(family, views))]
    )
    return model_columns(LoggedModel(schema, tuple(outputs), entity))


def score_days(
    lake: Lake,
    family: "ModelFamily",
    views: FeatureRegistry,
    estimator: "Estimator",
    version: "ModelVersion",
    days: tuple[date, date],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> ScoredDays:
    """Score every row of a range of days with one model, and publish the answers.

    The days' earlier predictions are replaced. An answer's `prediction_id` follows from the model,
    the entity and the prediction time, so that scoring a day twice names its predictions the same.

    Parameters
    ----------
    lake
        Holds spine and features, and gets the table `predictions/<family>`.
    family, views
        What is scored, and the features there are.
    estimator, version
        The model.
    days
        First day, and the first day behind the last, by the family's split column.
    metadata
        Kept with the commit.

    Raises
    ------
    ScoringError
        When the spine lacks a column or holds an entity twice in these days.
    mlops_assets.features.FeatureError
        When a feature cannot be joined.
    mlops_assets.training.dataset.DatasetError
        When a feature is none that the model takes.
    mlops_assets.lake.LakeError
        When a table cannot be read or written.
    """
    began = monotonic()
    selections = select_features(family, views)
    pins = {table: lake.version(table) for table in scoring_inputs(family, views)}
    inputs = tuple(TableVersion(table, number) for table, number in pins.items())
    table = predictions_table(family.name)
    rows = 0
    with lake.connect(versions=pins, tables=pins) as con:
        entity = _take_days(con, family, selections, days)
        joined = join_side_by_side(
            con,
            Spine(_SCORED, _join_keys(selections), "@as_of"),
            selections,
            order_by=("@as_of", *family.spine.entity),
            name="scoring",
        )
        sources = {each.view.name: pins[each.view.table] for each in selections}
        answers = _Answers(family, estimator, version, entity, sources)

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in answers.batches(con, joined):
                rows += batch.num_rows
                yield batch

        commit = lake.overwrite_window(
            table,
            pa.RecordBatchReader.from_batches(answers.schema, batches()),
            Window(DAY, *days),
            metadata={
                **(metadata or {}),
                "model": str(version),
                "inputs": [str(used) for used in inputs],
            },
            allow_schema_change=True,
            description=f"Predictions of {family.name} for whole days: {family.description}",
        )
    return ScoredDays(
        TableVersion(table, commit.version),
        *days,
        rows,
        str(version),
        inputs,
        monotonic() - began,
    )


def published_days(
    lake: Lake,
    family: "ModelFamily",
    views: FeatureRegistry,
    estimator: "Estimator",
    scored: ScoredDays,
) -> PublishedDays:
    """Look at what was published, as whoever reads the table finds it.

    Parameters
    ----------
    lake, family, views, estimator
        As for `score_days`.
    scored
        What it gave.
    """
    table = scored.predictions.table
    columns = prediction_columns(family, views, estimator.schema, estimator.task.outputs)
    bare = " AND ".join(f"{quote(name)} IS NULL" for name in columns.features.values())
    shown = ", ".join(
        map(quote, ("prediction_id", "as_of", *columns.answers, *columns.entity.values()))
    )
    inside = f"{DAY} >= DATE '{scored.first:%Y-%m-%d}' AND {DAY} < DATE '{scored.end:%Y-%m-%d}'"
    with lake.connect(versions={table: scored.predictions.version}, tables=[table]) as con:
        [(rows, without)] = con.execute(
            f"SELECT count(*), count_if({bare}) FROM {table.sql} WHERE {inside}"
        ).fetchall()
        repeated = con.execute(
            f"SELECT prediction_id FROM {table.sql} WHERE {inside} GROUP BY prediction_id "
            f"HAVING count(*) > 1 ORDER BY prediction_id LIMIT {_EXAMPLES}"
        ).fetchall()
        examples = con.sql(
            f"SELECT {shown} FROM {table.sql} WHERE {inside} "
            f"ORDER BY as_of, prediction_id LIMIT {_EXAMPLES}"
        ).to_arrow_table()
    return PublishedDays(
        rows, tuple(name for (name,) in repeated), without, tuple(examples.to_pylist())
    )


def _kept(family: "ModelFamily", selections: Sequence[Selection]) -> tuple[str, ...]:
    """Return the spine's columns that a prediction keeps."""
    spine = family.spine
    return tuple(dict.fromkeys((*spine.entity, *spine.keep, *_join_keys(selections))))


def _join_keys(selections: Sequence[Selection]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for selection in selections for name, _ in selection.keys))


def _take_days(
    con: "duckdb.DuckDBPyConnection",
    family: "ModelFamily",
    selections: Sequence[Selection],
    days: tuple[date, date],
) -> pa.Schema:
    """Make the table of the rows to be scored; return its columns that say who is scored.

    Columns that only the join needs have the spine's own names; what every prediction has begins
    with ``@``, so that no spine can have a column of that name taken from it.
    """
    spine = family.spine
    table = TableName.parse(spine.table)
    kept = _kept(family, selections)
    known = {name: kind for name, kind, *_ in con.execute(f"DESCRIBE {table.sql}").fetchall()}
    wanted = (*kept, spine.prediction_time, family.split_column)
    if absent := [name for name in dict.fromkeys(wanted) if name not in known]:
        raise ScoringError(
            f"{family.name}: spine {spine.table} has no column {', '.join(absent)}; it has "
            f"{', '.join(known)}"
        )
    day = f"CAST({quote(family.split_column)} AS DATE)"
    con.execute(
        f"""
        CREATE TEMP TABLE {_SCORED} AS
        SELECT {", ".join(map(quote, kept))}, {quote(spine.prediction_time)} AS "@as_of",
               {day} AS "@day"
        FROM {table.sql}
        WHERE {day} >= $first AND {day} < $end AND ({spine.filter or "true"})
        """,
        {"first": days[0], "end": days[1]},
    )
    keys = ", ".join(map(quote, spine.entity))
    repeated = con.execute(
        f"SELECT {keys}, count(*) FROM {_SCORED} GROUP BY {keys} HAVING count(*) > 1 "
        f"ORDER BY {keys} LIMIT 1"
    ).fetchone()
    if repeated:
        raise ScoringError(
            f"{family.name}: spine {spine.table} has entity "
            f"{dict(zip(spine.entity, repeated, strict=False))} {repeated[-1]} times from "
            f"{days[0]} until {days[1]}; an entity is scored once. Mend the spine, or give it a "
            "filter"
        )
    shown = con.sql(f"SELECT {', '.join(map(quote, kept))} FROM {_SCORED} LIMIT 0")
    return shown.to_arrow_table().schema


class _Answers:
    """Turns joined rows into rows of the predictions' table, one batch at a time."""

    def __init__(
        self,
        family: "ModelFamily",
        estimator: "Estimator",
        version: "ModelVersion",
        entity: pa.Schema,
        sources: Mapping[str, int],
    ) -> None:
        self._family, self._estimator, self._version = family, estimator, version
        self._entity = entity
        self._outputs = estimator.task.outputs
        self._columns: ModelColumns = model_columns(
            LoggedModel(estimator.schema, self._outputs, entity)
        )
        self._at = datetime.now(UTC)
        self._sources = list(sources.items())
        self.schema = self._described()

    def _described(self) -> pa.Schema:
        columns, schema = self._columns, self._estimator.schema
        text, number = pa.string(), pa.float32()

        def field(name: str, kind: pa.DataType, comment: str) -> pa.Field:
            return pa.field(name, kind, True, {"comment": comment})

        return pa.schema(
            [
                *(
                    one.with_metadata({"comment": "Calendar day that was scored."})
                    if one.name == DAY
                    else one
                    for one in FIXED
                ),
                *(
                    field(columns.entity[one.name], one.type, f"Spine column {one.name}.")
                    for one in self._entity
                ),
                *(
                    field(
                        columns.features[name],
                        text if name in schema.categorical else number,
                        f"Feature {name} as the model saw it; null where missing.",
                    )
                    for name in schema.names
                ),
                *(
                    field(column, pa.float64(), f"The model's answer: {output}.")
                    for column, output in zip(columns.answers, self._outputs, strict=True)
                ),
            ]
        )

    def batches(
        self, con: "duckdb.DuckDBPyConnection", joined: SideBySide
    ) -> Iterator[pa.RecordBatch]:
        """Give the answers, as many rows at once as the lake writes."""
        schema = self._estimator.schema
        outputs = {
            name: name if name not in schema.categorical else f"CAST({quote(name)} AS VARCHAR)"
            for name in schema.names
        }
        features = ", ".join(
            f"{quote(name) if name == sql else sql} AS {quote(f'feature:{name}')}"
            for name, sql in outputs.items()
        )
        identity = ", '|', ".join(
            f"CAST(spine.{quote(name)} AS VARCHAR)" for name in self._family.spine.entity
        )
        spine = ", ".join(f"spine.{quote(name)}" for name in self._entity.names)
        named = literal(f"{self._version}|")
        query = con.sql(
            f"""
            SELECT {spine}, spine."@as_of", spine."@day", {features},
                   md5(concat({named}, {identity}, '|', epoch_us(spine."@as_of"))) AS "@id"
            FROM {joined.from_sql}
            """
        )
        for batch in query.to_arrow_reader(BATCH_ROWS):
            if batch.num_rows:
                yield self._answered(pa.Table.from_batches([batch]))

    def _answered(self, rows: pa.Table) -> pa.RecordBatch:
        schema = self._estimator.schema
        table = rows.select([f"feature:{name}" for name in schema.names]).rename_columns(
            list(schema.names)
        )
        began = monotonic()
        given = np.asarray(self._estimator.predict(feature_frame(table, schema)), np.float64)
        seconds = (monotonic() - began) / len(rows)
        answers = given.reshape(len(rows), len(self._outputs))
        columns: dict[str, Any] = {
            **self._fixed(rows, seconds),
            **{self._columns.entity[name]: rows[name] for name in self._entity.names},
            **{self._columns.features[name]: table[name] for name in schema.names},
            **{
                column: pa.array(np.ascontiguousarray(answers[:, place]))
                for place, column in enumerate(self._columns.answers)
            },
        }
        arrays = [_as(columns[field.name], field.type) for field in self.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _fixed(self, rows: pa.Table, seconds: float) -> dict[str, Any]:
        count = len(rows)

        def same(value: Any, name: str) -> pa.Array:
            return pa.repeat(pa.scalar(value, FIXED.field(name).type), count)

        ids = rows["@id"]
        return {
            "prediction_id": ids,
            "request_id": ids,
            DAY: rows["@day"],
            "answered_at": same(self._at, "answered_at"),
            "as_of": rows["@as_of"],
            "family": same(self._family.name, "family"),
            "version": same(self._version.version, "version"),
            "role": same(_ROLE, "role"),
            "caller": same(_CALLER, "caller"),
            "source": same(_SOURCE, "source"),
            "seconds": same(seconds, "seconds"),
            "feature_versions": same(self._sources, "feature_versions"),
            "warnings": same([], "warnings"),
        }


def _as(column: Any, kind: pa.DataType) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array if array.type.equals(kind) else array.cast(kind, safe=False)
