"""What a model may be asked: each feature's kind, and its values in the rows that were learnt from.

A contract is taken from one version of a training set and kept beside the model, so that whoever
serves it can check a caller's values without the lake. A value of another kind has no meaning to
the model; what it never saw, a range, a category, a missing value, it answers without experience.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mlops_assets.lake import Lake, TableVersion
from mlops_assets.training.dataset import DatasetError, FeatureSchema

if TYPE_CHECKING:
    import duckdb

MOST_CATEGORIES = 10_000
"""A text feature with more different values than this is not checked for unseen ones."""

_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_LEARNT = "split IN ('train', 'validation')"


class Kind(StrEnum):
    """What kind of value a feature is."""

    number = "number"
    integer = "integer"
    boolean = "boolean"
    category = "category"


@dataclass(frozen=True)
class InputField:
    """One feature as a caller gives it.

    Attributes
    ----------
    name, kind
        What it is called and which values it takes.
    nullable
        Whether it was ever missing in what was learnt from.
    low, high
        Smallest and largest number seen; None for a category, and where all were missing.
    categories
        Values seen, the most frequent first; empty for a number, and where there were more than
        `MOST_CATEGORIES`.
    description
        What it means.
    example
        Its value in one row that was learnt from, the same row for all features.
    """

    name: str
    kind: Kind
    nullable: bool
    low: float | None
    high: float | None
    categories: tuple[str, ...]
    description: str
    example: float | int | bool | str | None


@dataclass(frozen=True)
class InputContract:
    """The features of a model, in the order it takes them.

    Attributes
    ----------
    fields
        One a feature.
    """

    FILE: ClassVar[str] = "input_contract.json"

    fields: tuple[InputField, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(field.name for field in self.fields)

    @property
    def example(self) -> dict[str, float | int | bool | str | None]:
        """One row that the contract accepts."""
        return {field.name: field.example for field in self.fields}

    @classmethod
    def learnt_from(cls, lake: Lake, training_set: TableVersion, schema: FeatureSchema) -> Self:
        """Take the contract from the rows that a model learnt from.

        Parameters
        ----------
        lake, training_set
            Where the rows are; those of train and validation count.
        schema
            The model's features.

        Raises
        ------
        DatasetError
            When the training set lacks a feature.
        """
        table = training_set.table
        comments = {
            field.name: (field.metadata or {}).get(b"comment", b"").decode()
            for field in lake.schema(table, training_set.version)
        }
        with lake.connect(versions={table: training_set.version}, tables=[table]) as con:
            types = {
                str(name): str(kind).partition("(")[0]
                for name, kind, *_ in con.execute(f"DESCRIBE {table.sql}").fetchall()
            }
            if absent := [name for name in schema.names if name not in types]:
                raise DatasetError(f"{training_set} has no features {', '.join(absent)}")
            facts = _facts(con, table.sql, schema)
            example = _example(con, table.sql, schema)
            fields = [
                InputField(
                    name=name,
                    kind=_kind(types[name]),
                    nullable=facts[name].missing,
                    low=facts[name].low,
                    high=facts[name].high,
                    categories=_categories(con, table.sql, name)
                    if name in schema.categorical
                    else (),
                    description=comments.get(name, ""),
                    example=example[name],
                )
                for name in schema.names
            ]
        return cls(tuple(fields))

    def write(self, folder: Path) -> Path:
        """Write the contract into a folder and return its path."""
        path = folder / self.FILE
        content = {"fields": [asdict(field) for field in self.fields]}
        path.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a model's contract from its folder, also where MLflow keeps extra files.

        Raises
        ------
        DatasetError
            When there is none: the model was registered before contracts were kept.
        """
        places = [folder / cls.FILE, folder / "extra_files" / cls.FILE]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DatasetError(
                f"no input contract: looked for {' and '.join(map(str, places))}. The model was "
                "registered before contracts were kept; train its successor"
            )
        return cls.parse(json.loads(found.read_text(encoding="utf-8")))

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Self:
        """Read a contract from what `write` put into its file."""
        return cls(
            tuple(
                InputField(
                    **{
                        **field,
                        "kind": Kind(field["kind"]),
                        "categories": tuple(field["categories"]),
                    }
                )
                for field in content["fields"]
            )
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class _Facts:
    """What the values of one feature are."""

    low: float | None
    high: float | None
    missing: bool


def _kind(sql_type: str) -> Kind:
    if sql_type == "BOOLEAN":
        return Kind.boolean
    if sql_type in {"VARCHAR", "ENUM"}:
        return Kind.category
    return Kind.integer if sql_type in _WHOLE else Kind.number


def _facts(
    con: "duckdb.DuckDBPyConnection", relation: str, schema: FeatureSchema
) -> dict[str, _Facts]:
    """Measure every feature in one scan."""

    def measures(name: str) -> str:
        column = _quoted(name)
        number = "NULL::DOUBLE" if name in schema.categorical else f"CAST({column} AS DOUBLE)"
        return f"min({number}), max({number}), count(*) > count({column})"

    found = _row(con, f"SELECT {', '.join(map(measures, schema.names))} FROM {relation}")
    return {
        name: _Facts(*found[3 * place : 3 * place + 3]) for place, name in enumerate(schema.names)
    }


def _example(
    con: "duckdb.DuckDBPyConnection", relation: str, schema: FeatureSchema
) -> dict[str, Any]:
    """Return the features of a row that was learnt from, one of the latest."""
    found = _row(
        con,
        f"SELECT {', '.join(map(_quoted, schema.names))} FROM {relation}",
        "ORDER BY prediction_time DESC LIMIT 1",
    )
    return dict(zip(schema.names, found, strict=True))


def _categories(con: "duckdb.DuckDBPyConnection", relation: str, name: str) -> tuple[str, ...]:
    """Return the values of a text feature, the most frequent first; none where they are many."""
    found = con.execute(
        f"""
        SELECT CAST({_quoted(name)} AS VARCHAR) AS value FROM {relation}
        WHERE {_LEARNT} AND value IS NOT NULL
        GROUP BY value ORDER BY count(*) DESC, value LIMIT {MOST_CATEGORIES + 1}
        """
    ).fetchall()
    return tuple(value for (value,) in found) if len(found) <= MOST_CATEGORIES else ()


def _row(con: "duckdb.DuckDBPyConnection", query: str, order: str = "") -> tuple[Any, ...]:
    found = con.execute(f"{query} WHERE {_LEARNT} {order}").fetchone()
    if found is None:
        raise DatasetError(f"there is no row to learn from: {query} WHERE {_LEARNT}")
    return tuple(found)
