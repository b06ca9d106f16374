"""Building the staged relation: the contract's columns, typed, with provenance and refusals.

One statement a file does all of it: cast without loss, compute derived columns, cut the window,
and note for each row what is wrong with it. Nothing is judged here beyond what reading alone can
tell; the contract's rules are audited afterwards, on the staged relation.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from mlops_assets.ingestion.callables import callable_batches
from mlops_assets.ingestion.casts import lossless_cast
from mlops_assets.ingestion.copies import Copy, take_copy
from mlops_assets.ingestion.csv_rows import read_csv
from mlops_assets.ingestion.databases import sql_batches, sql_uri
from mlops_assets.ingestion.errors import DeclarationError, SourceRefusedError, listing
from mlops_assets.ingestion.headers import Wanted
from mlops_assets.ingestion.json_rows import read_json
from mlops_assets.ingestion.locations import Location, locate
from mlops_assets.ingestion.parquet_rows import read_parquet
from mlops_assets.ingestion.periods import Period
from mlops_assets.ingestion.relations import (
    ROWS,
    SourceRows,
    duckdb_space,
    identifier,
    literal,
)
from mlops_assets.ingestion.sources import CallableSource, FileSource, SqlSource
from mlops_assets.ingestion.spools import read_spool, take_spool

if TYPE_CHECKING:
    from mlops_assets.lake import Window
    from mlops_assets.quality import ContractColumn

STAGED = "staged"
PROVENANCE = {
    "_source": "VARCHAR",
    "_source_hash": "VARCHAR",
    "_source_row": "BIGINT",
    "_loaded_at": "TIMESTAMP WITH TIME ZONE",
}
REFUSALS = "_refusals"
WHOLE_ROW = "_row"
"""Stands for a column in the refusal of a row that cannot be told apart into columns."""
_REFUSAL_TYPE = "STRUCT(column_name VARCHAR, rule VARCHAR, value VARCHAR)"
_RESERVED = frozenset({*PROVENANCE, REFUSALS, WHOLE_ROW})


@dataclass(frozen=True)
class SourceFile:
    """One file, query result or function result that a batch was read from.

    Attributes
    ----------
    uri
        Where it came from: relative to the project root, ``package:NAME/PATH``, or a URL without
        credentials.
    sha256
        Hash of its raw bytes (of the values, for a query or function).
    bytes
        Its raw size.
    rows
        Data rows read from it, also those outside the window.
    modified_at
        When it was last changed, where the store tells.
    known
        Whether its rows were known already, so that they were not read again.
    period
        The period its name says it covers, where the declaration has a ``{date}``.
    """

    uri: str
    sha256: str
    bytes: int
    rows: int
    modified_at: datetime | None
    known: bool = False
    period: Period | None = None


@dataclass(frozen=True)
class Staged:
    """A batch, ready to be audited.

    Attributes
    ----------
    relation
        DuckDB table with the contract's columns, `PROVENANCE` and ``_refusals``.
    files
        What was read.
    rows
        Rows of the relation.
    outside_window
        Rows that were read and belong to another window.
    """

    relation: str
    files: tuple[SourceFile, ...]
    rows: int
    outside_window: int


@dataclass(frozen=True)
class _Plan:
    """What one call to `stage` wants, the same for each of its files."""

    columns: tuple["ContractColumn", ...]
    derived: Mapping[str, str]
    references: Mapping[str, tuple[str, ...]]
    inputs: tuple[str, ...]
    wanted: Wanted
    window: "Window | None"
    loaded_at: datetime


def stage(
    con: duckdb.DuckDBPyConnection,
    source: FileSource | SqlSource | CallableSource,
    columns: Sequence["ContractColumn"],
    *,
    root: Path,
    scratch: Path,
    window: "Window | None",
    derived: Mapping[str, str],
    loaded_at: datetime,
    ignore_other_columns: bool = False,
    known: Collection[tuple[str, str]] = (),
    locations: Sequence[Location] | None = None,
) -> Staged:
    """Read a source into a staged relation.

    Parameters
    ----------
    con
        DuckDB session with ``TimeZone = 'UTC'``.
    source
        The declaration.
    columns
        The contract's columns.
    root
        Folder from which relative paths count.
    scratch
        Existing folder for private copies; the caller removes it.
    window
        Stage only rows inside it. A row whose window column has no value is staged too, for the
        audit to refuse, since nobody can say to which window it belongs; so is one outside the
        period that the name of its file tells, with a refusal.
    derived
        SQL expression by name of the contract column it computes. It sees the contract's other
        columns, typed, and any further column of the source, as the source has it.
    loaded_at
        Value of ``_loaded_at``; with a time zone.
    ignore_other_columns
        Leave further columns of the source aside instead of refusing the file.
    known
        URI and SHA-256 of files whose rows are not to be read again.
    locations
        The files to read, where the caller has found them; by default all that the source names.

    Returns
    -------
    Staged
        The relation ``staged`` and what it was read from.

    Raises
    ------
    SourceRefusedError
        If any file cannot be read as rows: one entry for each such file.
    SourceNotFoundError, SourceUnavailableError, SourceChangedError, ScratchError, DeclarationError
        See `mlops_assets.ingestion.errors`.
    """
    plan = _plan(con, columns, derived, window, loaded_at, ignore_others=ignore_other_columns)
    known = frozenset(known)
    with _rows_in_order(con):
        _create(con, plan)
        if isinstance(source, FileSource):
            if locations is None:
                locations = locate(source, root=root, window=window)
            files = _stage_files(con, source, plan, locations, scratch=scratch, known=known)
        else:
            files = (_stage_stream(con, source, plan, scratch),)
        con.execute(f"DROP TABLE IF EXISTS {ROWS}")
    rows = _count(con, STAGED)
    return Staged(STAGED, files, rows, sum(file.rows for file in files) - rows)


def _stage_files(
    con: duckdb.DuckDBPyConnection,
    source: FileSource,
    plan: _Plan,
    locations: Sequence[Location],
    *,
    scratch: Path,
    known: Collection[tuple[str, str]],
) -> tuple[SourceFile, ...]:
    files: list[SourceFile] = []
    refused: list[SourceRefusedError] = []
    for location in locations:
        try:
            copy = take_copy(location, source, scratch)
            file = SourceFile(
                copy.uri, copy.sha256, copy.size, 0, copy.modified_at, period=location.period
            )
            if (copy.uri, copy.sha256) in known:
                files.append(replace(file, known=True))
                continue
            rows = _read(con, copy, source, plan)
        except SourceRefusedError as refusal:
            refused.append(refusal)  # read on, so that all bad files are named at once
            continue
        _insert(con, rows, plan, copy.uri, copy.sha256, location.period)
        files.append(replace(file, rows=_count(con, ROWS)))
    if refused:
        raise SourceRefusedError(
            [refusal for error in refused for refusal in error.refusals],
            files=len(locations),
            readable=[(file.uri, file.sha256) for file in files],
        )
    return tuple(files)


def _read(
    con: duckdb.DuckDBPyConnection, copy: Copy, source: FileSource, plan: _Plan
) -> SourceRows:
    if source.content == "csv":
        return read_csv(con, copy, source, plan.wanted)
    if source.content == "json":
        return read_json(con, copy, plan.wanted)
    return read_parquet(con, copy, plan.wanted)


def _stage_stream(
    con: duckdb.DuckDBPyConnection,
    source: SqlSource | CallableSource,
    plan: _Plan,
    scratch: Path,
) -> SourceFile:
    if isinstance(source, SqlSource):
        uri, batches = sql_uri(source), sql_batches(source, plan.window)
    else:
        uri, batches = f"callable:{source.function}", callable_batches(source, plan.window)
    spool = take_spool(uri, batches, scratch)
    before = 0
    for rows in read_spool(con, spool, plan.wanted):
        _insert(con, rows, plan, uri, spool.sha256, None, rows_before=before)
        before += _count(con, ROWS)
    return SourceFile(uri, spool.sha256, spool.size, spool.rows, None)


def _plan(
    con: duckdb.DuckDBPyConnection,
    columns: Sequence["ContractColumn"],
    derived: Mapping[str, str],
    window: "Window | None",
    loaded_at: datetime,
    *,
    ignore_others: bool,
) -> _Plan:
    names = [column.name for column in columns]
    reserved = [n for n in names if n.lower() in _RESERVED or n.startswith("__")]
    if reserved:
        raise DeclarationError(
            f"the contract has {listing(reserved)}: {', '.join(sorted(_RESERVED))} and names that "
            "begin with __ are filled in while a source is read; rename in the contract"
        )
    if unknown := sorted(set(derived) - set(names)):
        raise DeclarationError(
            f"`derived` computes {listing(unknown)}, which the contract lacks; its columns are "
            f"{listing(names, shown=40)}"
        )
    if window is not None and window.column not in names:
        raise DeclarationError(
            f"the window is over {window.column!r}, which the contract lacks; its columns are "
            f"{listing(names, shown=40)}"
        )
    if loaded_at.tzinfo is None:
        raise DeclarationError(f"loaded_at {loaded_at.isoformat()} has no time zone; give it UTC")
    own = {name.lower(): name for name in names}
    references = {
        key: tuple(own.get(name.lower(), name) for name in sorted(_referenced(con, key, text)))
        for key, text in derived.items()
    }
    referenced = {name for used in references.values() for name in used}
    if chained := sorted(referenced & set(derived)):
        raise DeclarationError(
            f"`derived` uses {listing(chained)}, which are derived themselves; write them out"
        )
    inputs = tuple(sorted(referenced - set(names)))
    given = [column for column in columns if column.name not in derived]
    wanted = Wanted(
        required=(*(column.name for column in given if column.required), *inputs),
        optional=tuple(column.name for column in given if not column.required),
        ignore_others=ignore_others,
    )
    return _Plan(tuple(columns), derived, references, inputs, wanted, window, loaded_at)


def _referenced(con: duckdb.DuckDBPyConnection, name: str, expression: str) -> set[str]:
    """Return the columns that a derived column's expression reads, by DuckDB's own parser."""
    [(text,)] = con.execute("SELECT json_serialize_sql(?)", [f"SELECT {expression}"]).fetchall()
    tree = json.loads(text)
    if tree["error"] or len(tree["statements"]) != 1:
        raise DeclarationError(
            f"`derived: {name}: {expression}` is not a SQL expression: "
            f"{tree.get('error_message', 'more than one statement')}"
        )

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if node.get("class") == "COLUMN_REF":
                yield node["column_names"][-1]
            for child in node.values():
                yield from walk(child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    return set(walk(tree))


def _create(con: duckdb.DuckDBPyConnection, plan: _Plan) -> None:
    kinds = {
        **{column.name: column.duckdb_type for column in plan.columns},
        **PROVENANCE,
        REFUSALS: f"{_REFUSAL_TYPE}[]",
    }
    spec = ", ".join(f"{identifier(name)} {kind}" for name, kind in kinds.items())
    con.execute(f"CREATE OR REPLACE TABLE {STAGED} ({spec})")


def _insert(
    con: duckdb.DuckDBPyConnection,
    rows: SourceRows,
    plan: _Plan,
    uri: str,
    sha256: str,
    period: Period | None,
    *,
    rows_before: int = 0,
) -> None:
    """Cast, derive, cut and insert the rows of ``source_rows`` into the staged relation."""
    computed = [column for column in plan.columns if column.name in plan.derived]
    typed = _typed_sql(rows, plan, rows_before)
    results = _derived_types(con, plan, typed)
    tried = ", ".join(
        f"TRY({{'v': ({plan.derived[column.name]})}}) AS {_attempt(column.name)}"
        for column in computed
    )
    derived = ", ".join(
        f"{lossless_cast(f'{_attempt(column.name)}.v', results[column.name], column.duckdb_type)} "
        f"AS {identifier(column.name)}"
        for column in computed
    )
    refusals = _refusals(rows, plan, period)
    wrong = " OR ".join(condition for cases in refusals for condition, _ in cases) or "false"
    reasons = ", ".join(
        f"CASE {' '.join(f'WHEN {condition} THEN {reason}' for condition, reason in cases)} END"
        for cases in refusals
    )
    selected = ", ".join(identifier(column.name) for column in plan.columns)
    with duckdb_space():
        con.execute("SET VARIABLE loaded_at = ?::TIMESTAMPTZ", [plan.loaded_at])
        con.execute(
            f"""
            INSERT INTO {STAGED}
            WITH typed AS ({typed}),
            tried AS (SELECT {_listed("*", tried)} FROM typed),
            finished AS (SELECT {_listed("*", derived)} FROM tried)
            SELECT {selected}, {literal(uri)}, {literal(sha256)}, __row, getvariable('loaded_at'),
                CASE WHEN {wrong} THEN list_filter([{reasons}], lambda reason: reason IS NOT NULL)
                    ELSE [] END
            FROM finished
            WHERE {_belongs(plan, period)}
            """
        )


def _typed_sql(rows: SourceRows, plan: _Plan, rows_before: int) -> str:
    """Return the query that numbers the rows and casts each given column."""
    casts = []
    for column in plan.columns:
        if column.name in plan.derived:
            continue
        if column.name in rows.columns:
            source = rows.columns[column.name]
            cast = lossless_cast(source, rows.types[column.name], column.duckdb_type)
        else:
            cast = f"NULL::{column.duckdb_type}"
        casts.append(f"{cast} AS {identifier(column.name)}")
    inputs = [f"{rows.columns[name]} AS {identifier(name)}" for name in plan.inputs]
    selected = ", ".join([f"rowid + 1 + {rows_before} AS __row", "*", *casts, *inputs])
    return f"SELECT {selected} FROM {ROWS}"


def _derived_types(con: duckdb.DuckDBPyConnection, plan: _Plan, typed: str) -> dict[str, str]:
    """Return the type that each derived column's expression gives."""
    types = {}
    for name, expression in plan.derived.items():
        try:
            [described] = con.execute(
                f"DESCRIBE WITH typed AS ({typed}) SELECT ({expression}) FROM typed"
            ).fetchall()
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise DeclarationError(
                f"`derived: {name}: {expression}` does not fit the source's columns: {error}"
            ) from error
        types[name] = str(described[1])
    return types


def _refusals(rows: SourceRows, plan: _Plan, period: Period | None) -> list[list[tuple[str, str]]]:
    """Return what can be wrong with each column, then with the row: conditions and reasons in SQL.

    The first condition that holds for a column tells its reason.
    """
    found = []
    for column in plan.columns:
        typed, cases = identifier(column.name), []
        given = None
        if column.name in plan.derived:
            attempt = _attempt(column.name)
            given = f"{attempt}.v"
            rule = f"computed by {plan.derived[column.name]}"
            inputs = _shown_inputs(plan, column.name)
            cases.append((f"{attempt} IS NULL", _reason(column.name, rule, inputs)))
        elif column.name in rows.columns:
            given = rows.columns[column.name]
        if given is not None:
            reason = _reason(column.name, f"type {column.duckdb_type}", f"{given}::VARCHAR")
            cases.append((f"({given} IS NOT NULL AND {typed} IS NULL)", reason))
        if plan.window is not None and period is not None and column.name == plan.window.column:
            rule = f"within the period of its file, {period.start} to {period.end}"
            cases.append(
                (f"NOT {_within(typed, period)}", _reason(column.name, rule, f"{typed}::VARCHAR"))
            )
        if cases:
            found.append(cases)
    if rows.malformed is not None:
        reason = _reason(WHOLE_ROW, rows.malformed_rule, rows.malformed)
        found.append([(f"{rows.malformed} IS NOT NULL", reason)])
    return found


def _belongs(plan: _Plan, period: Period | None) -> str:
    """Return which rows to keep: not those that another window will read."""
    if plan.window is None:
        return "true"
    column = identifier(plan.window.column)
    kept = f"{column} IS NULL OR ({plan.window.sql})"
    # No other window reads this file, so that a row that strayed into it is kept, and refused.
    return kept if period is None else f"{kept} OR NOT {_within(column, period)}"


def _within(column: str, period: Period) -> str:
    return f"({column} >= TIMESTAMP '{period.start}' AND {column} < TIMESTAMP '{period.end}')"


def _reason(column: str, rule: str, value: str) -> str:
    return f"{{'column_name': {literal(column)}, 'rule': {literal(rule)}, 'value': {value}}}"


def _shown_inputs(plan: _Plan, name: str) -> str:
    entries = ", ".join(f"{literal(used)}: {identifier(used)}" for used in plan.references[name])
    return f"to_json({{{entries}}})::VARCHAR" if entries else "NULL::VARCHAR"


def _attempt(name: str) -> str:
    return identifier(f"__{name}")


def _listed(first: str, rest: str) -> str:
    return f"{first}, {rest}" if rest else first


def _count(con: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


@contextmanager
def _rows_in_order(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Keep rows in the order of their file, from which their numbers come."""
    [(before,)] = con.execute("SELECT current_setting('preserve_insertion_order')").fetchall()
    con.execute("SET preserve_insertion_order = true")
    try:
        yield
    finally:
        con.execute(f"SET preserve_insertion_order = {str(before).lower()}")
