"""What a learner sees: features as a frame, with the label and the calendar beside it.

Here a stored row becomes a learner's row, in one way for training, evaluation and serving: numbers
and booleans become float32 with NaN for null, text becomes a category in which null is a category
of its own. Reading is by DuckDB, straight into Arrow, one split part at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.lake import Lake, TableVersion
from mlops_assets.training.family import TRAINING_SET_COLUMNS, ModelFamily
from mlops_assets.training.labels import label_facts
from mlops_assets.training.tasks import Task, TaskError, declared_task

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

MISSING = "(missing)"
"""The category that stands for null."""

PARTS = ("train", "validation", "test")
"""The split's parts, in time order."""

_NUMERIC = (
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT",
    "UINTEGER", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip
_TEXT = ("VARCHAR", "ENUM")


class DatasetError(ValueError):
    """A training set cannot be read as features; the message names the column and what to do."""


@dataclass(frozen=True)
class FeatureSchema:
    """Names and kinds of a model's features, in the order the model takes them.

    Attributes
    ----------
    names
        Every feature.
    categorical
        Those that are categories; the others are numbers.
    """

    names: tuple[str, ...]
    categorical: tuple[str, ...]

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """Features that are numbers, in order."""
        return tuple(name for name in self.names if name not in self.categorical)


@dataclass(frozen=True)
class Part:
    """One part of the split, ready for a learner.

    Attributes
    ----------
    name
        `train`, `validation` or `test`.
    schema
        What the features are.
    task
        What kind of label it is, with the classes of the training part.
    features
        One column a feature in the schema's order: float32, or category.
    label
        As the task encodes it, shape (rows,): 0 or 1, the position of a class, or the value.
    days
        Calendar day of each row by the split column, datetime64[D], shape (rows,).
    context
        Columns for slices and for finding rows again: entity keys, kept columns, `month`, `hour`.
    """

    name: str
    schema: FeatureSchema
    task: Task
    features: "pd.DataFrame"
    label: NDArray[np.float64]
    days: NDArray[np.datetime64]
    context: "pd.DataFrame"

    def __len__(self) -> int:
        return len(self.label)


def join_parts(first: Part, second: Part) -> Part:
    """Put one part after another, such as train and validation to learn again from both.

    Parameters
    ----------
    first, second
        Parts of one training set.

    Raises
    ------
    DatasetError
        When their features or their tasks differ.
    """
    import pandas as pd
    from pandas.api.types import union_categoricals

    if first.schema != second.schema or first.task != second.task:
        raise DatasetError(
            f"parts {first.name} and {second.name} have different features or classes; "
            "load both from one version of one training set"
        )
    columns: dict[str, Any] = {}
    for name in first.schema.names:
        pair = [part.features[name] for part in (first, second)]
        if name in first.schema.categorical:
            columns[name] = union_categoricals(pair, sort_categories=True)
        else:
            columns[name] = np.concatenate([column.to_numpy() for column in pair])
    rows = len(first) + len(second)
    return Part(
        name=f"{first.name}+{second.name}",
        schema=first.schema,
        task=first.task,
        features=pd.DataFrame(columns, index=pd.RangeIndex(rows), copy=False),
        label=np.concatenate([first.label, second.label]),
        days=np.concatenate([first.days, second.days]),
        context=pd.concat([first.context, second.context], ignore_index=True),
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def feature_schema(
    con: "duckdb.DuckDBPyConnection", relation: str, family: ModelFamily
) -> FeatureSchema:
    """Find the features of a training set: every column that is nothing else.

    Parameters
    ----------
    con
        DuckDB session that knows the relation.
    relation
        The training set, as SQL names it.
    family
        Tells which columns are keys.

    Raises
    ------
    DatasetError
        When a feature is neither a number, a boolean nor text.
    """
    others = {*TRAINING_SET_COLUMNS, *family.spine.entity, *family.spine.keep}
    names: list[str] = []
    categorical: list[str] = []
    for name, kind, *_ in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall():
        if name in others:
            continue
        base = str(kind).partition("(")[0]
        if base in _TEXT:
            categorical.append(name)
        elif base not in _NUMERIC:
            raise DatasetError(
                f"{relation}: feature {name!r} is {kind}; a feature is a number, a boolean or "
                "text. Derive one in the feature view's SQL, such as hours between two times"
            )
        names.append(name)
    if not names:
        raise DatasetError(f"{relation}: has no feature column beside keys, times and label")
    return FeatureSchema(tuple(names), tuple(categorical))


def learnt_task(con: "duckdb.DuckDBPyConnection", relation: str, family: ModelFamily) -> Task:
    """Return the family's task as its training set completes it: with the classes found in train.

    Parameters
    ----------
    con
        DuckDB session that knows the relation.
    relation
        The training set, as SQL names it.
    family
        The family it was built for.

    Raises
    ------
    DatasetError
        When there is no training part.
    """
    task = declared_task(family)
    found = label_facts(con, relation, task)
    if "train" not in found:
        raise DatasetError(f"{relation}: part 'train' is empty; build the training set again")
    return task.learnt_from(found["train"])


def _select(schema: FeatureSchema) -> list[str]:
    """Return the SQL expressions that read the features in the learner's types."""
    return [
        f"CAST({_quoted(name)} AS VARCHAR) AS {_quoted(name)}"
        if name in schema.categorical
        else f"CAST({_quoted(name)} AS FLOAT) AS {_quoted(name)}"
        for name in schema.names
    ]


def feature_frame(table: "pa.Table", schema: FeatureSchema) -> "pd.DataFrame":
    """Turn stored features into the frame a model takes.

    Parameters
    ----------
    table
        Holds at least the schema's columns, in any order and with any numeric type.
    schema
        The model's features.

    Returns
    -------
    pandas.DataFrame
        The schema's columns in its order: float32 with NaN for null, or category with
        `MISSING` for null.

    Raises
    ------
    DatasetError
        When a column is absent or has a value that is no number.
    """
    import pandas as pd
    import pyarrow as pa

    if absent := [name for name in schema.names if name not in table.column_names]:
        raise DatasetError(f"features {absent} are absent; got columns {table.column_names}")
    columns: dict[str, Any] = {}
    for name in schema.names:
        column = table[name]
        if name in schema.categorical:
            text = column if pa.types.is_dictionary(column.type) else column.cast(pa.string())
            codes = _one_dictionary(text)
            known = codes.dictionary.to_pylist()
            values = codes.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
            used = [*known, MISSING] if codes.null_count else known
            columns[name] = pd.Categorical.from_codes(
                values, categories=pd.Index(used, dtype="str")
            )
        else:
            try:
                columns[name] = column.cast(pa.float32(), safe=False).to_numpy()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DatasetError(
                    f"feature {name!r} is {column.type}, where the model takes a number: {error}"
                ) from error
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)), copy=False)


def _one_dictionary(column: "pa.ChunkedArray") -> "pa.DictionaryArray":
    """Encode a text column with one sorted dictionary, whatever chunks it came in."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    values = pc.unique(plain).drop_null().sort()
    indices = pc.index_in(plain.combine_chunks(), value_set=values)
    return pa.DictionaryArray.from_arrays(indices, values)


def load_part(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    part: str,
    family: ModelFamily,
    schema: FeatureSchema | None = None,
    *,
    task: Task | None = None,
    limit: int | None = None,
) -> Part:
    """Read one part of a training set.

    Parameters
    ----------
    con
        DuckDB session, as `Lake.connect` gives it at the version wanted.
    relation
        The training set, as SQL names it.
    part
        `train`, `validation` or `test`.
    family
        The family it was built for.
    schema
        The features to read. Default: all the training set has.
    task
        With its classes. Default: as the training part of this training set completes it.
    limit
        Read only this many rows, the same ones every time; for an example of input.

    Raises
    ------
    DatasetError
        When the part is unknown or empty, or a feature or a label cannot be read.
    """
    import pandas as pd
    import pyarrow as pa

    if part not in PARTS:
        raise DatasetError(f"no split part {part!r}; there are {', '.join(PARTS)}")
    schema = feature_schema(con, relation, family) if schema is None else schema
    task = learnt_task(con, relation, family) if task is None else task
    order = ", ".join(_quoted(name) for name in ("prediction_time", *family.spine.entity))
    kept = [name for name in (*family.spine.entity, *family.spine.keep) if name not in schema.names]
    context = [_quoted(name) for name in kept]
    table: pa.Table = con.sql(
        f"""
        SELECT {", ".join([*context, *_select(schema)])}, label AS "@label", split_day AS "@day",
               month(split_day)::TINYINT AS "@month", split_hour AS "@hour"
        FROM {relation} WHERE split = $part
        ORDER BY {order}
        {f"LIMIT {int(limit)}" if limit is not None else ""}
        """,
        params={"part": part},
    ).to_arrow_table()
    if not len(table):
        raise DatasetError(f"{relation}: part {part!r} is empty; build the training set again")
    features = feature_frame(table, schema)
    try:
        label = task.encode(table["@label"])
    except TaskError as error:
        raise DatasetError(f"{relation}: part {part!r}: {error}") from error
    around = {name: table[name].to_pandas() for name in kept}
    around |= {"month": table["@month"].to_pandas(), "hour": table["@hour"].to_pandas()}
    return Part(
        name=part,
        schema=schema,
        task=task,
        features=features,
        label=label,
        days=table["@day"].to_numpy().astype("datetime64[D]"),
        context=pd.DataFrame(around, copy=False),
    )


def load_parts(
    lake: Lake,
    training_set: TableVersion,
    family: ModelFamily,
    parts: Sequence[str] = PARTS,
    schema: FeatureSchema | None = None,
) -> dict[str, Part]:
    """Read parts of one version of a training set from the lake.

    Parameters
    ----------
    lake, training_set
        Where it is.
    family
        The family it was built for.
    parts
        Those wanted.
    schema
        The features to read, such as those of an older model. Default: all there are.

    Raises
    ------
    DatasetError
        When a part is empty, or a feature is not in the training set or cannot be read.
    """
    table = training_set.table
    with lake.connect(versions={table: training_set.version}, tables=[table]) as con:
        present = feature_schema(con, table.sql, family)
        if schema and (absent := [name for name in schema.names if name not in present.names]):
            raise DatasetError(
                f"{training_set} lacks features {absent} that the model takes; evaluate it on a "
                "training set that still has them"
            )
        wanted = present if schema is None else schema
        task = learnt_task(con, table.sql, family)
        return {part: load_part(con, table.sql, part, family, wanted, task=task) for part in parts}


def column_for_slices(part: Part, name: str) -> "pd.Series[Any]":
    """Return the column by which a part is sliced, from its context or its features.

    Raises
    ------
    DatasetError
        When the part has no such column, naming those it has.
    """
    for frame in (part.context, part.features):
        if name in frame.columns:
            return frame[name]
    available: Sequence[str] = [*part.context.columns, *part.features.columns]
    raise DatasetError(
        f"slice {name!r} is no column of the training set; it has {', '.join(available)}. "
        "Name the spine's column under spine.keep, or slice by a feature"
    )
