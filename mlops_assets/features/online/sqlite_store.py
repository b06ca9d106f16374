"""The embedded online store: one SQLite file, in WAL mode, so that readers never wait for a fill.

Each view has a table of its own, made anew by every fill inside the one transaction that also
changes the view's state and drops the old table. A process that dies while it fills leaves nothing:
SQLite rolls back what was not committed.
"""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlops_assets.features.online.errors import OnlineStoreError, OnlineStoreUnavailableError
from mlops_assets.features.online.layout import Layout, ViewState
from mlops_assets.features.online.rows import Found, StoredRow, decode_row, encoded, holders, twice
from mlops_assets.lake import TableVersion

_READ_SECONDS = 5.0  # nobody blocks a reader but for moments
_WRITE_SECONDS = 600.0  # another process may be filling
_AT_ONCE = 100  # keys of one statement
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS views (
        name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, state BLOB NOT NULL
    )
"""


@dataclass(frozen=True)
class _Stored:
    """A view as a connection last saw it: what it holds, and the statements that read it."""

    state: ViewState
    one: str
    many: str


@dataclass
class _Reader:
    """One thread's connection, and the views as they were at `data_version`."""

    connection: sqlite3.Connection
    process: int
    data_version: int = -1
    views: dict[str, _Stored] = field(default_factory=dict)


class SQLiteStore:
    """An `OnlineStore` in a file of its own.

    Parameters
    ----------
    path
        The file; it and its folder are made when they are first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    def replace(
        self, layout: Layout, source: TableVersion, as_of: datetime, rows: Iterable[pa.RecordBatch]
    ) -> ViewState:
        """Replace all rows of a view; see `OnlineStore.replace`."""
        with self._writing("fill") as connection:
            [(number,)] = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM views")
            old = connection.execute(
                "SELECT number FROM views WHERE name = ?", (layout.name,)
            ).fetchone()
            connection.execute(
                f"CREATE TABLE rows_{number} (key BLOB PRIMARY KEY, row BLOB NOT NULL)"
                " WITHOUT ROWID"
            )
            try:
                inserted = connection.executemany(
                    f"INSERT INTO rows_{number} VALUES (?, ?)", encoded(layout, rows)
                )
            except sqlite3.IntegrityError as error:
                raise twice(layout, source) from error
            state = ViewState(layout, source, as_of, datetime.now(UTC), max(inserted.rowcount, 0))
            connection.execute(
                "INSERT OR REPLACE INTO views VALUES (?, ?, ?)",
                (layout.name, number, state.to_json()),
            )
            if old is not None:
                connection.execute(f"DROP TABLE rows_{old[0]}")
        return state

    def state(self) -> Mapping[str, ViewState]:
        """Return what is stored, by name; see `OnlineStore.state`."""
        with self._reading() as reader:
            return {name: view.state for name, view in reader.views.items()}

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> Sequence[Found]:
        """Return rows by their keys; see `OnlineStore.get`."""
        with self._reading() as reader:
            execute = reader.connection.execute
            found: list[Found] = []
            for name, keys in wanted:
                view = reader.views.get(name)
                if view is None:
                    found.append(Found(None, [None] * len(keys)))
                elif len(keys) == 1:
                    row = execute(view.one, keys).fetchone()
                    found.append(Found(view.state, [row and decode_row(row[0])]))
                else:
                    found.append(Found(view.state, _many(execute, view, keys)))
            return found

    def delete_entities(self, column: str, value: Any) -> Mapping[str, int]:
        """Delete every row that holds a value; see `OnlineStore.delete_entities`."""
        deleted: dict[str, int] = {}
        with self._writing("delete from") as connection:
            for name, number, stored in connection.execute("SELECT * FROM views").fetchall():
                state = ViewState.from_json(stored)
                holds = holders(state.layout, column, value)
                if holds is None:
                    continue
                rows = connection.execute(f"SELECT key, row FROM rows_{number}")
                keys = [(key,) for key, row in rows if holds(key, row)]
                connection.executemany(f"DELETE FROM rows_{number} WHERE key = ?", keys)
                deleted[name] = len(keys)
        self._forget()
        return deleted

    def close(self) -> None:
        """Close this thread's connection; see `OnlineStore.close`."""
        reader = getattr(self._local, "reader", None)
        if reader is not None and reader.process == os.getpid():
            reader.connection.close()
        self._local = threading.local()

    def _forget(self) -> None:
        """Rewrite the file, so that no free page holds what was deleted, now or by fills before."""
        with _translated(self.path, "vacuum"):
            connection = self._open(_WRITE_SECONDS)
            try:
                connection.execute("VACUUM")
                [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()
        if busy:
            raise OnlineStoreUnavailableError(
                f"rows are deleted from the online store {self.path}, but its log still has them: "
                f"somebody has been reading for {_WRITE_SECONDS:.0f} s. Delete them again"
            )

    @contextmanager
    def _writing(self, what: str) -> Iterator[sqlite3.Connection]:
        """Open a transaction that nobody else writes beside."""
        with _translated(self.path, what):
            connection = self._open(_WRITE_SECONDS)
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
                # The log grew by the whole view; where a reader is busy, the next fill does this.
                connection.execute("PRAGMA busy_timeout = 1000")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.close()

    @contextmanager
    def _reading(self) -> Iterator[_Reader]:
        """Read from one moment of the store, on this thread's connection."""
        with _translated(self.path, "read"):
            reader: _Reader | None = getattr(self._local, "reader", None)
            if reader is None or reader.process != os.getpid():
                # A connection must not be carried over a fork, nor closed on the other side of it.
                reader = _Reader(self._open(_READ_SECONDS), os.getpid())
                self._local.reader = reader
            execute = reader.connection.execute
            execute("BEGIN")
            try:
                [(version,)] = execute("PRAGMA data_version")
                if version != reader.data_version:
                    reader.views = _views(reader.connection)
                    reader.data_version = version
                yield reader
            finally:
                execute("COMMIT")

    def _open(self, seconds: float) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=seconds, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        # After a power cut the last fill may be gone, never half there; the next fill mends it.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
        return connection


def _views(connection: sqlite3.Connection) -> dict[str, _Stored]:
    marks = ", ".join("?" * _AT_ONCE)
    return {
        name: _Stored(
            ViewState.from_json(state),
            f"SELECT row FROM rows_{number} WHERE key = ?",
            f"SELECT key, row FROM rows_{number} WHERE key IN ({marks})",
        )
        for name, number, state in connection.execute("SELECT name, number, state FROM views")
    }


def _many(execute: Any, view: _Stored, keys: Sequence[bytes]) -> list[StoredRow | None]:
    rows: dict[bytes, StoredRow] = {}
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), _AT_ONCE):
        some = distinct[start : start + _AT_ONCE]
        # A statement of one length is prepared once: the last keys are filled up with a repetition.
        padded = some + some[-1:] * (_AT_ONCE - len(some))
        rows.update((key, decode_row(row)) for key, row in execute(view.many, padded))
    return [rows.get(key) for key in keys]


@contextmanager
def _translated(path: Path, what: str) -> Iterator[None]:
    """Say of SQLite's errors what they mean here."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise OnlineStoreUnavailableError(
                f"cannot {what} the online store {path}: another process kept it locked ({error}). "
                "Try again when its fill has ended"
            ) from error
        raise OnlineStoreError(
            f"cannot {what} the online store {path}: {error}. It stands as it was. Give it space "
            "and write access, or name another file in MLOPS_ONLINE_STORE_URL"
        ) from error
    except OSError as error:
        raise OnlineStoreError(
            f"cannot {what} the online store {path}: {error}. Make its folder writable, or name "
            "another file in MLOPS_ONLINE_STORE_URL"
        ) from error
    except sqlite3.DatabaseError as error:
        raise OnlineStoreError(
            f"cannot {what} the online store {path}: {error}. Remove the file and fill it again: "
            "materialise the group `online`"
        ) from error
