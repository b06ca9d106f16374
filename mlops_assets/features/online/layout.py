"""What is stored of a table: names and kinds of columns, and which version was stored when.

Features are stored under their view's name, and spine rows under that of the spine's table. Kinds
are few, because a value must mean the same in a file, in Redis and in a request; what DuckDB calls
them is translated here.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from mlops_assets.features.errors import nearest
from mlops_assets.features.online.errors import EntityValueError, OnlineStoreError
from mlops_assets.lake import TableName, TableVersion

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_ZERO = _EPOCH.date()


class Kind(StrEnum):
    """What a stored value is.

    An instant is stored as microseconds since 1970 in UTC, a wall-clock time likewise as if it were
    UTC, and a date as days since 1970-01-01; the others are stored as they are.
    """

    integer = "integer"
    number = "number"
    boolean = "boolean"
    text = "text"
    instant = "instant"
    wall_time = "wall-clock time"
    date = "date"


_KINDS = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT"), Kind.integer),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER"), Kind.integer),
    **dict.fromkeys(("UBIGINT", "HUGEINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL"), Kind.number),
    **dict.fromkeys(("VARCHAR", "ENUM", "UUID"), Kind.text),
    "BOOLEAN": Kind.boolean,
    "TIMESTAMP WITH TIME ZONE": Kind.instant,
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), Kind.wall_time),
    "DATE": Kind.date,
}


def kind_of(duckdb_type: str, column: str) -> Kind:
    """Return the kind of a DuckDB type.

    Parameters
    ----------
    duckdb_type
        As ``DESCRIBE`` names it.
    column
        Where it stands, for the error.

    Raises
    ------
    OnlineStoreError
        If values of the type are no single number, text, boolean, date or time.
    """
    kind = _KINDS.get(duckdb_type.partition("(")[0])
    if kind is None:
        raise OnlineStoreError(
            f"{column} is {duckdb_type}; an online store holds numbers, booleans, text, dates and "
            "times. Derive such columns from it in the feature view's SQL"
        )
    return kind


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of a stored table."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Layout:
    """What the rows stored under one name look like.

    Attributes
    ----------
    name
        Of the feature view, or of the spine.
    key
        Columns that a row is found by, in order.
    columns
        Columns that it holds beside its key and its times, in order.
    """

    name: str
    key: tuple[StoredColumn, ...]
    columns: tuple[StoredColumn, ...]

    def position(self, column: str) -> int | None:
        """Return where a column's value stands among a row's values; None if it is not stored."""
        for position, stored in enumerate(self.columns):
            if stored.name == column:
                return position
        return None


@dataclass(frozen=True)
class ViewState:
    """What is stored under one name, and where it came from.

    Attributes
    ----------
    layout
        What its rows look like.
    source
        The version of the lake table that they were taken from.
    as_of
        Moment at which each row was the latest known of its entity.
    filled_at
        When they were stored.
    rows
        How many there are.
    """

    layout: Layout
    source: TableVersion
    as_of: datetime
    filled_at: datetime
    rows: int

    def to_json(self) -> bytes:
        """Return it as it is stored."""
        plain = {
            "layout": asdict(self.layout),
            "source": str(self.source),
            "as_of": self.as_of.isoformat(),
            "filled_at": self.filled_at.isoformat(),
            "rows": self.rows,
        }
        return json.dumps(plain).encode()

    @classmethod
    def from_json(cls, stored: bytes) -> Self:
        """Read what `to_json` wrote."""
        plain = json.loads(stored)
        layout = plain["layout"]
        return cls(
            Layout(layout["name"], _columns(layout["key"]), _columns(layout["columns"])),
            TableVersion.parse(plain["source"]),
            datetime.fromisoformat(plain["as_of"]),
            datetime.fromisoformat(plain["filled_at"]),
            plain["rows"],
        )


def _columns(plain: list[Mapping[str, str]]) -> tuple[StoredColumn, ...]:
    return tuple(StoredColumn(column["name"], Kind(column["kind"])) for column in plain)


@dataclass(frozen=True)
class SpineTable:
    """Where an entity's spine row is found by the entity's key.

    Attributes
    ----------
    table
        Lake table with one row an entity.
    entity
        Its key columns.
    prediction_time
        Its column with the instant at which the prediction is made.
    filter
        SQL condition over its columns that a row must meet; None: all rows.
    """

    table: TableName
    entity: tuple[str, ...]
    prediction_time: str = "prediction_time"
    filter: str | None = None

    @property
    def name(self) -> str:
        """What it is stored under; no feature view is named so, for its name has no slash."""
        keys = ", ".join(self.entity)
        return f"{self.table} by {keys}" + (f" where {self.filter}" if self.filter else "")


def microseconds(moment: datetime) -> int:
    """Return an instant as microseconds since 1970 in UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def instant(stored: int) -> datetime:
    """Return the instant that is so many microseconds after 1970 in UTC."""
    return _EPOCH + stored * _MICROSECOND


def from_stored(value: Any, kind: Kind) -> Any:
    """Return a stored value as Python has it: a `datetime.datetime` for an instant, for example."""
    if value is None:
        return None
    if kind is Kind.instant:
        return instant(value)
    if kind is Kind.wall_time:
        return instant(value).replace(tzinfo=None)
    if kind is Kind.date:
        return _DAY_ZERO + timedelta(days=value)
    return value


def to_stored(value: Any, column: StoredColumn, row: int) -> Any:
    """Return a value that a caller gave for a column as it is stored.

    Dates and times may be given as ISO 8601 text, and whole numbers as floats.

    Parameters
    ----------
    value
        What was given.
    column
        What it is for.
    row
        Which entity it belongs to, for the error.

    Raises
    ------
    EntityValueError
        If the column cannot have this value.
    """
    kind = column.kind
    if kind is Kind.text and isinstance(value, str):
        return value
    if isinstance(value, bool):
        if kind is Kind.boolean:
            return value
    elif isinstance(value, int | float):
        if kind is Kind.integer and value == value // 1:
            return int(value)
        if kind is Kind.number:
            return float(value)
    elif kind in {Kind.instant, Kind.wall_time, Kind.date}:
        moment = _moment(value, kind)
        if moment is not None:
            return moment
    # Whatever was given may be a person's, and an error may end up in a log.
    said = f"is of type {type(value).__name__}, which is no {kind}"
    raise EntityValueError(row, column.name, said)


def _moment(value: Any, kind: Kind) -> int | None:
    """Return a date or time as it is stored; None if it is not of that kind."""
    if isinstance(value, str):
        try:
            value = (
                date.fromisoformat(value) if kind is Kind.date else datetime.fromisoformat(value)
            )
        except ValueError:
            return None
    if isinstance(value, datetime):
        if (value.tzinfo is None) != (kind is Kind.wall_time) or kind is Kind.date:
            return None
        return microseconds(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date) and kind is Kind.date:
        return (value - _DAY_ZERO).days
    return None


def missing_columns(
    row: int, given: Mapping[str, Any], wanted: tuple[str, ...]
) -> EntityValueError:
    """Say which column an entity lacks, and what it has."""
    absent = next(name for name in wanted if name not in given)
    return EntityValueError(row, absent, f"is missing; {nearest(absent, given)}")
