"""``mlops sql``: DuckDB over the lake."""

from datetime import UTC, datetime
from typing import Annotated

import typer


def sql(
    statement: Annotated[
        str, typer.Argument(help="A query; tables are named schema.name: raw.flights.")
    ],
    *,
    as_of: Annotated[
        datetime | None, typer.Option(help="Read the tables as they were at this time (UTC).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, all rows.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 40,
) -> None:
    """Ask the lake a question in SQL, now or as of an earlier time."""
    import duckdb

    from mlops_assets.cli.output import console, print_json, print_table
    from mlops_assets.lake import Lake
    from mlops_assets.settings import current_settings

    lake = Lake.from_settings(current_settings())
    moment = as_of.replace(tzinfo=as_of.tzinfo or UTC) if as_of else None
    with lake.connect(as_of=moment) as con:
        try:
            cursor = con.execute(statement)
            names = [column[0] for column in cursor.description or []]
            fetched = cursor.fetchall() if as_json else cursor.fetchmany(limit + 1)
        except duckdb.Error as error:
            console.print(str(error), style="red", markup=False, highlight=False)
            raise typer.Exit(1) from error
    rows = [dict(zip(names, row, strict=True)) for row in fetched]
    if as_json:
        print_json(rows)
        return
    print_table("", rows[:limit], empty="no rows")
    if len(rows) > limit:
        console.print(f"… more rows; --limit shows more than {limit}")
