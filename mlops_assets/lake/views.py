"""The views of a DuckDB session over the lake."""

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from mlops_assets.lake.errors import DataFileMissingError
from mlops_assets.lake.names import TableName
from mlops_assets.lake.schemas import quoted
from mlops_assets.lake.snapshot import Snapshot


def create_views(
    connection: duckdb.DuckDBPyConnection, snapshots: Mapping[TableName, Snapshot]
) -> None:
    """Make a schema for each lake schema and a view for each table that the session does not have.

    A table that ``read_parquet`` would misread is copied into the session instead, by delta-rs.

    Raises
    ------
    DataFileMissingError
        Naming the table, and a file of it that cannot be opened.
    """
    present = {
        (schema, name)
        for schema, name in connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = current_database()"
        ).fetchall()
    }
    wanted = {
        name: snapshot
        for name, snapshot in snapshots.items()
        if (name.schema, name.name) not in present
    }
    for schema in sorted({name.schema for name in snapshots}):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    for name, snapshot in wanted.items():
        if snapshot.unhonoured():
            _copy(connection, name, snapshot.stream())
        else:
            _show(connection, name, snapshot)


def _show(connection: duckdb.DuckDBPyConnection, name: TableName, snapshot: Snapshot) -> None:
    try:
        connection.execute(f"CREATE VIEW {name.sql} AS {snapshot.select()}")
    except duckdb.IOException as error:
        raise DataFileMissingError(
            f"{name} cannot be shown: {error}. Restore it (`mlops tables restore`) to a version "
            "whose files are all there, or leave it out of the session."
        ) from error


def _copy(
    connection: duckdb.DuckDBPyConnection, name: TableName, rows: pa.RecordBatchReader
) -> None:
    connection.register("_lake_copy", rows)
    try:
        connection.execute(f"CREATE TABLE {name.sql} AS SELECT * FROM _lake_copy")
    finally:
        connection.unregister("_lake_copy")
