"""Building a family's training set: spine, label and features, split by time, audited, published.

The rows are those of the spine whose label is known. A row is in the part its calendar day says,
with one exception: a training row whose label became known only after the validation part's first
prediction would tell the model about a time it is judged on, so it is *purged*: kept in the table
with split `purged`, and used for nothing. The same holds between validation and test.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from mlops_assets.features import FeatureRegistry, Selection, Spine, join_side_by_side
from mlops_assets.features.selection import AVAILABLE_AT_SUFFIX
from mlops_assets.lake import BATCH_ROWS, Lake, TableName, TableVersion
from mlops_assets.training.dataset import PARTS, FeatureSchema, feature_schema
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.labels import label_facts
from mlops_assets.training.tasks import TaskError, declared_task

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_KEY = "_key_"  # a join key stands apart, so that a feature may have the same name
_SCORED, _SPLIT, _JOINED = "_training_scored", "_training_split", "_training_set"
_DATED, _KNOWN_AT = "_training_dated", '"@known_at"'
_INPUTS = "mlops.inputs"
_AUDIT = "mlops.audit"


class TrainingSetError(ValueError):
    """A training set cannot be built or used; the message lists every reason and what to do."""


@dataclass(frozen=True)
class PartSummary:
    """What one part of the split holds.

    Attributes
    ----------
    rows
        How many.
    label
        What the labels are: the share of yes or of each class, or where the values lie.
    first_day, last_day
        Calendar days by the split column.
    """

    rows: int
    label: Mapping[str, float]
    first_day: date
    last_day: date


@dataclass(frozen=True)
class FeatureFinding:
    """A feature that is of no use as it is; reported, not refused."""

    feature: str
    problem: str


@dataclass(frozen=True)
class TrainingSetAudit:
    """What was found in a training set before it was published.

    Attributes
    ----------
    rows
        Rows published, purged ones included.
    parts
        The parts by name.
    purged
        Rows whose label came too late for their part.
    unlabelled
        Spine rows without a known label.
    outside
        Labelled rows before the first or after the last day of the split.
    features
        How many there are.
    findings
        Features that are null or constant throughout the training part.
    """

    rows: int
    parts: Mapping[str, PartSummary]
    purged: int
    unlabelled: int
    outside: int
    features: int
    findings: tuple[FeatureFinding, ...]


@dataclass(frozen=True)
class TrainingSet:
    """A published training set.

    Attributes
    ----------
    version
        The table and version that hold it.
    inputs
        The version of every table it was made of.
    audit
        What was found in it.
    """

    version: TableVersion
    inputs: tuple[TableVersion, ...]
    audit: TrainingSetAudit


def select_features(family: ModelFamily, views: FeatureRegistry) -> tuple[Selection, ...]:
    """Resolve a family's declared features against the feature registry.

    Raises
    ------
    mlops_assets.features.UnknownFeatureError
        With the nearest name, when a view or feature does not exist.
    """
    return tuple(
        views.select(
            wanted.view,
            None if wanted.columns == "all" else wanted.columns,
            entity=wanted.entity,
            prefix=wanted.prefix,
        )
        for wanted in family.features
    )


def input_tables(family: ModelFamily, views: FeatureRegistry) -> tuple[TableName, ...]:
    """Return every lake table a family's training set is made of, each once."""
    tables = [TableName.parse(family.spine.table), TableName.parse(family.label.table)]
    tables += [selection.view.table for selection in select_features(family, views)]
    return tuple(dict.fromkeys(tables))


def build_training_set(
    lake: Lake,
    family: ModelFamily,
    views: FeatureRegistry,
    *,
    versions: Mapping[TableName, int] | None = None,
) -> TrainingSet:
    """Build, audit and publish the training set of a family.

    Parameters
    ----------
    lake
        Holds the inputs and gets the table `training/<family>`.
    family, views
        What to build, and the features there are.
    versions
        Versions of input tables to build from. Default: for each table its latest.

    Raises
    ------
    TrainingSetError
        Listing every fault; nothing is published then.
    """
    selections = select_features(family, views)
    wanted = versions or {}
    pins = {
        table: wanted[table] if table in wanted else lake.version(table)
        for table in input_tables(family, views)
    }
    inputs = tuple(TableVersion(table, version) for table, version in pins.items())
    with lake.connect(versions=pins, tables=pins) as con:
        unlabelled = _score(con, family, selections)
        outside = _split(con, family)
        _join(con, family, selections)
        audit = _audit(con, family, unlabelled=unlabelled, outside=outside)
        columns = con.sql(f"SELECT * FROM {_JOINED}")
        reader = columns.to_arrow_reader(BATCH_ROWS)
        described = _described(reader.schema, lake, family, selections)
        commit = lake.overwrite(
            family.training_set,
            reader.cast(described),
            metadata={
                _INPUTS: [str(version) for version in inputs],
                _AUDIT: json.loads(json.dumps(asdict(audit), default=date.isoformat)),
            },
            allow_schema_change=True,
            description=f"Training set of {family.name}: {family.description}",
        )
    return TrainingSet(TableVersion(family.training_set, commit.version), inputs, audit)


@contextmanager
def training_set_again(
    lake: Lake,
    family: ModelFamily,
    views: FeatureRegistry,
    published: TableVersion,
    inputs: Sequence[TableVersion],
) -> "Iterator[tuple[duckdb.DuckDBPyConnection, str]]":
    """Build a training set again from the versions it was made of, without publishing it.

    Parameters
    ----------
    lake, family, views
        As for `build_training_set`.
    published
        The training set as it was published.
    inputs
        The versions it was made of.

    Yields
    ------
    tuple
        A session in which the published training set stands under its own name, and the name of the
        relation that was built again.

    Raises
    ------
    TrainingSetError
        When the features now come from a table that had no part in it then.
    """
    selections = select_features(family, views)
    pins = {used.table: used.version for used in inputs}
    if added := [name for name in input_tables(family, views) if name not in pins]:
        raise TrainingSetError(
            f"{family.name}: {', '.join(map(str, added))} had no part in {published}; the feature "
            "views have changed since. Check out the commit it was built with"
        )
    pins[published.table] = published.version
    with lake.connect(versions=pins, tables=pins) as con:
        _score(con, family, selections)
        _split(con, family)
        _join(con, family, selections)
        yield con, _JOINED


def published_training_set(lake: Lake, version: TableVersion) -> TrainingSet:
    """Return what is known of a published training set: its inputs and its audit.

    Raises
    ------
    TrainingSetError
        When that version was not written by `build_training_set` or its record has expired.
    """
    for commit in lake.history(version.table):
        if commit.version == version.version and _INPUTS in commit.metadata:
            inputs = tuple(TableVersion.parse(text) for text in commit.metadata[_INPUTS])
            return TrainingSet(version, inputs, _audit_from(commit.metadata[_AUDIT]))
    raise TrainingSetError(
        f"{version}: its history does not say what it was made of; build it again"
    )


def _audit_from(record: Mapping[str, Any]) -> TrainingSetAudit:
    parts = {
        name: PartSummary(
            rows=part["rows"],
            # A record from before there was a choice of tasks has the mean of a binary label.
            label=part["label"] if "label" in part else {"yes": part["mean_label"]},
            first_day=date.fromisoformat(part["first_day"]),
            last_day=date.fromisoformat(part["last_day"]),
        )
        for name, part in record["parts"].items()
    }
    findings = tuple(FeatureFinding(**finding) for finding in record["findings"])
    in_order = {name: parts[name] for name in PARTS}
    return TrainingSetAudit(**{**record, "parts": in_order, "findings": findings})


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _sql_table(name: str) -> str:
    return TableName.parse(name).sql


def _count(con: "duckdb.DuckDBPyConnection", query: str) -> int:
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def _require_columns(
    con: "duckdb.DuckDBPyConnection", table: str, wanted: Mapping[str, str], family: ModelFamily
) -> dict[str, str]:
    """Check that a table has the declared columns and return the type of each of its columns."""
    from difflib import get_close_matches

    types = {
        row[0]: str(row[1])
        for row in con.execute(f"DESCRIBE SELECT * FROM {_sql_table(table)}").fetchall()
    }
    for key, column in wanted.items():
        if column not in types:
            near = get_close_matches(column, types, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TrainingSetError(
                f"{family.name}: {key} names {column!r}, which is no column of {table}{hint} "
                f"It has {', '.join(types)}"
            )
    return types


def _require_instant(types: Mapping[str, str], key: str, column: str, family: ModelFamily) -> None:
    if types[column] != "TIMESTAMP WITH TIME ZONE":
        raise TrainingSetError(
            f"{family.name}: {key} {column!r} is {types[column]}; it must be an instant, "
            "TIMESTAMP WITH TIME ZONE. A wall-clock time needs its zone: col AT TIME ZONE 'zone'"
        )


def _join_keys(selections: Sequence[Selection]) -> tuple[str, ...]:
    """Return the spine columns that feature views are joined by, each once."""
    return tuple(dict.fromkeys(name for s in selections for name, _ in s.keys))


def _score(
    con: "duckdb.DuckDBPyConnection", family: ModelFamily, selections: Sequence[Selection]
) -> int:
    """Make the table of scored rows with their label; return how many had none."""
    spine, label = family.spine, family.label
    wanted = {f"spine.entity[{i}]": name for i, name in enumerate(spine.entity)}
    wanted |= {f"spine.keep[{i}]": name for i, name in enumerate(spine.keep)}
    wanted |= {
        f"features.{selection.view.name}: the entity key": name
        for selection in selections
        for name, _ in selection.keys
    }
    wanted |= {"spine.prediction_time": spine.prediction_time, "split.column": family.split_column}
    wanted |= {f"label.keys[{name}]": name for name in family.label_keys}
    spine_types = _require_columns(con, spine.table, wanted, family)
    _require_instant(spine_types, "spine.prediction_time", spine.prediction_time, family)
    wanted = {"label.column": label.column, "label.available_at": label.available_at}
    wanted |= {f"label.keys.{name}": column for name, column in family.label_keys.items()}
    label_types = _require_columns(con, label.table, wanted, family)
    _require_instant(label_types, "label.available_at", label.available_at, family)

    keys = ", ".join(_quoted(name) for name in spine.entity)
    repeated = con.execute(
        f"""
        SELECT {keys}, count(*) FROM {_sql_table(spine.table)} WHERE {spine.filter or "true"}
        GROUP BY {keys} HAVING count(*) > 1 ORDER BY {keys} LIMIT 1
        """
    ).fetchone()
    if repeated:
        raise TrainingSetError(
            f"{family.name}: spine {spine.table} has entity "
            f"{dict(zip(spine.entity, repeated, strict=False))} {repeated[-1]} times; an entity is "
            "scored once, or it can be in two parts of the split at once"
        )
    label_keys = ", ".join(_quoted(column) for column in family.label_keys.values())
    repeated = con.execute(
        f"""
        SELECT {label_keys}, count(*) FROM {_sql_table(label.table)} WHERE {label.filter or "true"}
        GROUP BY {label_keys} HAVING count(*) > 1 ORDER BY {label_keys} LIMIT 1
        """
    ).fetchone()
    if repeated:
        raise TrainingSetError(
            f"{family.name}: label table {label.table} has key "
            f"{dict(zip(family.label_keys.values(), repeated, strict=False))} {repeated[-1]} "
            "times; give label.filter or label.keys so that a row has one label"
        )
    on = " AND ".join(
        f"spine.{_quoted(name)} = truth.{_quoted(column)}"
        for name, column in family.label_keys.items()
    )
    split_type = spine_types[family.split_column]
    if split_type not in {"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}:
        raise TrainingSetError(
            f"{family.name}: split.column {family.split_column!r} is {split_type}; "
            "it must be a DATE or a TIMESTAMP"
        )
    day = f"spine.{_quoted(family.split_column)}"
    hour = "NULL" if split_type == "DATE" else f"hour({day})"
    task = declared_task(family)
    try:
        task.check_label_column(label_types[label.column])
    except TaskError as error:
        raise TrainingSetError(
            f"{family.name}: label.column {label.column!r} of {label.table} {error}"
        ) from error
    columns = ", ".join(
        [f"spine.{_quoted(name)}" for name in dict.fromkeys((*spine.entity, *spine.keep))]
        + [f"spine.{_quoted(name)} AS {_quoted(_KEY + name)}" for name in _join_keys(selections)]
    )
    con.execute(
        f"""
        CREATE TEMP TABLE {_SCORED} AS
        SELECT {columns},
               spine.{_quoted(spine.prediction_time)} AS prediction_time,
               {task.label_sql("truth." + _quoted(label.column))} AS label,
               truth.{_quoted(label.available_at)} AS label_available_at,
               CAST({day} AS DATE) AS split_day, CAST({hour} AS TINYINT) AS split_hour
        FROM (SELECT * FROM {_sql_table(spine.table)} WHERE {spine.filter or "true"}) AS spine
        LEFT JOIN (SELECT * FROM {_sql_table(label.table)} WHERE {label.filter or "true"}) AS truth
          ON {on}
        """
    )
    early = _count(
        con, f"SELECT count(*) FROM {_SCORED} WHERE label_available_at <= prediction_time"
    )
    if early:
        raise TrainingSetError(
            f"{family.name}: {early} labels are known before their prediction is made "
            f"({label.available_at} <= {spine.prediction_time}); check both columns"
        )
    undated = _count(
        con,
        f"SELECT count(*) FROM {_SCORED} WHERE label IS NOT NULL AND "
        "(label_available_at IS NULL OR prediction_time IS NULL OR split_day IS NULL)",
    )
    if undated:
        raise TrainingSetError(
            f"{family.name}: {undated} labelled rows lack {label.available_at}, "
            f"{spine.prediction_time} or {family.split_column}; when each was known must be said"
        )
    return _count(con, f"SELECT count(*) FROM {_SCORED} WHERE label IS NULL")


def _split(con: "duckdb.DuckDBPyConnection", family: ModelFamily) -> int:
    """Give every labelled row its part; return how many lie outside the split's days."""
    split = family.split
    days = {
        "start": split.train_start or date.min,
        "train_end": split.train_end,
        "validation_end": split.validation_end,
        "test_end": split.test_end,
    }
    part = """
        CASE WHEN split_day < $start OR split_day >= $test_end THEN NULL
             WHEN split_day < $train_end THEN 'train'
             WHEN split_day < $validation_end THEN 'validation'
             ELSE 'test' END"""
    con.execute(
        f"""
        CREATE TEMP TABLE {_SPLIT} AS
        WITH parts AS (SELECT *, {part} AS part FROM {_SCORED} WHERE label IS NOT NULL),
        begins AS (
            SELECT min(prediction_time) FILTER (part = 'validation') AS validation_begins,
                   min(prediction_time) FILTER (part = 'test') AS test_begins
            FROM parts
        )
        SELECT parts.* EXCLUDE (part),
               CASE WHEN part = 'train' AND label_available_at > validation_begins THEN 'purged'
                    WHEN part IN ('train', 'validation') AND label_available_at > test_begins
                    THEN 'purged' ELSE part END AS split
        FROM parts CROSS JOIN begins WHERE part IS NOT NULL
        """,
        days,
    )
    labelled = _count(con, f"SELECT count(*) FROM {_SCORED} WHERE label IS NOT NULL")
    return labelled - _count(con, f"SELECT count(*) FROM {_SPLIT}")


def _join(
    con: "duckdb.DuckDBPyConnection", family: ModelFamily, selections: Sequence[Selection]
) -> None:
    """Add what was known about each row when its prediction was made."""
    own_columns = [row[0] for row in con.execute(f"DESCRIBE {_SPLIT}").fetchall()]
    taken = dict.fromkeys(own_columns, "")
    for selection in selections:
        for name in selection.features:
            output = selection.prefix + name
            if output in taken:
                where = taken[output] or "the spine's keys, kept columns or the training set's own"
                raise TrainingSetError(
                    f"{family.name}: feature {output!r} of view {selection.view.name} has a name "
                    f"that is taken by {where}. Give the view a prefix, or choose its columns"
                )
            taken[output] = f"view {selection.view.name}"
    keys = _join_keys(selections)
    spine = Spine(_SPLIT, tuple(_KEY + name for name in keys), "prediction_time")
    renamed = [
        Selection(
            selection.view,
            selection.features,
            {_KEY + name: column for name, column in selection.keys},
            selection.prefix,
        )
        for selection in selections
    ]
    joined = join_side_by_side(
        con, spine, renamed, order_by=("prediction_time", *family.spine.entity), name=_JOINED
    )
    own = [f"spine.{_quoted(name)}" for name in own_columns if not name.startswith(_KEY)]
    features = [_quoted(s.prefix + name) for s in selections for name in s.features]
    latest = ", ".join(_quoted(s.label + AVAILABLE_AT_SUFFIX) for s in selections)
    con.execute(
        f"""
        CREATE TEMP VIEW {_DATED} AS
        SELECT {", ".join([*own, *features])}, greatest({latest}) AS {_KNOWN_AT}
        FROM {joined.from_sql}
        """
    )
    con.execute(f"CREATE TEMP VIEW {_JOINED} AS SELECT * EXCLUDE ({_KNOWN_AT}) FROM {_DATED}")


def _audit(
    con: "duckdb.DuckDBPyConnection", family: ModelFamily, *, unlabelled: int, outside: int
) -> TrainingSetAudit:
    """Check the built training set.

    Raises
    ------
    TrainingSetError
        Listing every fault that makes it unfit to learn from or to judge on.
    """
    faults: list[str] = []
    leaks = _count(con, f"SELECT count(*) FROM {_DATED} WHERE {_KNOWN_AT} > prediction_time")
    if leaks:
        faults.append(f"{leaks} rows hold a feature value that was not known at prediction time")
    task = declared_task(family)
    labels = label_facts(con, _SPLIT, task)
    purged = labels.pop("purged").rows if "purged" in labels else 0
    if "train" in labels:
        task = task.learnt_from(labels["train"])
    for part in PARTS:
        if part not in labels:
            faults.append(
                f"{part}: is empty; {_days_of(con)} {unlabelled} spine rows have no label, "
                f"{outside} lie outside the split and {purged} were purged"
            )
            continue
        try:
            task.check_labels(part, labels[part])
        except TaskError as error:
            faults.append(str(error))
    schema = feature_schema(con, _JOINED, family)
    findings, infinite = _examine(con, schema)
    faults += infinite
    if faults:
        raise TrainingSetError(
            "\n".join([f"training set of {family.name} is refused:", *(f"  {f}" for f in faults)])
        )
    parts = {
        part: PartSummary(labels[part].rows, task.summary(labels[part]), first, last)
        for part, first, last in con.execute(
            f"""
            SELECT split, min(split_day), max(split_day)
            FROM {_SPLIT} WHERE split <> 'purged' GROUP BY split ORDER BY min(split_day)
            """
        ).fetchall()
    }
    return TrainingSetAudit(
        rows=sum(part.rows for part in parts.values()) + purged,
        parts=parts,
        purged=purged,
        unlabelled=unlabelled,
        outside=outside,
        features=len(schema.names),
        findings=findings,
    )


def _days_of(con: "duckdb.DuckDBPyConnection") -> str:
    days = con.execute(f"SELECT min(split_day), max(split_day) FROM {_SCORED}").fetchone()
    if days is None or days[0] is None:
        return "the spine is empty;"
    return f"the spine runs from {days[0]} to {days[1]};"


def _examine(
    con: "duckdb.DuckDBPyConnection", schema: FeatureSchema
) -> tuple[tuple[FeatureFinding, ...], list[str]]:
    """Find features that say nothing in training, and those that hold infinite numbers."""
    facts = _facts(
        con,
        "WHERE split = 'train'",
        [f"{how}({_quoted(name)})" for name in schema.names for how in ("count", "min", "max")],
    )
    numbers = schema.numeric
    infinite = _facts(
        con, "", [f"count_if(isinf(CAST({_quoted(name)} AS FLOAT)))" for name in numbers]
    )
    infinite_faults = [
        f"feature {name!r} is infinite as a 32-bit number in {rows} rows; "
        "guard the division in its SQL (nullif)"
        for name, rows in zip(numbers, infinite[1:], strict=True)
        if rows
    ]
    findings: list[FeatureFinding] = []
    train_rows, *each = facts
    for name, known, lowest, highest in zip(
        schema.names, each[::3], each[1::3], each[2::3], strict=True
    ):
        if not known:
            findings.append(FeatureFinding(name, "null in every training row"))
        elif lowest == highest:
            gaps = "" if known == train_rows else " or null"
            findings.append(FeatureFinding(name, f"always {lowest}{gaps} in training"))
    return tuple(findings), infinite_faults


def _facts(con: "duckdb.DuckDBPyConnection", where: str, expressions: list[str]) -> tuple[Any, ...]:
    """Return the number of rows and the given aggregates over them."""
    row = con.execute(
        f"SELECT {', '.join(['count(*)', *expressions])} FROM {_JOINED} {where}"
    ).fetchone()
    if row is None:
        raise TrainingSetError(f"{_JOINED} could not be examined: it gave no row")
    return tuple(row)


def _described(
    schema: "pa.Schema", lake: Lake, family: ModelFamily, selections: Sequence[Selection]
) -> "pa.Schema":
    """Give every column its description: the lake's for keys, the view's for features."""
    import pyarrow as pa

    comments = {
        field.name: (field.metadata or {}).get(b"comment", b"").decode()
        for field in lake.schema(TableName.parse(family.spine.table))
    }
    label = family.label
    label_fields = {field.name: field for field in lake.schema(TableName.parse(label.table))}
    label_comment = (label_fields[label.column].metadata or {}).get(b"comment", b"").decode()
    comments |= {
        "prediction_time": "When the prediction is made.",
        "label": f"{label.table}.{label.column}: {label_comment}".rstrip(": "),
        "label_available_at": "When the label could first be known.",
        "split": "train, validation, test, or purged: its label came too late for its part.",
        "split_day": f"Calendar day of {family.split_column}.",
        "split_hour": f"Hour of {family.split_column}; null where that is a date.",
    }
    for selection in selections:
        for feature in selection.view.features:
            comments[selection.prefix + feature.name] = feature.description
    return pa.schema(
        [
            field.with_metadata({"comment": comments[field.name]})
            if comments.get(field.name)
            else field
            for field in schema
        ]
    )
