"""`Lake`: the one way in to the durable tables, each of them a Delta table.

What belongs here is the public face: what a caller may ask for, and what they get. How it is done
is in the modules beside it.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from mlops_assets.lake import maintenance
from mlops_assets.lake.batches import Data
from mlops_assets.lake.commits import Commit, commits
from mlops_assets.lake.errors import (
    LakeError,
    TableNotFoundError,
    VersionNotFoundError,
)
from mlops_assets.lake.maintenance import VacuumReport
from mlops_assets.lake.names import TableName, TableVersion
from mlops_assets.lake.pins import DESCRIPTION as PINS_DESCRIPTION
from mlops_assets.lake.pins import PINS, Pin, holding
from mlops_assets.lake.pins import SCHEMA as PINS_SCHEMA
from mlops_assets.lake.sessions import private_session
from mlops_assets.lake.snapshot import Snapshot
from mlops_assets.lake.storage import Storage
from mlops_assets.lake.views import create_views
from mlops_assets.lake.window import Window
from mlops_assets.lake.writes import Write
from mlops_assets.settings import DuckDBLimits, Settings

if TYPE_CHECKING:
    import duckdb

_OPENING_THREADS = 8
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class TableInfo:
    """What one version of a table is.

    Attributes
    ----------
    name, version
        Which.
    rows
        Its rows, from the statistics in the log where every file has them, else counted.
    files, bytes
        Its data files and their size together.
    uri
        Where it lies; any Delta reader opens it there.
    description
        Of the table, empty where it has none.
    schema
        Its columns; a column's description is Arrow field metadata ``comment``.
    properties
        Delta table properties.
    partition_columns
        Columns that its files are split by; empty for tables that this lake wrote.
    """

    name: TableName
    version: int
    rows: int
    files: int
    bytes: int
    uri: str
    description: str
    schema: pa.Schema
    properties: Mapping[str, str]
    partition_columns: tuple[str, ...]


class Lake:
    """All durable tables, under one root.

    Parameters
    ----------
    root
        A folder, or an object-store URL that delta-rs understands.
    storage_options
        What delta-rs needs to reach an object store.
    limits
        Memory, threads and scratch folder of every DuckDB session.

    Examples
    --------
    >>> lake = Lake.from_settings(load_settings())
    >>> lake.overwrite(TableName.parse("raw/airlines"), rows)
    >>> with lake.connect() as con:
    ...     con.sql("SELECT count(*) FROM raw.airlines").fetchall()
    """

    def __init__(
        self, root: str, storage_options: Mapping[str, str] | None = None, *, limits: DuckDBLimits
    ) -> None:
        self.limits = limits
        self._storage = Storage(root, dict(storage_options or {}))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the lake of a deployment."""
        return cls(settings.lake_uri, settings.lake_storage_options, limits=settings.duckdb)

    @property
    def root(self) -> str:
        """Where the lake lies: an absolute path, or a URL."""
        return self._storage.root

    # Looking

    def tables(self) -> tuple[TableName, ...]:
        """Return the names of all tables, in order."""
        return tuple(self._storage.names())

    def exists(self, name: TableName) -> bool:
        """Tell whether there is such a table."""
        return self._storage.exists(name)

    def uri(self, name: TableName) -> str:
        """Return where a table lies, whether it exists or not."""
        return self._storage.uri(name)

    def version(self, name: TableName) -> int:
        """Return a table's latest version.

        Raises
        ------
        TableNotFoundError
            When there is no such table.
        """
        return int(self._storage.open(name).version())

    def schema(self, name: TableName, version: int | None = None) -> pa.Schema:
        """Return a table's columns, with their descriptions as field metadata ``comment``.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When there is no such table, or no such version of it.
        """
        return Snapshot.of(self._storage.open(name, version, to_read=False)).schema

    def describe(self, name: TableName, version: int | None = None) -> TableInfo:
        """Return what a table, or one version of it, is.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When there is no such table, or no such version of it.
        """
        snapshot = Snapshot.of(self._storage.open(name, version, to_read=False))
        metadata = snapshot.table.metadata()
        rows = snapshot.rows()
        return TableInfo(
            name=name,
            version=snapshot.table.version(),
            rows=snapshot.counted() if rows is None else rows,
            files=snapshot.files.num_rows,
            bytes=sum(snapshot.files["size_bytes"].to_pylist()),
            uri=self.uri(name),
            description=metadata.description or "",
            schema=snapshot.schema,
            properties=MappingProxyType(dict(metadata.configuration)),
            partition_columns=tuple(metadata.partition_columns),
        )

    def history(self, name: TableName, limit: int | None = None) -> tuple[Commit, ...]:
        """Return the commits of a table, newest first, at most ``limit`` of them.

        Raises
        ------
        TableNotFoundError
            When there is no such table.
        """
        return commits(self._storage.open(name), limit)

    # Reading

    def read(
        self,
        name: TableName,
        at: int | datetime | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.RecordBatchReader:
        """Stream the rows of a table.

        Parameters
        ----------
        name
            Which table.
        at
            A version, or an instant (with a zone) for the version that was current then; by default
            the latest.
        columns
            Which columns, in which order; by default all.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When there is no such table, or no such version of it.
        LakeError
            When there is no such column.
        """
        snapshot = Snapshot.of(self._storage.open(name, at))
        absent = [column for column in columns or () if column not in snapshot.schema.names]
        if absent:
            raise LakeError(
                f"{name} has no column {', '.join(absent)}. "
                f"Columns: {', '.join(snapshot.schema.names)}."
            )
        return snapshot.stream(columns)

    @contextmanager
    def connect(
        self,
        versions: Mapping[TableName, int] | None = None,
        as_of: datetime | None = None,
        tables: Iterable[TableName] | None = None,
        database: str = ":memory:",
    ) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open a private DuckDB session with a view for each table, in a schema for each schema.

        It is limited in memory and threads, spills to a folder of its own, and is in UTC. The views
        stay at the versions found when it opened, whatever is written meanwhile.

        Parameters
        ----------
        versions, as_of, tables
            As `create_views`.
        database
            A DuckDB file, for a scratch that must outlive memory; by default none.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When a table that was asked for, or that version of it, does not exist.
        """
        with private_session(self.limits, database) as connection:
            self.create_views(connection, versions=versions, as_of=as_of, tables=tables)
            yield connection

    def create_views(
        self,
        connection: "duckdb.DuckDBPyConnection",
        *,
        versions: Mapping[TableName, int] | None = None,
        as_of: datetime | None = None,
        tables: Iterable[TableName] | None = None,
    ) -> Mapping[TableName, int]:
        """Make the schemas and views of `connect` in a DuckDB session that somebody else opened.

        A table or view of the same name that is already in the session stays as it is: it is
        newer work, or a view that pins the version the session began with.

        Parameters
        ----------
        connection
            The session; it should be in UTC.
        versions
            Versions to pin. Tables not named are at ``as_of``.
        as_of
            An instant (with a zone): tables as they were then, and only those that existed. By
            default the latest versions.
        tables
            Show only these, and those in ``versions``; by default all.

        Returns
        -------
        Mapping of TableName to int
            The version of each table shown.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When a table that was asked for, or that version of it, does not exist.
        """
        pinned = dict(versions or {})
        named = {*pinned, *tables} if tables is not None else set(pinned)
        names = sorted(named if tables is not None else named.union(self._storage.names()))

        def opened(name: TableName) -> Snapshot | None:
            try:
                return Snapshot.of(self._storage.open(name, pinned.get(name, as_of)))
            except VersionNotFoundError:
                if name in named:
                    raise
                return None  # the table is younger than `as_of`

        with ThreadPoolExecutor(_OPENING_THREADS) as pool:
            snapshots = dict(zip(names, pool.map(opened, names), strict=True))
        shown = {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}
        create_views(connection, shown)
        return {name: snapshot.table.version() for name, snapshot in shown.items()}

    # Writing

    def create(self, name: TableName, schema: pa.Schema, description: str = "") -> Commit:
        """Create an empty table.

        Raises
        ------
        TableExistsError
            When there is one of this name.
        UnsupportedTypeError
            When Delta cannot store a column's type.
        """
        return self._write(name, description=description or None).create(schema)

    def overwrite(
        self,
        name: TableName,
        data: Data,
        *,
        metadata: Mapping[str, Any] = _NOTHING,
        allow_schema_change: bool = False,
        description: str | None = None,
    ) -> Commit:
        """Replace all rows of a table, or create it with them.

        Parameters
        ----------
        name
            Which table.
        data
            Anything with ``__arrow_c_stream__``: an Arrow table or reader, a DuckDB relation, a
            Polars frame; it is streamed, and spooled to scratch on its way in case a conflict makes
            the write start over. Or a callable that opens such a stream anew on each call; then
            nothing is spooled. Column comments are kept and updated.
        metadata
            JSON values to record with the commit, such as a batch or run id.
        allow_schema_change
            Whether columns may differ from those stored.
        description
            Of the table; None leaves it as it is.

        Raises
        ------
        SchemaMismatchError
            When columns differ and no change was allowed; it names them.
        InvalidRowsError
            When a value does not fit its column, or is null where none may be.
        ConcurrentWriteError, StorageFullError, StorageReadOnlyError
            When it could not be committed. The table stands as it was.
        """
        write = self._write(name, metadata, allow_schema_change, description)
        return write.overwrite(data)

    def overwrite_window(
        self,
        name: TableName,
        data: Data,
        window: Window,
        *,
        metadata: Mapping[str, Any] = _NOTHING,
        allow_schema_change: bool = False,
        description: str | None = None,
    ) -> Commit:
        """Replace the rows of one window, leave all others; or create the table with these rows.

        An empty batch empties the window. `overwrite` describes the other parameters and errors.

        Parameters
        ----------
        name, data, metadata
            As for `overwrite`.
        window
            Every row must lie inside it.
        allow_schema_change
            Whether columns may be added. They are null in the rows that stay.
        description
            Of the table, where this creates it.

        Raises
        ------
        InvalidRowsError
            When a row lies outside the window. Nothing is changed then.
        WindowError
            When the window does not fit the column it names.
        """
        write = self._write(name, metadata, allow_schema_change, description)
        return write.overwrite_window(data, window)

    def merge(
        self,
        name: TableName,
        data: Data,
        keys: Sequence[str],
        *,
        metadata: Mapping[str, Any] = _NOTHING,
        description: str | None = None,
    ) -> Commit:
        """Update the rows whose keys are in the table, insert the others; or create the table.

        Parameters
        ----------
        name, data, metadata
            As for `overwrite`.
        keys
            Columns that together identify a row; never null, never twice the same in ``data``.
        description
            Of the table, where this creates it.

        Raises
        ------
        InvalidRowsError
            When a key is null, or the same key comes twice. Nothing is changed then.
        """
        write = self._write(name, metadata, description=description)
        return write.merge(data, keys)

    def append(
        self,
        name: TableName,
        data: Data,
        *,
        transaction: tuple[str, int] | None = None,
        metadata: Mapping[str, Any] = _NOTHING,
        allow_schema_change: bool = False,
        description: str | None = None,
    ) -> Commit | None:
        """Add rows to a table, or create it with them; exactly once if ``transaction`` is given.

        Parameters
        ----------
        name, data, metadata
            As for `overwrite`.
        transaction
            An application's name and a version that only grows. If the table already holds this
            version or a later one of that application, nothing is written. So whoever does not know
            whether an append succeeded, after a crash for example, can simply repeat it.
        allow_schema_change
            Whether columns may be added. They are null in the rows that are there.
        description
            Of the table, where this creates it.

        Returns
        -------
        Commit or None
            None when the transaction had been applied before.
        """
        write = self._write(name, metadata, allow_schema_change, description)
        return write.append(data, transaction)

    # Keeping

    def restore(
        self, name: TableName, to: int | datetime, *, metadata: Mapping[str, Any] = _NOTHING
    ) -> Commit:
        """Make an old version current again, as a new version; nothing is forgotten.

        Parameters
        ----------
        name
            Which table.
        to
            The version, or an instant (with a zone) for the one that was current then.
        metadata
            JSON values to record with the commit.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When there is no such table or version, or a vacuum has removed its files.
        """
        version = self._storage.open(name, to).version()
        return maintenance.restore(self._write(name, metadata), version)

    def compact(self, name: TableName, *, target_bytes: int = 128 << 20) -> Commit | None:
        """Rewrite small files as large ones. The rows stay the same, and so do old versions.

        Parameters
        ----------
        name
            Which table.
        target_bytes
            How large a file should be.

        Returns
        -------
        Commit or None
            None when there was nothing to do.
        """
        return maintenance.compact(self._write(name), target_bytes)

    def vacuum(
        self, name: TableName, retention: timedelta, *, dry_run: bool = True
    ) -> VacuumReport:
        """Remove files that only old versions use, except those of pinned versions.

        Parameters
        ----------
        name
            Which table.
        retention
            Keep what was current within this time, rounded up to whole hours. Files that no commit
            names, left by a killed writer, are removed as well where it is at least a day: a
            shorter time could hit a writer that is still at work.
        dry_run
            Report only, remove nothing.

        Raises
        ------
        RetentionError
            When ``retention`` is negative.
        """
        pins = self.pins(name)
        return maintenance.vacuum(self._write(name), retention, pins, dry_run=dry_run)

    def pin(self, pinned: TableVersion, owner: str) -> Pin:
        """Keep a version readable until `unpin`: vacuum will not remove its files.

        Pinning the same version for the same owner again changes nothing. A table that somebody
        else made gets the properties that keep its log, in a commit.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError
            When there is no such table or version, or its files are gone.
        LakeError
            When ``owner`` is empty.
        """
        if not owner:
            raise LakeError(f"A pin of {pinned} needs an owner, such as flight_delay/3.")
        for known in self.pins(pinned.table):
            if known.version == pinned.version and known.owner == owner:
                return known
        pin = Pin(pinned.table, pinned.version, owner, datetime.now(UTC), pin_id=uuid.uuid4().hex)
        self._storage.open(pinned.table, pinned.version)
        maintenance.keep_log(self._write(pinned.table))
        self._record([pin.row()])
        try:
            # After the pin is recorded: a vacuum that had not seen it has removed its files by now.
            self._storage.open(pinned.table, pinned.version)
        except VersionNotFoundError:
            self._record([pin.row(released_at=datetime.now(UTC))])
            raise
        return pin

    def unpin(self, owner: str) -> tuple[Pin, ...]:
        """Release every pin of an owner, and return them."""
        held = tuple(pin for pin in self.pins() if pin.owner == owner)
        if held:
            now = datetime.now(UTC)
            self._record([pin.row(released_at=now) for pin in held])
        return held

    def pins(self, name: TableName | None = None) -> tuple[Pin, ...]:
        """Return the pins that hold, oldest first; of one table, or of all."""
        try:
            rows = self.read(PINS).read_all()
        except TableNotFoundError:
            return ()
        return tuple(pin for pin in holding(rows) if name is None or pin.table == name)

    def _record(self, rows: list[dict[str, object]]) -> None:
        self.append(
            PINS, pa.Table.from_pylist(rows, schema=PINS_SCHEMA), description=PINS_DESCRIPTION
        )

    def _write(
        self,
        name: TableName,
        metadata: Mapping[str, Any] = _NOTHING,
        allow_schema_change: bool = False,
        description: str | None = None,
    ) -> Write:
        return Write(self._storage, name, self.limits, metadata, allow_schema_change, description)
