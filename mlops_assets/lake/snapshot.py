"""How DuckDB reads one version of a Delta table: the relation behind a view of `Lake.connect`.

DuckDB gets the list of the version's own files and the table's schema, so that it opens no file
until a query needs it, and files that were written before a column was added read as null there.
Where the protocol names a feature that this cannot honour, the rows come from delta-rs instead:
slower, never wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from mlops_assets.lake.batches import cast
from mlops_assets.lake.errors import from_storage
from mlops_assets.lake.schemas import duckdb_type, literal, quoted, storable

_HONOURED_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
_ODD = frozenset("*?[:")  # wildcards, and the colon of a URL
_FILE = quoted("_lake_file")


@dataclass(frozen=True)
class Snapshot:
    """One version of a table, opened.

    Attributes
    ----------
    table
        The table at that version.
    schema
        Its columns, with their comments.
    files
        Its data files, one a row: relative, URL-encoded ``path``, ``size_bytes``, ``num_records``,
        ``partition`` values.
    """

    table: DeltaTable
    schema: pa.Schema
    files: pa.Table

    @classmethod
    def of(cls, table: DeltaTable) -> "Snapshot":
        """Return the snapshot that an opened table stands at."""
        schema = storable(pa.schema(table.schema().to_arrow()))
        return cls(table, schema, pa.table(table.get_add_actions()))

    def unhonoured(self) -> str:
        """Say why ``read_parquet`` cannot read the files rightly; empty where it can."""
        protocol = self.table.protocol()
        properties = self.table.metadata().configuration
        features = set(protocol.reader_features or ()) - _HONOURED_FEATURES
        if features:
            return f"reader features {', '.join(sorted(features))}"
        if properties.get("delta.columnMapping.mode", "none") != "none":
            return "column mapping"
        if not self.table.table_uri.startswith("file://"):
            return "files in an object store"
        paths = self.files["path"].to_pylist()
        odd = next((path for path in paths if path[0] == "/" or _ODD.intersection(path)), None)
        return f"a file elsewhere or with a wildcard in its name, {odd}" if odd else ""

    def rows(self) -> int | None:
        """Return the number of rows by the statistics in the log; None where files lack them."""
        counts = self.files["num_records"]
        if counts.null_count or "deletionVectors" in (self.table.protocol().reader_features or ()):
            return None
        return int(sum(counts.to_pylist()))

    def counted(self) -> int:
        """Count the rows by reading them."""
        name = self.schema.names[0]
        return sum(batch.num_rows for batch in self.stream([name]))

    def stream(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """Stream the rows through delta-rs, which honours every feature it opens a table with.

        Parameters
        ----------
        columns
            Which columns, in which order; by default all.
        """
        names = self.schema.names if columns is None else list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, self._scanned(schema))

    def _scanned(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            scanned = self.table.scan(columns=schema.names)
            for batch in pa.RecordBatchReader.from_stream(scanned):
                yield cast(batch, schema)
        except (DeltaError, OSError, pa.ArrowInvalid) as error:
            raise from_storage(error, "read the table", self.table.table_uri) from error

    def select(self) -> str:
        """Return a SELECT of the version's rows, with the table's columns, types and order."""
        if self.files.num_rows == 0:
            return self._select_nothing()
        folder = unquote(urlsplit(self.table.table_uri).path).rstrip("/")
        files = [f"{folder}/{unquote(path)}" for path in self.files["path"].to_pylist()]
        partitioned = list(self.table.metadata().partition_columns)
        options = [self._schema_option(partitioned), "hive_partitioning=false"]
        rows = self.rows()
        if rows is not None:
            options.append(f"explicit_cardinality={rows}")
        if partitioned:
            options.append(f"filename={literal('_lake_file')}")
        paths = ", ".join(literal(file) for file in files)
        source = f"read_parquet([{paths}], {', '.join(options)})"
        if partitioned:
            source += f" JOIN {self._partition_values(files, partitioned)} USING ({_FILE})"
        columns = ", ".join(quoted(name) for name in self.schema.names)
        return f"SELECT {columns} FROM {source}"

    def _select_nothing(self) -> str:
        columns = ", ".join(
            f"CAST(NULL AS {duckdb_type(field.type)}) AS {quoted(field.name)}"
            for field in self.schema
        )
        return f"SELECT {columns} WHERE false"

    def _schema_option(self, partitioned: Sequence[str]) -> str:
        columns = ", ".join(
            f"{literal(field.name)}: {{name: {literal(field.name)}, "
            f"type: {literal(duckdb_type(field.type))}, default_value: NULL}}"
            for field in self.schema
            if field.name not in partitioned
        )
        return f"schema=MAP {{{columns}}}"

    def _partition_values(self, files: Sequence[str], partitioned: Sequence[str]) -> str:
        """Return a VALUES list of file and partition values, which the files do not hold."""
        values = self.files["partition"].combine_chunks()
        texts = [values.field(name).cast(pa.string()).to_pylist() for name in partitioned]
        types = [duckdb_type(self.schema.field(name).type) for name in partitioned]
        rows = []
        for file, row in zip(files, zip(*texts, strict=True), strict=True):
            cells = (
                f"CAST({'NULL' if text is None else literal(text)} AS {sql_type})"
                for text, sql_type in zip(row, types, strict=True)
            )
            rows.append(f"({literal(file)}, {', '.join(cells)})")
        names = ", ".join([_FILE, *(quoted(name) for name in partitioned)])
        return f"(VALUES {', '.join(rows)}) AS _lake_partitions({names})"
