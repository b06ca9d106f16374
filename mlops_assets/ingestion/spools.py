"""Taking a private copy of a stream of Arrow batches, so that its hash is known before its rows.

A database or a function gives its rows once. They are written to the scratch folder as they come,
in bounded batches, and read back from there, as a file would be.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from mlops_assets.ingestion.copies import scratch_space
from mlops_assets.ingestion.errors import FileRefusal, SourceRefusedError
from mlops_assets.ingestion.headers import Wanted, match_header
from mlops_assets.ingestion.relations import ROWS, SourceRows, duckdb_space, identifier


@dataclass(frozen=True)
class Spool:
    """A stream's private copy.

    Attributes
    ----------
    uri
        Where it came from, without credentials.
    segments
        Files of Arrow IPC streams. A new one begins where the types of the batches change, as they
        may in a database that does not enforce types.
    sha256
        Hash of column names, types and values, in order.
    size
        Bytes written.
    rows
        Rows.
    """

    uri: str
    segments: tuple[Path, ...]
    sha256: str
    size: int
    rows: int


def take_spool(uri: str, batches: Iterable[pa.RecordBatch], scratch: Path) -> Spool:
    """Write a stream of batches to the scratch folder.

    Parameters
    ----------
    uri
        Where the rows come from.
    batches
        At least one batch, which may be empty: it tells the columns.
    scratch
        Folder for the copy; the caller removes it.

    Raises
    ------
    ScratchError
        If the copy cannot be written.
    SourceRefusedError
        If there is no batch, so that not even the columns are known.
    """
    digest = hashlib.sha256()
    segments: list[Path] = []
    rows = 0
    writer: pa.RecordBatchStreamWriter | None = None
    schema: pa.Schema | None = None
    try:
        for batch in batches:
            with scratch_space(scratch):
                if writer is None or batch.schema != schema:
                    if writer is not None:
                        writer.close()
                    path = scratch / f"spool-{len(segments)}.arrows"
                    writer = pa.ipc.new_stream(path, batch.schema)
                    schema = batch.schema
                    segments.append(path)
                    digest.update(str(schema).encode())
                writer.write_batch(batch)
            digest.update(batch.serialize())
            rows += batch.num_rows
    finally:
        if writer is not None:
            with scratch_space(scratch):
                writer.close()
    if not segments:
        refusal = FileRefusal(
            uri,
            rule="not_empty",
            problem="it gave no data at all, not even the names of its columns",
            remedy="Return an Arrow table or a data frame with columns and zero rows instead.",
        )
        raise SourceRefusedError([refusal], files=1)
    size = sum(path.stat().st_size for path in segments)
    return Spool(uri, tuple(segments), digest.hexdigest(), size, rows)


def read_spool(
    con: duckdb.DuckDBPyConnection, spool: Spool, wanted: Wanted
) -> Iterator[SourceRows]:
    """Load a spool into ``source_rows``, one segment after the other.

    Yields
    ------
    SourceRows
        The rows of one segment; the next one replaces them.

    Raises
    ------
    SourceRefusedError
        If the columns do not fit.
    """
    for path in spool.segments:
        with pa.memory_map(str(path)) as mapped:
            reader = pa.ipc.open_stream(mapped)
            positions = match_header(
                reader.schema.names, wanted, source=spool.uri, source_hash=spool.sha256
            )
            if isinstance(positions, FileRefusal):
                raise SourceRefusedError([positions], files=1)
            schema = pa.schema(
                [pa.field(f"f{index}", field.type) for index, field in enumerate(reader.schema)]
            )
            renamed = pa.RecordBatchReader.from_batches(
                schema, (pa.RecordBatch.from_arrays(b.columns, schema=schema) for b in reader)
            )
            selected = ", ".join(
                f"{identifier(f'f{position}')} AS __{index}"
                for index, position in enumerate(positions.values())
            )
            con.register("spooled", renamed)
            try:
                with duckdb_space():
                    con.execute(f"CREATE OR REPLACE TABLE {ROWS} AS SELECT {selected} FROM spooled")
            finally:
                con.unregister("spooled")
        kinds = {str(row[0]): str(row[1]) for row in con.execute(f"DESCRIBE {ROWS}").fetchall()}
        columns = {name: f"__{index}" for index, name in enumerate(positions)}
        yield SourceRows(columns, {name: kinds[column] for name, column in columns.items()})
