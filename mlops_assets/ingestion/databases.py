"""Streaming rows out of a database, as Arrow batches.

Whole days more than the window are asked for on each side, because a database may compare in its
own zone, or compare texts; the exact window is cut after reading, on typed values.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops_assets.ingestion.errors import DeclarationError, IngestionError, SourceUnavailableError
from mlops_assets.ingestion.periods import midnight
from mlops_assets.ingestion.relations import identifier
from mlops_assets.ingestion.secrets import Secrets, without_credentials
from mlops_assets.ingestion.sources import SqlSource

if TYPE_CHECKING:
    from mlops_assets.lake import Window


def sql_uri(source: SqlSource) -> str:
    """Return the name of a database source in provenance and messages, without credentials."""
    base = without_credentials(source.url or source.adbc_uri or "")
    return f"{base}#{source.table or 'query'}"


def sql_batches(source: SqlSource, window: "Window | None") -> Iterator[pa.RecordBatch]:
    """Run the query and give its rows as they arrive.

    Parameters
    ----------
    source
        The declaration.
    window
        Narrows the query where the source has a ``window_column``.

    Yields
    ------
    pyarrow.RecordBatch
        At most ``batch_rows`` rows (an ADBC driver chooses for itself). The first one is there
        even if there is no row.

    Raises
    ------
    SourceUnavailableError
        With the database's message and without secrets, if it cannot be reached or refuses.
    DeclarationError
        If a driver or an environment variable is missing.
    """
    if source.url is not None:
        yield from _through_sqlalchemy(source, source.url, window)
    else:
        yield from _through_adbc(source, window)


def _statement(source: SqlSource, window: "Window | None", table: str | None) -> str:
    inner = source.query.strip().rstrip(";") if source.query is not None else table
    if window is None or source.window_column is None:
        return inner if source.query is not None else f"SELECT * FROM {table}"  # type: ignore[return-value]  # one of the two is given
    first = (midnight(window.start) - timedelta(days=1)).date()
    last = (midnight(window.end) + timedelta(days=2)).date()
    relation = f"({inner}) AS source_query" if source.query is not None else inner
    column = identifier(source.window_column)
    return f"SELECT * FROM {relation} WHERE {column} >= '{first}' AND {column} < '{last}'"


def _through_sqlalchemy(
    source: SqlSource, declared: str, window: "Window | None"
) -> Iterator[pa.RecordBatch]:
    import sqlalchemy as sa

    url, secrets = Secrets.fill(declared, "url")
    with _speaking(source, secrets):
        engine = sa.create_engine(url, hide_parameters=True, poolclass=sa.pool.NullPool)
    quote = engine.dialect.identifier_preparer.quote
    table = None
    if source.table is not None:
        table = ".".join(quote(part) for part in source.table.split("."))
    # A colon in a user's query is SQL, such as a cast, and no bind parameter.
    statement = sa.text(_statement(source, window, table).replace(":", r"\:"))
    with _speaking(source, secrets), engine.connect() as connection:
        result = connection.execution_options(
            stream_results=True, yield_per=source.batch_rows
        ).execute(statement)
        names = list(result.keys())
        first = True
        for rows in result.partitions(source.batch_rows):
            first = False
            yield _batch(names, rows)
        if first:
            yield _batch(names, [])


def _through_adbc(source: SqlSource, window: "Window | None") -> Iterator[pa.RecordBatch]:
    try:
        from adbc_driver_manager import dbapi
    except ImportError as error:
        raise DeclarationError(
            "an ADBC source needs the package adbc-driver-manager, which is not installed; "
            "install it, or give a SQLAlchemy `url`"
        ) from error
    uri, secrets = Secrets.fill(source.adbc_uri, "adbc_uri")
    table = None
    if source.table is not None:
        table = ".".join(identifier(part) for part in source.table.split("."))
    with (
        _speaking(source, secrets),
        closing(
            dbapi.connect(driver=_driver(source.adbc_driver), uri=uri, autocommit=True)
        ) as connection,
        closing(connection.cursor()) as cursor,
    ):
        cursor.execute(_statement(source, window, table))
        with cursor.fetch_record_batch() as reader:
            yield from reader
            yield pa.RecordBatch.from_pylist([], schema=reader.schema)


def _driver(declared: str | None) -> str:
    """Return what the driver manager loads: a package of a driver knows where its library lies."""
    name = declared or ""
    if not name.isidentifier() or importlib.util.find_spec(name) is None:
        return name
    package = importlib.import_module(name)
    locate = getattr(package, "_driver_path", None) or getattr(package, "driver_path", None)
    return name if locate is None else str(locate())


def _batch(names: Sequence[str], rows: Sequence[Any]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pa.RecordBatch.from_arrays([_array(column) for column in columns], names=list(names))


def _array(values: Sequence[Any]) -> pa.Array:
    """Convert one column; where its values are of several kinds, as text, as SQLite may have it."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            pass  # a kind that Arrow has no type for, such as a UUID or a huge integer
    return pa.array([None if value is None else str(value) for value in values], pa.string())


@contextmanager
def _speaking(source: SqlSource, secrets: Secrets) -> Iterator[None]:
    try:
        yield
    except IngestionError:
        raise
    except Exception as error:  # noqa: BLE001 - each driver raises its own library's errors
        raise SourceUnavailableError(
            f"{sql_uri(source)} cannot be read: "
            f"{secrets.scrub(f'{type(error).__name__}: {error}')}. Nothing was published. Check "
            "the URL, the driver, the network and the query, then run again."
        ) from None  # the original error's text may hold a secret
