"""The lake: Delta tables, private DuckDB sessions over them, time travel and upkeep.

Import from here. What belongs in this package is storage: names, versions, windows, commits. What
a table must contain is `mlops_assets.quality`'s to say.
"""

from mlops_assets.lake.batches import ArrowStream, Data
from mlops_assets.lake.commits import Commit
from mlops_assets.lake.errors import (
    ConcurrentWriteError,
    DataFileMissingError,
    InvalidRowsError,
    LakeError,
    RetentionError,
    SchemaMismatchError,
    StorageFullError,
    StorageReadOnlyError,
    TableExistsError,
    TableNameError,
    TableNotFoundError,
    UnsupportedTypeError,
    VersionNotFoundError,
    WindowError,
)
from mlops_assets.lake.lake import Lake, TableInfo
from mlops_assets.lake.maintenance import VacuumReport
from mlops_assets.lake.names import TableName, TableVersion
from mlops_assets.lake.pins import PINS, Pin
from mlops_assets.lake.sessions import BATCH_ROWS, private_session
from mlops_assets.lake.window import Window

__all__ = [
    "BATCH_ROWS",
    "PINS",
    "ArrowStream",
    "Commit",
    "ConcurrentWriteError",
    "Data",
    "DataFileMissingError",
    "InvalidRowsError",
    "Lake",
    "LakeError",
    "Pin",
    "RetentionError",
    "SchemaMismatchError",
    "StorageFullError",
    "StorageReadOnlyError",
    "TableExistsError",
    "TableInfo",
    "TableName",
    "TableNameError",
    "TableNotFoundError",
    "TableVersion",
    "UnsupportedTypeError",
    "VacuumReport",
    "VersionNotFoundError",
    "Window",
    "WindowError",
    "private_session",
]
