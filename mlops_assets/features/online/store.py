"""What every online store can do, whatever it keeps its rows in, and which one a deployment has.

The store itself knows keys and rows as bytes. What a value means for a prediction is said by
`mlops_assets.features.online.lookup`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from mlops_assets.features.online.layout import Layout, ViewState
from mlops_assets.features.online.rows import Found
from mlops_assets.lake import TableVersion
from mlops_assets.settings import Settings


class OnlineStore(Protocol):
    """Latest feature values per view and entity.

    Threads and processes may share a store: while one fills a view, all others read the view as it
    was, whole, until it is replaced, whole. Where two fill one view, the one that ends last wins.
    """

    @property
    def place(self) -> str:
        """Where it is, without credentials."""
        ...

    def replace(
        self, layout: Layout, source: TableVersion, as_of: datetime, rows: Iterable[pa.RecordBatch]
    ) -> ViewState:
        """Replace all rows stored under the layout's name, or store them for the first time.

        Parameters
        ----------
        layout
            What the rows look like.
        source
            The table version they come from.
        as_of
            Moment at which they are the latest known.
        rows
            The key's columns, `rows.TIMES`, the layout's columns; read once, batch by batch. No key
            may come twice.

        Raises
        ------
        OnlineStoreError
            If the rows cannot be stored; what was there before still is.
        """
        ...

    def state(self) -> Mapping[str, ViewState]:
        """Return what is stored, by name.

        Raises
        ------
        OnlineStoreError
            If the store cannot be read.
        """
        ...

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> Sequence[Found]:
        """Return rows by their keys, all from one moment of the store, in one round trip.

        Parameters
        ----------
        wanted
            Pairs of a view's name and the keys to find in it, each written by `rows.encode_key`.

        Returns
        -------
        Sequence of Found
            One for each pair.

        Raises
        ------
        OnlineStoreError
            If the store cannot be read.
        """
        ...

    def delete_entities(self, column: str, value: Any) -> Mapping[str, int]:
        """Delete every row that holds a value in a column, whether of its key or not.

        The next fill stores such a row again if the table it reads still holds it: delete it there
        first.

        Parameters
        ----------
        column
            Name of the column; views that do not store it are left alone.
        value
            As `layout.to_stored` takes it.

        Returns
        -------
        Mapping
            Rows deleted by name of the view, of every view that stores the column.

        Raises
        ------
        EntityValueError
            If the column cannot have this value.
        OnlineStoreError
            If the store cannot be changed.
        """
        ...

    def close(self) -> None:
        """Let go of connections; the next use opens new ones."""
        ...


def open_online_store(settings: Settings) -> OnlineStore:
    """Return the online store of a deployment; nothing is opened before it is used.

    Raises
    ------
    OnlineStoreError
        If it is in Redis and the client library is not installed.
    """
    url = settings.online_store_url
    if "://" in url:
        from mlops_assets.features.online.redis_store import RedisStore

        return RedisStore(url)
    from mlops_assets.features.online.sqlite_store import SQLiteStore

    return SQLiteStore(Path(url))
