"""Private DuckDB sessions: limited in memory, spilling to a folder of their own, in UTC."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from mlops_assets.lake.errors import from_storage
from mlops_assets.settings import DuckDBLimits

_PREFIX = "duckdb-"
_LOCK = "lock"

BATCH_ROWS = 65_536
"""Rows of one Arrow batch of a stream, for `to_arrow_reader`. DuckDB's default, a million, would
hold a gigabyte of a table with 150 columns at once."""


@contextmanager
def private_session(
    limits: DuckDBLimits, database: str = ":memory:"
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB session that nobody else sees, and close it with its spilled data.

    Rows keep the order of their files (DuckDB's ``preserve_insertion_order``): without it the
    result of ``LIMIT`` and of ``row_number() OVER ()`` would change from run to run.

    Parameters
    ----------
    limits
        Memory, threads and the folder to spill to.
    database
        A file, for a session that must outlive memory; by default none.

    Raises
    ------
    StorageFullError, StorageReadOnlyError
        When the scratch folder cannot be written.
    """
    try:
        limits.scratch.mkdir(parents=True, exist_ok=True)
        _sweep(limits.scratch)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=limits.scratch))
        lock = (folder / "unlocked").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "unlocked").rename(folder / _LOCK)  # so that nobody finds it there and free
    except OSError as error:
        raise from_storage(error, "open a DuckDB session", str(limits.scratch)) from error
    try:
        connection = duckdb.connect(
            database,
            config={
                "memory_limit": limits.memory_limit,
                "threads": limits.threads,
                "temp_directory": str(folder / "spill"),
                "autoinstall_known_extensions": False,
                "parquet_metadata_cache": True,
            },
        )
        with connection:
            # Global, so that cursors have it too; in `config` it would come before ICU is loaded.
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            connection.execute("SET enable_progress_bar = false")
            yield connection
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _sweep(scratch: Path) -> None:
    """Remove what sessions of killed processes left: their locks are free."""
    for folder in scratch.glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (FileNotFoundError, BlockingIOError):
            continue  # just made by another session, just removed by one, or in use
