"""Source rows inside DuckDB, as they were read, before any cast.

A reader (``csv_rows``, ``json_rows``, ``parquet_rows``, ``arrow_rows``) fills one table whose rows
lie in the order of the source, so that a row's number in the source is its position here. Columns
are called by position, ``__0``, ``__1`` …, so that no name in a file can collide with another.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from mlops_assets.ingestion.errors import IngestionError, ScratchError

ROWS = "source_rows"
MALFORMED = "__malformed"


@dataclass(frozen=True)
class SourceRows:
    """Rows of one file as read, in the DuckDB table ``source_rows``.

    Attributes
    ----------
    columns
        SQL expression over ``source_rows``, by name, for each column that was wanted and is there.
    types
        DuckDB type of each of those.
    malformed
        Name of the text column that holds a row which cannot be told apart into columns (null
        for every other row); None where no row is like that.
    malformed_rule
        The rule such a row breaks.
    """

    columns: Mapping[str, str]
    types: Mapping[str, str]
    malformed: str | None = None
    malformed_rule: str = ""


def identifier(name: str) -> str:
    """Quote a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a SQL text."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def duckdb_space() -> Iterator[None]:
    """Turn DuckDB's lack of memory or disk into an error that says what to do."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise ScratchError(
            f"the rows do not fit: {error}. Nothing was published. Raise MLOPS_MEMORY_LIMIT or "
            "free space in the scratch folder, then run again."
        ) from error
    except duckdb.IOException as error:
        raise ScratchError(
            f"DuckDB cannot read or write its scratch files: {error}. Nothing was published. Free "
            "space in the scratch folder, then run again."
        ) from error


def new_rows_table(con: duckdb.DuckDBPyConnection, columns: Mapping[str, str]) -> None:
    """Create an empty ``source_rows`` table with these columns (DuckDB types by name)."""
    if not columns:
        raise IngestionError("a source without any column cannot be read; correct the source")
    spec = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
    con.execute(f"CREATE OR REPLACE TABLE {ROWS} ({spec})")
