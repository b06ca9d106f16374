"""The rows that are published already, as far as a new batch must agree with them.

What belongs here: which of a table's rows stay beside a batch, and which days it would leave
without rows. Judging a batch by them is `evaluation.py` and `policy.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from mlops_assets.lake import Lake, TableName, Window
from mlops_assets.lake.schemas import literal, quoted
from mlops_assets.quality.policy import Mode
from mlops_assets.quality.publications import published_batches

_PLACE = ("_source", "_source_row")


@dataclass(frozen=True)
class Published:
    """The latest version of the table that a batch goes to, seen from the batch's session.

    Attributes
    ----------
    con
        The session.
    table
        The table, which has a view there.
    columns
        Its columns.
    rows
        Its rows.
    window
        The window that the batch replaces; None where it replaces all rows or none.
    keeps_rows
        Whether rows stay beside the batch: those outside the window, or all where it is appended.
    """

    con: duckdb.DuckDBPyConnection
    table: TableName
    columns: tuple[str, ...]
    rows: int
    window: Window | None
    keeps_rows: bool

    def free_keys(self, keys: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        """Return the keys that a row of the batch may share with a row that stays.

        A key that holds the window's column cannot: the rows that stay have other values of it.
        """
        return tuple(
            key
            for key in keys
            if self.keeps_rows
            and set(key) <= set(self.columns)
            and (self.window is None or self.window.column not in key)
        )

    @property
    def staying(self) -> str:
        """SQL of the rows that stay."""
        where = "" if self.window is None else f" WHERE ({self.window.sql}) IS NOT TRUE"
        return f"(SELECT * FROM {self.table.sql}{where})"

    @property
    def place(self) -> str:
        """SQL of where one of those rows stands: its window and its place in its source."""
        parts = [literal(f"published in {self.table}")]
        if self.window is not None:
            column = self.window.column
            parts.append(f"{literal(f'{column} ')} || {quoted(column)}::VARCHAR")
        if set(_PLACE) <= set(self.columns):
            parts.append("_source || ', row ' || _source_row")
        return f"concat_ws(', ', {', '.join(parts)})"

    def emptied(self, accepted: str) -> list[tuple[str, int]]:
        """Return the days (or the table) that have rows, and would have none with the batch.

        Parameters
        ----------
        accepted
            SQL of the rows of the batch that are to be published.

        Returns
        -------
        list of tuple of str and int
            Which, and how many rows are published for it; in order.
        """
        if self.window is None:
            is_empty = not self._fetch(f"SELECT 1 FROM ({accepted}) LIMIT 1")
            return [(str(self.table), self.rows)] if self.rows and is_empty else []
        day = f"{quoted(self.window.column)}::DATE"
        return [
            (str(name), int(rows))
            for name, rows in self._fetch(
                f"""
                FROM (
                    SELECT {day} AS __day, count(*) FROM {self.table.sql} WHERE {self.window.sql}
                    GROUP BY ALL
                )
                ANTI JOIN (SELECT {day} AS __day FROM ({accepted})) USING (__day)
                ORDER BY __day
                """
            )
        ]

    def _fetch(self, query: str) -> list[tuple[Any, ...]]:
        return self.con.execute(query).fetchall()


@contextmanager
def published_rows(
    lake: Lake, con: duckdb.DuckDBPyConnection, table: TableName, mode: Mode, batch_id: str
) -> Iterator[Published | None]:
    """Show a table in the session of a batch that goes to it; None where there is no table yet.

    Parameters
    ----------
    lake, table
        Where the batch goes.
    con
        Its session. A view of the table that is there already is used and left.
    mode
        How the batch is to be published.
    batch_id
        The batch. Where an append has been applied before, its own rows are no rows beside it.
    """
    if not lake.exists(table):
        yield None
        return
    shown = "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?"
    is_there = con.execute(shown, [table.schema, table.name]).fetchall()
    lake.create_views(con, tables=[table])
    window = mode if isinstance(mode, Window) else None
    applied = mode == "append" and any(
        batch.batch_id == batch_id for batch in published_batches(lake, table)
    )
    info = lake.describe(table)
    try:
        yield Published(
            con=con,
            table=table,
            columns=tuple(info.schema.names),
            rows=info.rows,
            window=window,
            keeps_rows=mode != "snapshot" and not applied,
        )
    finally:
        if not is_there:
            _drop(con, table)


def _drop(con: duckdb.DuckDBPyConnection, table: TableName) -> None:
    [(kind,)] = con.execute(
        "SELECT table_type FROM information_schema.tables "
        "WHERE table_schema = ? AND table_name = ?",
        [table.schema, table.name],
    ).fetchall()
    con.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} {table.sql}")
