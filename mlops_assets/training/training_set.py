"""Building a family's training set: spine, label and features, split by time, audited, published.

The rows are those of the spine whose label is known. A row is in the part its calendar day says,
with one exception: a training row whose label became known only after the validation part's first
prediction would tell the model about a time it is judged on, so it is *purged*: kept in the table
with split `purged`, and used for nothing. The same holds between validation and test.

A training set is made of what was known at one instant. What was predicted or became known later
has no part in it, though the tables may hold it: so a past training can be repeated, and history be
lived again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_assets.features import FeatureRegistry, Selection, Spine, join_side_by_side
from mlops_assets.features.selection import AVAILABLE_AT_SUFFIX
from mlops_assets.lake import BATCH_ROWS, Commit, Lake, TableName, TableVersion
from mlops_assets.lake.schemas import quoted
from mlops_assets.training.dataset import PARTS
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.family_split import SplitDays
from mlops_assets.training.tasks import TaskError, declared_task
from mlops_assets.training.training_set_audit import (
    TrainingSetAudit,
    audit_from,
    audit_training_set,
)
from mlops_assets.training.training_set_relations import (
    DATED,
    JOINED,
    KNOWN_AT,
    SCORED,
    SPLIT,
    TrainingSetError,
    count,
)

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_KEY = "_key_"  # a join key stands apart, so that a feature may have the same name
_INPUTS = "mlops.inputs"
_AUDIT = "mlops.audit"
_SPLIT_DAYS = "mlops.split"
_AS_OF = "mlops.as_of"


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
    split
        The days of its parts.
    as_of
        Nothing that was known later has a part in it.
    """

    version: TableVersion
    inputs: tuple[TableVersion, ...]
    audit: TrainingSetAudit
    split: SplitDays
    as_of: datetime


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
    as_of: datetime | None = None,
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
    as_of
        Rows predicted, and labels that became known, after this instant have no part in it; with a
        zone. Default: now.

    Raises
    ------
    TrainingSetError
        Listing every fault; nothing is published then.
    """
    as_of = _instant(family, datetime.now(UTC) if as_of is None else as_of)
    selections = select_features(family, views)
    wanted = versions or {}
    pins = {
        table: wanted[table] if table in wanted else lake.version(table)
        for table in input_tables(family, views)
    }
    inputs = tuple(TableVersion(table, version) for table, version in pins.items())
    with lake.connect(versions=pins, tables=pins) as con:
        unlabelled = _score(con, family, selections, as_of)
        split = family.split.days(_newest_known_day(con, family, as_of))
        outside = _split(con, split)
        _join(con, family, selections)
        audit = audit_training_set(con, family, unlabelled=unlabelled, outside=outside)
        columns = con.sql(f"SELECT * FROM {JOINED}")
        reader = columns.to_arrow_reader(BATCH_ROWS)
        described = _described(reader.schema, lake, family, selections)
        commit = lake.overwrite(
            family.training_set,
            reader.cast(described),
            metadata={
                _INPUTS: [str(version) for version in inputs],
                _AUDIT: audit.state(),
                _SPLIT_DAYS: {
                    name: None if day is None else day.isoformat()
                    for name, day in asdict(split).items()
                },
                _AS_OF: as_of.isoformat(),
            },
            allow_schema_change=True,
            description=f"Training set of {family.name}: {family.description}",
        )
    version = TableVersion(family.training_set, commit.version)
    return TrainingSet(version, inputs, audit, split, as_of)


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
        When the features now come from a table that had no part in it then, or it is not known any
        more how it was made.
    """
    made = published_training_set(lake, published)
    selections = select_features(family, views)
    pins = {used.table: used.version for used in inputs}
    if added := [name for name in input_tables(family, views) if name not in pins]:
        raise TrainingSetError(
            f"{family.name}: {', '.join(map(str, added))} had no part in {published}; the feature "
            "views have changed since. Check out the commit it was built with"
        )
    pins[published.table] = published.version
    with lake.connect(versions=pins, tables=pins) as con:
        _score(con, family, selections, made.as_of)
        _split(con, made.split)
        _join(con, family, selections)
        yield con, JOINED


def published_training_set(lake: Lake, version: TableVersion) -> TrainingSet:
    """Return what is known of a published training set: how it was made, and its audit.

    Raises
    ------
    TrainingSetError
        When that version was not written by `build_training_set` or its record has expired.
    """
    for commit in lake.history(version.table):
        if commit.version == version.version and _INPUTS in commit.metadata:
            inputs = tuple(TableVersion.parse(text) for text in commit.metadata[_INPUTS])
            audit = audit_from(commit.metadata[_AUDIT])
            return TrainingSet(version, inputs, audit, *_made(commit, audit))
    raise TrainingSetError(
        f"{version}: its history does not say what it was made of; build it again"
    )


def _made(commit: Commit, audit: TrainingSetAudit) -> tuple[SplitDays, datetime]:
    """Return the days of the parts, and what was known, of a published training set."""
    if _SPLIT_DAYS not in commit.metadata:
        # From before they were recorded: the days are those that the parts have rows of.
        train, validation, test = (audit.parts[name] for name in PARTS)
        end = test.last_day + timedelta(days=1)
        days = SplitDays(train.first_day, validation.first_day, test.first_day, end)
        return days, commit.timestamp
    record: Mapping[str, str | None] = commit.metadata[_SPLIT_DAYS]
    known: dict[str, Any] = {
        name: None if day is None else date.fromisoformat(day) for name, day in record.items()
    }
    return SplitDays(**known), datetime.fromisoformat(commit.metadata[_AS_OF])


def _instant(family: ModelFamily, as_of: datetime) -> datetime:
    if as_of.tzinfo is None:
        raise TrainingSetError(
            f"{family.name}: as_of {as_of.isoformat()} has no time zone; give one, such as "
            f"{as_of.replace(tzinfo=UTC).isoformat()}"
        )
    return as_of.astimezone(UTC)


def _sql_table(name: str) -> str:
    return TableName.parse(name).sql


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
    con: "duckdb.DuckDBPyConnection",
    family: ModelFamily,
    selections: Sequence[Selection],
    as_of: datetime,
) -> int:
    """Make the table of scored rows with their label as known then; return how many had none."""
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

    keys = ", ".join(quoted(name) for name in spine.entity)
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
    label_keys = ", ".join(quoted(column) for column in family.label_keys.values())
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
        f"spine.{quoted(name)} = truth.{quoted(column)}"
        for name, column in family.label_keys.items()
    )
    split_type = spine_types[family.split_column]
    if split_type not in {"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}:
        raise TrainingSetError(
            f"{family.name}: split.column {family.split_column!r} is {split_type}; "
            "it must be a DATE or a TIMESTAMP"
        )
    day = f"spine.{quoted(family.split_column)}"
    hour = "NULL" if split_type == "DATE" else f"hour({day})"
    task = declared_task(family)
    try:
        task.check_label_column(label_types[label.column])
    except TaskError as error:
        raise TrainingSetError(
            f"{family.name}: label.column {label.column!r} of {label.table} {error}"
        ) from error
    columns = ", ".join(
        [f"spine.{quoted(name)}" for name in dict.fromkeys((*spine.entity, *spine.keep))]
        + [f"spine.{quoted(name)} AS {quoted(_KEY + name)}" for name in _join_keys(selections)]
    )
    con.execute(
        f"""
        CREATE TEMP TABLE {SCORED} AS
        SELECT {columns},
               spine.{quoted(spine.prediction_time)} AS prediction_time,
               {task.label_sql("truth." + quoted(label.column))} AS label,
               truth.{quoted(label.available_at)} AS label_available_at,
               CAST({day} AS DATE) AS split_day, CAST({hour} AS TINYINT) AS split_hour
        FROM (SELECT * FROM {_sql_table(spine.table)} WHERE {spine.filter or "true"}) AS spine
        LEFT JOIN (
            SELECT * FROM {_sql_table(label.table)}
            WHERE ({label.filter or "true"})
              AND NOT coalesce({quoted(label.available_at)} > $as_of, false)
        ) AS truth ON {on}
        WHERE NOT coalesce(spine.{quoted(spine.prediction_time)} > $as_of, false)
        """,
        {"as_of": as_of},
    )
    early = count(con, f"SELECT count(*) FROM {SCORED} WHERE label_available_at <= prediction_time")
    if early:
        raise TrainingSetError(
            f"{family.name}: {early} labels are known before their prediction is made "
            f"({label.available_at} <= {spine.prediction_time}); check both columns"
        )
    undated = count(
        con,
        f"SELECT count(*) FROM {SCORED} WHERE label IS NOT NULL AND "
        "(label_available_at IS NULL OR prediction_time IS NULL OR split_day IS NULL)",
    )
    if undated:
        raise TrainingSetError(
            f"{family.name}: {undated} labelled rows lack {label.available_at}, "
            f"{spine.prediction_time} or {family.split_column}; when each was known must be said"
        )
    return count(con, f"SELECT count(*) FROM {SCORED} WHERE label IS NULL")


def _newest_known_day(
    con: "duckdb.DuckDBPyConnection", family: ModelFamily, as_of: datetime
) -> date | None:
    """Return the newest day with labels, all of which were due; None where there is none.

    A day some of whose labels are still to come is not taken: what is known early is not like the
    rest, as flights without delay arrive first.
    """
    [(day,)] = con.execute(
        f"""
        SELECT max(split_day) FROM (
            SELECT split_day FROM {SCORED} GROUP BY split_day
            HAVING count(label) > 0 AND max(prediction_time) + $due <= $as_of
        )
        """,
        {"due": family.monitoring.label_due, "as_of": as_of},
    ).fetchall()
    return None if day is None else date(day.year, day.month, day.day)


def _split(con: "duckdb.DuckDBPyConnection", split: SplitDays) -> int:
    """Give every labelled row its part; return how many lie outside the split's days."""
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
        CREATE TEMP TABLE {SPLIT} AS
        WITH parts AS (SELECT *, {part} AS part FROM {SCORED} WHERE label IS NOT NULL),
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
    labelled = count(con, f"SELECT count(*) FROM {SCORED} WHERE label IS NOT NULL")
    return labelled - count(con, f"SELECT count(*) FROM {SPLIT}")


def _join(
    con: "duckdb.DuckDBPyConnection", family: ModelFamily, selections: Sequence[Selection]
) -> None:
    """Add what was known about each row when its prediction was made."""
    own_columns = [row[0] for row in con.execute(f"DESCRIBE {SPLIT}").fetchall()]
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
    spine = Spine(SPLIT, tuple(_KEY + name for name in keys), "prediction_time")
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
        con, spine, renamed, order_by=("prediction_time", *family.spine.entity), name=JOINED
    )
    own = [f"spine.{quoted(name)}" for name in own_columns if not name.startswith(_KEY)]
    features = [quoted(s.prefix + name) for s in selections for name in s.features]
    latest = ", ".join(quoted(s.label + AVAILABLE_AT_SUFFIX) for s in selections)
    con.execute(
        f"""
        CREATE TEMP VIEW {DATED} AS
        SELECT {", ".join([*own, *features])}, greatest({latest}) AS {KNOWN_AT}
        FROM {joined.from_sql}
        """
    )
    con.execute(f"CREATE TEMP VIEW {JOINED} AS SELECT * EXCLUDE ({KNOWN_AT}) FROM {DATED}")


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
