"""A window: the half-open interval of one column that a write replaces, such as a day."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Self

import pyarrow as pa

from mlops_assets.lake.errors import WindowError


@dataclass(frozen=True)
class Window:
    """The rows with ``start <= column < end``. A null is in no window.

    Attributes
    ----------
    column
        A date or timestamp column.
    start, end
        Both dates, or both datetimes. A datetime with a zone is an instant and is kept in UTC; one
        without is a local time, and fits only a column of local times.

    Raises
    ------
    WindowError
        When the bounds are of different kinds, or ``start`` is not before ``end``.
    """

    column: str
    start: date | datetime
    end: date | datetime

    def __post_init__(self) -> None:
        if not self.column:
            raise WindowError("A window needs the name of a column.")
        if _kind(self.start) != _kind(self.end):
            raise WindowError(
                f"The window of {self.column} goes from {self.start!r} to {self.end!r}: give two "
                "dates, two datetimes with a zone, or two without."
            )
        if isinstance(self.start, datetime) and self.start.tzinfo is not None:
            assert isinstance(self.end, datetime)  # noqa: S101 - tells mypy what _kind established
            object.__setattr__(self, "start", self.start.astimezone(UTC))
            object.__setattr__(self, "end", self.end.astimezone(UTC))
        if not self.start < self.end:
            raise WindowError(
                f"The window of {self.column} is empty: start {self.start} is not before end "
                f"{self.end}. The end is exclusive."
            )

    @property
    def sql(self) -> str:
        """The predicate, valid in DuckDB and in delta-rs.

        Bounds are plain literals, which either engine reads as the type of the column: delta-rs
        cannot compare a column of microseconds with ``TIMESTAMP '...'``, which is nanoseconds.
        """
        column = '"' + self.column.replace('"', '""') + '"'
        return f"{column} >= '{_literal(self.start)}' AND {column} < '{_literal(self.end)}'"

    def fitted_to(self, schema: pa.Schema) -> Self:
        """Return the same window with bounds of the column's own type.

        A date bound on a column of instants means midnight UTC; a datetime at midnight fits a
        column of dates.

        Raises
        ------
        WindowError
            When there is no such column, or its type cannot hold the bounds exactly.
        """
        if self.column not in schema.names:
            raise WindowError(
                f"The window names column {self.column!r}, which is not there. "
                f"Columns: {', '.join(schema.names)}."
            )
        column_type = schema.field(self.column).type
        return replace(
            self,
            start=self._bound(self.start, column_type),
            end=self._bound(self.end, column_type),
        )

    def contains(self, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return, for values of the window's column, whether each is inside; False for nulls."""
        import pyarrow.compute as pc  # a sixth of a second, which definitions need not pay

        inside = pc.and_(
            pc.greater_equal(values, pa.scalar(self.start, values.type)),
            pc.less(values, pa.scalar(self.end, values.type)),
        )
        return pc.fill_null(inside, False)

    def _bound(self, value: date | datetime, column_type: pa.DataType) -> date | datetime:
        instant = isinstance(value, datetime)
        if pa.types.is_date(column_type):
            if not instant:
                return value
            assert isinstance(value, datetime)  # noqa: S101 - tells mypy what `instant` established
            if value.time() == time.min:
                return value.date()
        elif pa.types.is_timestamp(column_type):
            zone = UTC if column_type.tz is not None else None
            if not instant:
                return datetime.combine(value, time.min, tzinfo=zone)
            assert isinstance(value, datetime)  # noqa: S101 - as above
            if (value.tzinfo is None) == (zone is None):
                return value
        raise WindowError(
            f"The window bound {value!r} does not fit column {self.column!r} of type "
            f"{column_type}. Use dates for a date column, datetimes with a zone for instants, "
            "without one for local times."
        )

    def __str__(self) -> str:
        return f"[{_literal(self.start)}, {_literal(self.end)}) of {self.column}"


def _kind(value: date | datetime) -> str:
    if not isinstance(value, datetime):
        return "date"
    return "local time" if value.tzinfo is None else "instant"


def _literal(value: date | datetime) -> str:
    if not isinstance(value, datetime):
        return value.isoformat()
    text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
    return text if value.tzinfo is None else f"{text}Z"
