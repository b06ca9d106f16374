"""``mlops sql``: DuckDB over the lake."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import duckdb

    from mlops_assets.lake import Lake

_SCREENFUL = 40
_UNKNOWN_TABLE = re.compile(r'Table with name "?(?P<name>[^\s"]+)"? does not exist')
_FETCHED_AT_ONCE = 10_000


class QueryError(Exception):
    """A statement that is refused; the message is DuckDB's, and what is known beyond that."""


class Format(StrEnum):
    """What the result is printed as."""

    table = "table"
    csv = "csv"
    json = "json"
    markdown = "markdown"


def sql(
    statement: Annotated[
        str, typer.Argument(help="A query; tables are named schema.name: raw.flights.")
    ],
    *,
    as_of: Annotated[
        datetime | None, typer.Option(help="Read the tables as they were at this time (UTC).")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Rows to print. Default: {_SCREENFUL} of a table in a terminal, else all.",
        ),
    ] = None,
) -> None:
    """Ask the lake a question in SQL, now or as of an earlier time."""
    import duckdb

    from mlops_assets.cli.output import console
    from mlops_assets.cli.query_results import print_result
    from mlops_assets.lake import Lake
    from mlops_assets.settings import current_settings

    if as_json:
        form = Format.json
    if limit is None and form is Format.table and console.is_terminal:
        limit = _SCREENFUL
    _require_query(statement)
    lake = Lake.from_settings(current_settings())
    moment = as_of.replace(tzinfo=as_of.tzinfo or UTC) if as_of else None
    with lake.connect(as_of=moment) as con:
        try:
            cursor = con.execute(statement)
            names = [column[0] for column in cursor.description or []]
            rows = _rows(cursor)
            print_result(names, islice(rows, limit), form)
            more = limit is not None and next(rows, None) is not None
        except duckdb.CatalogException as error:
            raise QueryError(f"{error}{_hint(str(error), lake, moment)}") from error
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
    if more:
        # Not on standard output: that holds the rows and nothing else.
        typer.echo(f"… more than {limit} rows; --limit shows more", err=True)


def _require_query(statement: str) -> None:
    """Refuse what asks no question: it would change the private session, and be gone with it.

    Raises
    ------
    QueryError
        Naming the kind of statement.
    """
    import duckdb

    # PIVOT is parsed into several statements at once.
    asking = {"SELECT", "EXPLAIN", "MULTI", "CALL", "PRAGMA"}
    try:
        found = [parsed.type.name for parsed in duckdb.extract_statements(statement)]
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    for kind in found:
        if kind not in asking:
            raise QueryError(
                f"a statement of kind {kind} is refused: the lake is only read here, and "
                "what it did would be gone with this command. Ask with SELECT, FROM, WITH, "
                "DESCRIBE, SUMMARIZE or EXPLAIN; tables change through their assets, and "
                "`mlops tables` restores, compacts and vacuums them."
            )


def _hint(said: str, lake: "Lake", moment: datetime | None) -> str:
    """Say more about a table that DuckDB does not know, where more is known."""
    from mlops_assets.declaration import did_you_mean
    from mlops_assets.lake import TableName

    found = _UNKNOWN_TABLE.search(said)
    if found is None:
        return ""
    asked = found["name"]
    known = {f"{name.schema}.{name.name}": name for name in lake.tables()}
    by_last_part = {name.name: name for name in known.values()}
    name: TableName | None = known.get(asked) or by_last_part.get(asked.rpartition(".")[2])
    if moment is not None and name is not None:
        first = lake.history(name)[-1].timestamp
        return (
            f"\n{name} did not exist at {moment:%F %T}Z: its first version is of {first:%F %T}Z. "
            f"Ask as of that time or later; `mlops tables history {name}` lists the versions."
        )
    hint = did_you_mean(asked, known) or "."
    return f"\nThe lake has no table {asked}{hint} `mlops tables list` names all of them."


def _rows(cursor: "duckdb.DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
    batches = iter(lambda: cursor.fetchmany(_FETCHED_AT_ONCE), [])
    return chain.from_iterable(batches)
