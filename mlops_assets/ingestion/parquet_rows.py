"""Reading Parquet with the types it has, every row numbered."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.ingestion.copies import Copy
from mlops_assets.ingestion.errors import FileRefusal, SourceRefusedError
from mlops_assets.ingestion.headers import Wanted, match_header
from mlops_assets.ingestion.relations import ROWS, SourceRows, duckdb_space, identifier, literal


def read_parquet(con: duckdb.DuckDBPyConnection, copy: Copy, wanted: Wanted) -> SourceRows:
    """Load the wanted columns of a copied Parquet file into ``source_rows``.

    Raises
    ------
    SourceRefusedError
        If it is not Parquet, is cut short, or its columns do not fit.
    """
    try:
        header = pq.read_schema(copy.path).names
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(copy, error) from error
    positions = match_header(header, wanted, source=copy.uri, source_hash=copy.sha256)
    if isinstance(positions, FileRefusal):
        raise SourceRefusedError([positions], files=1)
    selected = ", ".join(f"{identifier(name)} AS __{index}" for index, name in enumerate(positions))
    try:
        with duckdb_space():
            con.execute(
                f"CREATE OR REPLACE TABLE {ROWS} AS SELECT {selected} "
                f"FROM read_parquet({literal(str(copy.path))}, hive_partitioning = false)"
            )
    except (duckdb.InvalidInputException, duckdb.SerializationException) as error:
        raise _unreadable(copy, error) from error
    described = con.execute(f"DESCRIBE {ROWS}").fetchall()
    kinds = {str(row[0]): str(row[1]) for row in described}
    columns = {name: f"__{index}" for index, name in enumerate(positions)}
    return SourceRows(columns, {name: kinds[column] for name, column in columns.items()})


def _unreadable(copy: Copy, error: Exception) -> SourceRefusedError:
    refusal = FileRefusal(
        copy.uri,
        rule="parquet",
        problem=f"it cannot be read as Parquet ({copy.size} bytes): "
        f"{str(error).replace(str(copy.path), copy.uri)}",
        remedy="Fetch or write the file again; compare its size with the original's.",
        source_hash=copy.sha256,
    )
    return SourceRefusedError([refusal], files=1)
