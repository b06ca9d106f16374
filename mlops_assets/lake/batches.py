"""The stream of rows on its way into a table: cast, checked and counted, batch by batch.

A commit that loses a race is tried again, and then needs its rows again. `Batches` gives them as
often as asked: from an in-memory table, from a callable that opens the source anew, or else from a
spool on disk that the first pass fills on its way through. Nothing holds a whole table in memory.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from mlops_assets.lake.errors import InvalidRowsError, LakeError
from mlops_assets.lake.schemas import storable
from mlops_assets.lake.spool import Spool
from mlops_assets.lake.window import Window


class ArrowStream(Protocol):
    """Anything that exports Arrow data: a pyarrow table or reader, a DuckDB or Polars result."""

    def __arrow_c_stream__(self, requested_schema: object | None = None, /) -> object: ...


Data = ArrowStream | Callable[[], ArrowStream]


class Batches:
    """Rows that can be streamed more than once.

    Parameters
    ----------
    data
        An Arrow stream, or a callable that opens one anew on each call (then nothing is spooled).
    scratch
        Folder for the spool.

    Raises
    ------
    UnsupportedTypeError
        When a column has a type that Delta cannot store.
    """

    def __init__(self, data: Data, scratch: Path) -> None:
        self._spool: Spool | None = None
        if isinstance(data, pa.Table | pa.RecordBatch):
            self._open: Callable[[], Iterator[pa.RecordBatch]] = lambda: iter(_reader(data))
            self.schema: pa.Schema = storable(data.schema)
            return
        if not hasattr(data, "__arrow_c_stream__") and callable(data):
            first = _reader(data())
            self._open = _once_then(first, lambda: _reader(data()))
        else:
            first = _reader(data)
            self._spool = Spool(first, scratch)
            self._open = self._spool.passes
        self.schema = storable(first.schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._spool is not None:
            self._spool.close()

    def stream(self, schema: pa.Schema, check: "RowCheck") -> "CheckedStream":
        """Return the rows from the start, with the columns of ``schema`` in its order and types.

        Parameters
        ----------
        schema
            Columns to write. One that the data lack is filled with nulls.
        check
            Rules that every row must keep.
        """
        return CheckedStream(self._open(), schema, check)


class RowCheck:
    """Rules of the write itself, checked on every batch before anything is committed.

    Parameters
    ----------
    table
        Name shown in errors.
    window
        Every row must lie inside it.
    required
        Columns in which no row may be null, and why: ``{"id": "is part of the key"}``.
    """

    def __init__(
        self, table: str, window: Window | None = None, required: dict[str, str] | None = None
    ) -> None:
        self._table = table
        self._window = window
        self._required = required or {}

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Check one batch whose first row has the number ``first_row``, counted from 0.

        Raises
        ------
        InvalidRowsError
            Naming the first row that breaks a rule, its value and the rule.
        """
        import pyarrow.compute as pc  # a sixth of a second, which definitions need not pay

        for column, reason in self._required.items():
            values = batch.column(column)
            if values.null_count:
                row = first_row + pc.index(pc.is_null(values), value=True).as_py()
                raise InvalidRowsError(
                    f"{self._table}: {values.null_count} rows have no {column!r}, which {reason}; "
                    f"the first is row {row}. Nothing was written."
                )
        if self._window is not None:
            values = batch.column(self._window.column)
            outside = pc.invert(self._window.contains(values))
            count = pc.sum(outside).as_py() or 0
            if count:
                index = pc.index(outside, value=True).as_py()
                raise InvalidRowsError(
                    f"{self._table}: {count} rows lie outside the window {self._window}; the "
                    f"first is row {first_row + index} with {values[index].as_py()!s}. Nothing was "
                    "written. Widen the window, or write these rows in their own."
                )


class CheckedStream:
    """One pass over the rows, as Arrow's stream protocol.

    Attributes
    ----------
    rows
        Rows that went through.
    error
        What stopped the pass. Arrow hands an error on as text only, so the original is kept here.
    """

    def __init__(
        self, source: Iterator[pa.RecordBatch], schema: pa.Schema, check: RowCheck
    ) -> None:
        self.schema = schema
        self.rows = 0
        self.error: BaseException | None = None
        self._source = source
        self._check = check

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        return pa.RecordBatchReader.from_batches(self.schema, self._pass()).__arrow_c_stream__(
            requested_schema
        )

    def _pass(self) -> Iterator[pa.RecordBatch]:
        # delta-rs pulls from inside its async runtime, where a source that itself uses delta-rs
        # could not run. So rows are taken in another thread, which also reads one batch ahead.
        with ThreadPoolExecutor(1, thread_name_prefix="lake-rows") as pool:
            try:
                ahead = pool.submit(next, self._source, None)
                while (batch := ahead.result()) is not None:
                    ahead = pool.submit(next, self._source, None)
                    ready = cast(batch, self.schema)
                    self._check(ready, self.rows)
                    self.rows += ready.num_rows
                    yield ready
            except GeneratorExit:
                raise  # the reader has had enough
            except BaseException as error:  # a panic of delta-rs is no Exception
                self.error = error
                raise


def _once_then(
    first: pa.RecordBatchReader, anew: Callable[[], pa.RecordBatchReader]
) -> Callable[[], Iterator[pa.RecordBatch]]:
    """Return what gives ``first`` when called first, and opens the source anew after that."""
    opened = [first]
    return lambda: iter(opened.pop() if opened else anew())


def _reader(data: object) -> pa.RecordBatchReader:
    if isinstance(data, pa.RecordBatchReader):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(data.schema, [data])
    if not hasattr(data, "__arrow_c_stream__"):
        raise LakeError(
            f"Cannot write a {type(data).__name__}: give anything with __arrow_c_stream__, such as "
            "a pyarrow table or reader, a DuckDB relation, a Polars frame; or a callable that "
            "opens one."
        )
    return pa.RecordBatchReader.from_stream(data)


def cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns of ``schema``; one that it lacks is filled with nulls.

    Raises
    ------
    InvalidRowsError
        When a value does not fit its column's type.
    """
    columns = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(index)
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except pa.ArrowInvalid as error:
                raise InvalidRowsError(
                    f"Column {field.name!r} cannot be stored as {field.type}: {error}. "
                    "Nothing was written."
                ) from error
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
