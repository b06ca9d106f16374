"""The tables of the log: which columns a family's predictions have, and predictions as Arrow.

A row is one prediction. Its columns are the fixed ones below, the family's entity columns, one a
feature with what the model saw, and the answer: ``answer``, or ``answer_<output>`` where there are
several. A name that is taken already gets its kind before it (``feature_version``); a column whose
stored type cannot hold the values of a newer model gets its type behind it (``wind_varchar``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlops_assets.lake import TableName
from mlops_assets.lake.schemas import duckdb_type, storable
from mlops_assets.serving.inference_log.answered import LoggedModel
from mlops_assets.serving.inference_log.records import Happened, Prediction

SCHEMA = "inference"
EVENTS = TableName(SCHEMA, "events")
EVENTS_DESCRIPTION = "What happened while serving: to models, to the inference log, to canaries."

_INSTANT = pa.timestamp("us", "UTC")
_DAY_US = 86_400_000_000


def _column(name: str, kind: pa.DataType, comment: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"comment": comment})


FIXED = pa.schema(
    [
        _column("prediction_id", pa.string(), "Unique name of the prediction, <request>-<row>."),
        _column("request_id", pa.string(), "The request it answers; one may have several rows."),
        _column("day", pa.date32(), "Day of answered_at, in UTC."),
        _column("answered_at", _INSTANT, "When it was answered."),
        _column("as_of", _INSTANT, "Prediction time that the features are for; null if not known."),
        _column("family", pa.string(), "Model family."),
        _column("version", pa.int64(), "Version of the model in the registry."),
        _column("role", pa.string(), "champion; canary; or shadow, which the caller never saw."),
        _column("caller", pa.string(), "Name of the caller's token, or anonymous."),
        _column("source", pa.string(), "Where features came from: request, online or offline."),
        _column("seconds", pa.float64(), "Time in the server until it was logged, in seconds."),
        _column(
            "feature_versions",
            pa.map_(pa.string(), pa.int64()),
            "Feature view to the version of its table that values came from.",
        ),
        _column("warnings", pa.list_(pa.string()), "What the caller was warned of."),
    ]
)
"""Columns of every family's table."""

EVENT_COLUMNS = pa.schema(
    [
        _column("event_id", pa.string(), "Unique name of the event."),
        _column("at", _INSTANT, "When it happened."),
        _column("kind", pa.string(), "What happened, such as model_refused or log_full."),
        _column("family", pa.string(), "Model family it concerns; null for none."),
        _column("version", pa.int64(), "Version it concerns; null for none."),
        _column("message", pa.string(), "What happened, for people."),
        _column("since", _INSTANT, "When it began, where it took time."),
        _column("rows", pa.int64(), "How many predictions it concerns, where known."),
    ]
)
"""Columns of ``inference/events``."""


@dataclass(frozen=True)
class ModelColumns:
    """Which columns hold what belongs to a model.

    Attributes
    ----------
    entity, features
        Spine column, or feature, to its column in the table.
    answers
        One column an output, in their order.
    """

    entity: Mapping[str, str]
    features: Mapping[str, str]
    answers: tuple[str, ...]


def inference_table(family: str) -> TableName:
    """Return the table of a family's predictions."""
    return TableName(SCHEMA, family)


def model_columns(model: LoggedModel) -> ModelColumns:
    """Return the columns of a model's predictions beside the fixed ones."""
    taken = {name.casefold() for name in FIXED.names}
    entity = {name: _free(name, "entity", taken) for name in model.entity.names}
    outputs = [""] if len(model.outputs) == 1 else [f"_{output}" for output in model.outputs]
    answers = tuple(_free(f"answer{output}", "other", taken) for output in outputs)
    features = {name: _free(name, "feature", taken) for name in model.schema.names}
    return ModelColumns(entity, features, answers)


def family_rows(model: LoggedModel, predictions: Sequence[Prediction]) -> pa.Table:
    """Turn predictions of one model into rows.

    Parameters
    ----------
    model
        The model they are of.
    predictions
        At least one, none of them a `misfit`.
    """
    counts = [one.rows for one in predictions]
    columns = _fixed_columns(predictions, counts)
    fields = list(FIXED)
    named = model_columns(model)

    unfit: dict[int, list[str]] = {}
    for field in model.entity:
        comment = f"Spine column {field.name}, as given or looked up."
        fields.append(_column(named.entity[field.name], field.type, comment))
        if not any(field.name in one.entity for one in predictions):
            columns.append(pa.nulls(sum(counts), field.type))
            continue
        given = chain.from_iterable(
            one.entity.get(field.name) or repeat(None, one.rows) for one in predictions
        )
        columns.append(_typed(list(given), field, unfit))
    if unfit:
        warnings = FIXED.get_field_index("warnings")
        columns[warnings] = _with_warnings(columns[warnings].to_pylist(), unfit)

    features = _feature_columns(model, predictions, sum(counts))
    for name in model.schema.names:
        columns.append(features[name])
        comment = f"Feature {name} as the model saw it; null where missing."
        fields.append(_column(named.features[name], features[name].type, comment))
    answers = _matrix([one.answers for one in predictions], "<f8", sum(counts))
    for position, column in enumerate(named.answers):
        columns.append(pa.array(np.ascontiguousarray(answers[:, position])))
        comment = f"The model's answer: {model.outputs[position]}."
        fields.append(_column(column, pa.float64(), comment))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def event_rows(events: Sequence[Happened]) -> pa.Table:
    """Turn events into rows."""
    return pa.Table.from_arrays(
        [
            pa.array([getattr(event, field.name) for event in events], _whole(field.type)).cast(
                field.type
            )
            for field in EVENT_COLUMNS
        ],
        schema=EVENT_COLUMNS,
    )


def misfit(one: Prediction, numeric: int, categorical: int, outputs: int) -> str:
    """Say why a record is no prediction of its model; empty if it is.

    Parameters
    ----------
    one
        The record.
    numeric, categorical, outputs
        How many of each the model has.
    """
    rows = one.rows
    if len(one.numbers) != rows * numeric * 4:
        return f"{len(one.numbers)} bytes of numbers for {rows} rows of {numeric}"
    if len(one.answers) != rows * outputs * 8:
        return f"{len(one.answers)} bytes of answers for {rows} rows of {outputs}"
    if len(one.categories) != categorical:
        return f"{len(one.categories)} categorical features instead of {categorical}"
    by_row = [*one.categories, *one.entity.values(), *([] if one.as_of is None else [one.as_of])]
    if any(len(values) != rows for values in by_row):
        return f"columns of lengths {[len(values) for values in by_row]} for {rows} rows"
    return ""


def together(tables: Sequence[pa.Table], stored: pa.Schema | None) -> pa.Table:
    """Put rows of several models into one table that fits what is stored.

    Parameters
    ----------
    tables
        As `family_rows` gives them.
    stored
        Columns of the table as it is; None where there is none yet.

    Returns
    -------
    pyarrow.Table
        With all stored columns, and the new ones behind them.
    """
    fields = {field.name: field for field in stored or ()}
    renamed = []
    for given in tables:
        table = given.cast(storable(given.schema))
        names = [_fitting(field, fields) for field in table.schema]
        renamed.append(table.rename_columns(names))
        for name, field in zip(names, table.schema, strict=True):
            fields.setdefault(name, field.with_name(name))
    schema = pa.schema(list(fields.values()))
    return pa.concat_tables([_filled(table, schema) for table in renamed])


def _fixed_columns(predictions: Sequence[Prediction], counts: Sequence[int]) -> list[pa.Array]:
    """Return the fixed columns in their order.

    What is the same for all rows of a request becomes Arrow once a request and is repeated there:
    as Python's objects, a thousand rows of one request cost half of shipping them.
    """
    request_of_row = pa.array(np.repeat(np.arange(len(counts)), counts))
    answered = np.array([one.answered_at for one in predictions], np.int64)
    of_requests = {
        "request_id": [one.request_id for one in predictions],
        "day": (answered // _DAY_US).astype("datetime64[D]"),
        "answered_at": answered,
        "family": [one.family for one in predictions],
        "version": [one.version for one in predictions],
        "role": [one.role for one in predictions],
        "caller": [one.caller for one in predictions],
        "source": [one.source for one in predictions],
        "seconds": [one.seconds for one in predictions],
        "feature_versions": [list(one.feature_versions.items()) for one in predictions],
        "warnings": [one.warnings for one in predictions],
    }
    columns = {
        name: pa.array(values, FIXED.field(name).type).take(request_of_row)
        for name, values in of_requests.items()
    }
    rows = pa.array(np.concatenate([np.arange(count) for count in counts]), pa.int64())
    columns["prediction_id"] = pc.binary_join_element_wise(
        columns["request_id"], rows.cast(pa.string()), "-"
    )
    columns["as_of"] = _as_of(predictions, counts)
    return [columns[field.name] for field in FIXED]


def _as_of(predictions: Sequence[Prediction], counts: Sequence[int]) -> pa.Array:
    if all(one.as_of is None for one in predictions):
        return pa.nulls(sum(counts), _INSTANT)
    moments = chain.from_iterable(
        repeat(None, one.rows) if one.as_of is None else one.as_of for one in predictions
    )
    return pa.array(list(moments), _INSTANT)


def _feature_columns(
    model: LoggedModel, predictions: Sequence[Prediction], rows: int
) -> dict[str, pa.Array]:
    """Return what the model saw of each feature, by the feature's name."""
    numbers = _matrix([one.numbers for one in predictions], "<f4", rows)
    columns = {
        # NaN is how the model sees null.
        name: pa.array(np.ascontiguousarray(numbers[:, position]), from_pandas=True)
        for position, name in enumerate(model.schema.numeric)
    }
    for position, name in enumerate(model.schema.categorical):
        texts = chain.from_iterable(one.categories[position] for one in predictions)
        columns[name] = pa.array(list(texts), pa.string())
    return columns


def _typed(values: list[Any], field: pa.Field, unfit: dict[int, list[str]]) -> pa.Array:
    """Return values as a column of the field's type; one that does not fit is null and noted."""
    try:
        return _array(values, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        column = []
        for row, value in enumerate(values):
            try:
                column.append(_array([value], field.type))
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                note = f"{field.name} was {value!r}, which is no {field.type}; logged as null"
                unfit.setdefault(row, []).append(note)
                column.append(pa.nulls(1, field.type))
        return pa.concat_arrays(column)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return values as Arrow. Dates, decimals and times without a zone come as texts."""
    if pa.types.is_string(kind) or not any(isinstance(value, str) for value in values):
        return pa.array(values, kind)
    return pa.array(values, pa.string()).cast(kind)


def _with_warnings(given: Sequence[Sequence[str]], unfit: Mapping[int, list[str]]) -> pa.Array:
    texts = [[*warnings, *unfit.get(row, [])] for row, warnings in enumerate(given)]
    return pa.array(texts, FIXED.field("warnings").type)


def _matrix(parts: Sequence[bytes], kind: str, rows: int) -> NDArray[Any]:
    return np.frombuffer(b"".join(parts), kind).reshape(rows, -1)


def _whole(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a record has what a column has as an instant."""
    return pa.int64() if pa.types.is_timestamp(kind) else kind


def _free(name: str, kind: str, taken: set[str]) -> str:
    """Return a name that is not taken in any case, and take it."""
    free = next(one for one in _candidates(name, kind) if one.casefold() not in taken)
    taken.add(free.casefold())
    return free


def _candidates(name: str, kind: str) -> Iterator[str]:
    yield name
    yield f"{kind}_{name}"
    number = 2
    while True:
        yield f"{kind}_{name}_{number}"
        number += 1


def _fitting(field: pa.Field, known: Mapping[str, pa.Field]) -> str:
    """Return the name of the column for a field: its own, unless that has another type."""
    stored = known.get(field.name)
    if stored is None or stored.type.equals(field.type):
        return str(field.name)
    return f"{field.name}_{duckdb_type(field.type).lower()}"


def _filled(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with the schema's columns; one that it lacks is null."""
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
