"""A spool: rows of a stream that can be read once, kept on disk in case they are needed again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from mlops_assets.lake.errors import from_storage


class Spool:
    """Rows of a one-shot stream, to be read as often as needed.

    The first pass takes them from the stream and writes each on its way through. A pass that was
    given up half-way loses nothing: the next one first takes the rest. The file has no name, so it
    is gone when the process is, however that ends.

    Parameters
    ----------
    rows
        The stream.
    scratch
        Folder of the file.
    """

    def __init__(self, rows: pa.RecordBatchReader, scratch: Path) -> None:
        self._rows = rows
        self._scratch = scratch
        self._file: IO[bytes] | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._complete = False

    def passes(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows from the start.

        Raises
        ------
        StorageFullError, StorageReadOnlyError
            When the scratch folder cannot hold them.
        """
        if self._file is None:
            yield from self._taken()
            return
        if not self._complete:
            for _ in self._taken():
                pass
        self._file.seek(0)
        yield from pa.ipc.open_stream(self._file)

    def close(self) -> None:
        """Give the disk space back."""
        if self._file is not None:
            self._file.close()

    def _taken(self) -> Iterator[pa.RecordBatch]:
        """Yield what is left in the stream, writing each batch first."""
        writer = self._writer or self._opened()
        for batch in self._rows:
            try:
                writer.write_batch(batch)
            except OSError as error:
                raise self._failed(error) from error
            yield batch
        try:
            writer.close()
        except OSError as error:
            raise self._failed(error) from error
        self._complete = True

    def _opened(self) -> pa.ipc.RecordBatchStreamWriter:
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - see close()
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._file, self._rows.schema, options=options)
        except OSError as error:
            raise self._failed(error) from error
        return self._writer

    def _failed(self, error: OSError) -> Exception:
        return from_storage(error, "keep rows for a retry", str(self._scratch))
