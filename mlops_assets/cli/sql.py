"""``mlops sql``: DuckDB over the lake."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import duckdb

_SCREENFUL = 40
_FETCHED_AT_ONCE = 10_000


class QueryError(Exception):
    """A statement that DuckDB refuses; the message is DuckDB's."""


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
    lake = Lake.from_settings(current_settings())
    moment = as_of.replace(tzinfo=as_of.tzinfo or UTC) if as_of else None
    with lake.connect(as_of=moment) as con:
        try:
            cursor = con.execute(statement)
            names = [column[0] for column in cursor.description or []]
            rows = _rows(cursor)
            print_result(names, islice(rows, limit), form)
            more = limit is not None and next(rows, None) is not None
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
    if more:
        # Not on standard output: that holds the rows and nothing else.
        typer.echo(f"… more than {limit} rows; --limit shows more", err=True)


def _rows(cursor: "duckdb.DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
    batches = iter(lambda: cursor.fetchmany(_FETCHED_AT_ONCE), [])
    return chain.from_iterable(batches)
