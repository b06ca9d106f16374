"""Where tables lie and how one is opened: the one place that knows folders, URLs and handles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.exceptions import TableNotFoundError as NoDeltaTableError
from deltalake.fs import DeltaStorageHandler

from mlops_assets.declaration import did_you_mean
from mlops_assets.lake.commits import commits, version_at
from mlops_assets.lake.errors import (
    LakeError,
    TableNameError,
    TableNotFoundError,
    VersionNotFoundError,
    from_storage,
)
from mlops_assets.lake.names import TableName

_LOG = "_delta_log"
_GLOB = frozenset("*?[]")


@dataclass(frozen=True)
class Storage:
    """The tables under one root, each in a folder ``<root>/<schema>/<name>``.

    Attributes
    ----------
    root
        An absolute path, or an object-store URL.
    options
        What delta-rs needs to reach an object store.
    """

    root: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold credentials

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", _normalised(self.root))

    def uri(self, name: TableName) -> str:
        """Return where a table lies, whether it exists or not."""
        return f"{self.root}/{name.schema}/{name.name}"

    def names(self) -> Iterator[TableName]:
        """List the tables, in order. A folder whose name could not be a table's is not one."""
        if "://" not in self.root and not Path(self.root).is_dir():
            return
        files = self._filesystem(self.root)

        def folders(path: str) -> list[str]:
            found = files.get_file_info(pafs.FileSelector(path, recursive=False))
            return sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)

        for schema in folders(""):
            for name in folders(schema):
                try:
                    table = TableName(schema, name)
                except TableNameError:
                    continue
                if _LOG in folders(f"{schema}/{name}"):
                    yield table

    def exists(self, name: TableName) -> bool:
        """Tell whether there is such a table."""
        return bool(DeltaTable.is_deltatable(self.uri(name), dict(self.options)))

    def find(self, name: TableName) -> DeltaTable | None:
        """Open the latest version of a table, None where there is no such table."""
        try:
            return DeltaTable(self.uri(name), storage_options=dict(self.options))
        except NoDeltaTableError:
            return None
        except (DeltaError, OSError) as error:
            if not self.exists(name):
                return None
            raise from_storage(error, f"open {name}", self.uri(name)) from error

    def open(
        self, name: TableName, at: int | datetime | None = None, *, to_read: bool = True
    ) -> DeltaTable:
        """Open a table.

        Parameters
        ----------
        name
            Which table.
        at
            A version, or an instant (with a zone) for the version that was current then; by default
            the latest.
        to_read
            Whether its rows are wanted, or only what the log says of it.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When there is no such table or version, or a vacuum removed the rows that are wanted.
        """
        table = self.find(name)
        if table is None:
            known = [str(other) for other in self.names()]
            hint = did_you_mean(str(name), known) or "."
            raise TableNotFoundError(
                f"There is no table {name} in {self.root}{hint} "
                f"Tables: {', '.join(known) or 'none'}."
            )
        if at is None:
            return table
        version = self.version_of(table, name, at) if isinstance(at, datetime) else at
        latest = table.version()
        if version == latest:
            return table
        if not 0 <= version < latest:
            raise VersionNotFoundError(
                f"{name} has no version {version}: its latest is {latest}. "
                f"`mlops tables history {name}` lists them."
            )
        try:
            old = DeltaTable(self.uri(name), version=version, storage_options=dict(self.options))
        except (DeltaError, OSError) as error:
            raise VersionNotFoundError(
                f"{name} has no version {version} any more: {error}. "
                f"`mlops tables history {name}` lists what is left."
            ) from error
        missing = self._missing_files(old) if to_read else []
        if missing:
            raise VersionNotFoundError(
                f"{name}@{version} can no longer be read: {len(missing)} of its files are gone, "
                f"for example {missing[0]}. A vacuum removed them; pin the versions that must stay."
            )
        return old

    def _missing_files(self, table: DeltaTable) -> list[str]:
        sizes = pa.table(table.get_add_actions())
        paths = [unquote(path) for path in sizes["path"].to_pylist()]
        found = self._filesystem(table.table_uri).get_file_info(paths)
        return [info.path for info in found if info.type != pafs.FileType.File]

    def _filesystem(self, root: str) -> pafs.FileSystem:
        url = root if "://" in root else Path(root).as_uri()
        return pafs.PyFileSystem(DeltaStorageHandler(url, dict(self.options)))

    def version_of(self, table: DeltaTable, name: TableName, moment: datetime) -> int:
        """Return the version of an opened table that was current at an instant.

        Raises
        ------
        VersionNotFoundError
            When the table did not exist yet.
        LakeError
            When the instant has no zone.
        """
        if moment.tzinfo is None:
            raise LakeError(f"{moment} is no instant: add its zone, for example +00:00 for UTC.")
        history = commits(table)
        version = version_at(history, moment)
        if version is None:
            first = history[-1].timestamp.isoformat() if history else "unknown time"
            raise VersionNotFoundError(
                f"{name} did not exist at {moment.isoformat()}: the first commit in its log is of "
                f"{first}."
            )
        return version


def _normalised(root: str) -> str:
    if "://" in root and not root.startswith("file://"):
        return root.rstrip("/")
    path = Path(root.removeprefix("file://")).expanduser().absolute()
    odd = sorted(_GLOB.intersection(str(path)))
    if odd:
        raise LakeError(
            f"The lake folder {path} has {' '.join(odd)} in its path, which file patterns give a "
            "meaning to. Choose another folder (MLOPS_LAKE_URI)."
        )
    return str(path)
