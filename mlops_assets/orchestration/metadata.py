"""Metadata that every table asset carries, in the words that Dagster's UI understands."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration.daily import run_window

Metadata = dict[str, Any]


def asset_key(table: TableName) -> dg.AssetKey:
    """Return the asset of a lake table: ``raw/flights`` is ``AssetKey(["raw", "flights"])``."""
    return dg.AssetKey([table.schema, table.name])


def column_schema(columns: Iterable[tuple[str, str, str]]) -> dg.TableSchema:
    """Build the schema tab of an asset from (name, type, description) triples."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=name, type=type_, description=description or None)
            for name, type_, description in columns
        ]
    )


def arrow_columns(schema: pa.Schema) -> list[tuple[str, str, str]]:
    """Read name, type and comment of each column of a lake table."""
    return [
        (
            field.name,
            str(field.type),
            (field.metadata or {}).get(b"comment", b"").decode(),
        )
        for field in schema
    ]


def table_metadata(lake: Lake, table: TableName, version: int) -> Metadata:
    """Describe one version of a lake table.

    Parameters
    ----------
    version
        The Delta version this materialisation published.

    Returns
    -------
    dict
        Row count, place, Delta version and sizes; the numbers are plotted over time. The schema is
        not in it: it belongs to the asset's definition, and a run over a year would store it for
        every day.
    """
    info = lake.describe(table, version)
    return {
        "dagster/row_count": info.rows,
        "dagster/uri": info.uri,
        "dagster/table_name": str(table),
        "delta_version": info.version,
        "files": info.files,
        "bytes": info.bytes,
    }


def column_lineage(origins: Mapping[str, Iterable[tuple[TableName, str]]]) -> dg.TableColumnLineage:
    """Build the column lineage of an asset: output column to (table, column) pairs."""
    return dg.TableColumnLineage(
        deps_by_column={
            column: [
                dg.TableColumnDep(asset_key=asset_key(table), column_name=name)
                for table, name in pairs
            ]
            for column, pairs in origins.items()
        }
    )


def say_once(context: dg.AssetExecutionContext, key: dg.AssetKey, metadata: Metadata) -> None:
    """Attach metadata that is the same for all partitions of a run to the newest one only.

    Dagster writes an event for each partition and the UI shows the newest: a year in one run would
    store the same column lineage 365 times.
    """
    # A run over days may also make tables without partitions.
    partitioned = context.assets_def.specs_by_key[key].partitions_def is not None
    newest = context.partition_keys[-1] if partitioned and run_window(context) else None
    context.add_asset_metadata(metadata, asset_key=key, partition_key=newest)


def picture(png: bytes, alternative: str) -> dg.MarkdownMetadataValue:
    """Show a small PNG inside the metadata of an asset.

    Parameters
    ----------
    png
        At most about 40 kB, because it is stored in the event log.
    alternative
        What the picture shows, for people who cannot see it.
    """
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{alternative}](data:image/png;base64,{encoded})")


def records_table(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue | None:
    """Show rows as a table; ``None`` when there are none, which Dagster cannot draw."""
    records = [
        dg.TableRecord({name: _scalar(value) for name, value in row.items()}) for row in rows
    ]
    return dg.MetadataValue.table(records) if records else None


def _scalar(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
