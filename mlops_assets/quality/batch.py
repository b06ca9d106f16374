"""A batch: one relation of a DuckDB session, seen through a temporary view while it is judged.

What belongs here: the special columns that staging adds, the helper columns that judging needs,
and the view's life. Rules are `evaluation.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from mlops_assets.lake import Window
from mlops_assets.lake.schemas import literal, quoted
from mlops_assets.quality.published import Published

PROVENANCE = ("_source", "_source_hash", "_source_row", "_loaded_at")
"""Columns of a staged relation that say where a row came from; they are published."""

REFUSALS = "_refusals"
"""Column of a staged relation: what staging itself found wrong with the row; not published."""

VIEW = "__audited_batch"
ROW = "__row"
UNREADABLE = "__unreadable"
UNREADABLE_COLUMNS = "__unreadable_columns"
INSIDE = "__inside_window"
_SPECIAL = frozenset({*PROVENANCE, REFUSALS, ROW, UNREADABLE, UNREADABLE_COLUMNS, INSIDE})


@dataclass(frozen=True)
class Batch:
    """The relation that is judged.

    Attributes
    ----------
    con
        Its session.
    backend
        Ibis over that session.
    table
        The view `VIEW` over the relation, with the helper columns.
    window
        The window that rows must lie in, or None.
    published
        The table the batch goes to, where there is one and the batch must agree with it.
    """

    con: duckdb.DuckDBPyConnection
    backend: Any
    table: ir.Table
    window: Window | None
    published: Published | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The relation's own columns: neither provenance nor helpers."""
        return tuple(name for name in self.table.columns if name not in _SPECIAL)

    @property
    def provenance(self) -> tuple[str, ...]:
        """The provenance columns that the relation has."""
        return tuple(name for name in PROVENANCE if name in self.table.columns)

    @property
    def is_staged(self) -> bool:
        """Whether staging has left its refusals with each row."""
        return REFUSALS in self.table.columns

    @property
    def source(self) -> str:
        """SQL of where a row came from."""
        return "_source" if "_source" in self.provenance else "NULL::VARCHAR"

    @property
    def source_hash(self) -> str:
        """SQL of the hash of where a row came from."""
        return "_source_hash" if "_source_hash" in self.provenance else "NULL::VARCHAR"

    @property
    def source_row(self) -> str:
        """SQL of a row's position in its source, else in the batch."""
        return "_source_row" if "_source_row" in self.provenance else ROW

    @property
    def key_of_order(self) -> str:
        """SQL to order rows by: as they stand in their sources, else as they are read."""
        if {"_source", "_source_row"} <= set(self.provenance):
            return "{'source': _source, 'row': _source_row}"
        return ROW

    def row(self, query: str) -> tuple[Any, ...]:
        """Return the one row of an aggregate."""
        (row,) = self.con.execute(query).fetchall()
        return tuple(row)

    def count_rows(self) -> int:
        """Return the number of rows without judging any."""
        return int(self.row(f"SELECT count(*) FROM {VIEW}")[0])

    def sources(self) -> list[tuple[str, str]]:
        """Return the distinct sources with their hashes; none where provenance is not there."""
        if not {"_source", "_source_hash"} <= set(self.provenance):
            return []
        query = f"SELECT DISTINCT _source, _source_hash FROM {VIEW} ORDER BY ALL"
        return self.con.execute(query).fetchall()


@contextmanager
def opened(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    window: Window | None,
    published: Published | None = None,
) -> Iterator[Batch]:
    """Put the view over a relation, and take it away at the end.

    Parameters
    ----------
    con
        The session. Its time zone must be UTC.
    relation
        A table, view or ``schema.name``, written as in SQL. It must give the same rows every time
        it is read.
    window
        The half-open window rows must lie in, or None.
    published
        The table the batch goes to, as its session sees it; None where there is none.
    """
    found = {row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    extra = [f"row_number() OVER () AS {ROW}"]
    if REFUSALS in found:
        columns = f"list_transform(coalesce({REFUSALS}, []), lambda refusal: refusal.column_name)"
        extra.append(f"coalesce(len({REFUSALS}) > 0, false) AS {UNREADABLE}")
        extra.append(f"{columns} AS {UNREADABLE_COLUMNS}")
    if window is not None and window.column in found:
        extra.append(f"({window.sql}) IS TRUE AS {INSIDE}")
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW {VIEW} AS SELECT *, {', '.join(extra)} FROM {relation}"
    )
    # Ibis switches this off for good; the session is the caller's.
    ((replacements,),) = con.execute(
        "SELECT current_setting('python_enable_replacements')"
    ).fetchall()
    try:
        backend = ibis.duckdb.from_connection(con)
        yield Batch(con, backend, backend.table(VIEW), window, published)
    finally:
        con.execute(f"DROP VIEW IF EXISTS {VIEW}")
        con.execute(f"SET python_enable_replacements = {replacements}")


def json_of_row(batch: Batch) -> str:
    """Return the SQL of a row as JSON text, as it was read.

    The text that did not cast stands where staging put null. NaN and infinities, which JSON does
    not have, are written as text.
    """
    fields = ", ".join(
        f"{literal(name)}: {_json_value(name, floating=batch.table[name].type().is_floating())}"
        for name in batch.columns
    )
    payload = f"to_json({{{fields}}})"
    if not batch.is_staged:
        return f"{payload}::VARCHAR"
    # A column refused twice stands once; a refusal of the whole row names none.
    names = f"list_distinct({UNREADABLE_COLUMNS})"
    found = f"list_filter({REFUSALS}, lambda refusal: refusal.column_name = name)[1].value"
    texts = f"list_transform({names}, lambda name: {found})"
    as_read = f"json_merge_patch({payload}, to_json(map({names}, {texts})))"
    return f"CASE WHEN {UNREADABLE} THEN {as_read} ELSE {payload} END::VARCHAR"


def _json_value(name: str, *, floating: bool) -> str:
    column = quoted(name)
    if not floating:
        return column
    return (
        f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json({column}::VARCHAR) END"
    )
