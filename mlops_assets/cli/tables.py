"""``mlops tables``: list, show, history, restore, compact, vacuum."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_assets.cli.restore import TableArgument, restore, table_named

if TYPE_CHECKING:
    from mlops_assets.lake import Lake

app = typer.Typer(help="The tables of the lake.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _lake() -> "Lake":
    from mlops_assets.lake import Lake
    from mlops_assets.settings import current_settings

    return Lake.from_settings(current_settings())


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


@app.command("list")
def list_tables(*, as_json: JsonOption = False) -> None:
    """List every table with its rows, size and version."""
    from mlops_assets.cli.output import print_json, print_table

    lake = _lake()
    infos = [lake.describe(name) for name in lake.tables()]
    rows = [
        {
            "table": str(info.name),
            "version": info.version,
            "rows": info.rows,
            "files": info.files,
            "bytes": info.bytes,
        }
        for info in infos
    ]
    if as_json:
        print_json(rows)
    else:
        print_table("Tables", rows, empty="none yet; `mlops demo` makes some")


@app.command()
def show(table: TableArgument, *, as_json: JsonOption = False) -> None:
    """Show a table's description and columns; a version can be named: raw/flights@12."""
    from mlops_assets.cli.output import console, print_json, print_table, print_text
    from mlops_assets.lake import TableName, TableVersion

    lake = _lake()
    if "@" in table:
        pinned = TableVersion.parse(table)
        info = lake.describe(pinned.table, pinned.version)
    else:
        info = lake.describe(TableName.parse(table))
    columns = [
        {
            "column": field.name,
            "type": str(field.type),
            "description": (field.metadata or {}).get(b"comment", b"").decode(),
        }
        for field in info.schema
    ]
    if as_json:
        print_json(
            {
                "table": str(info.name),
                "version": info.version,
                "rows": info.rows,
                "files": info.files,
                "bytes": info.bytes,
                "uri": info.uri,
                "description": info.description,
                "columns": columns,
            }
        )
        return
    console.print(f"[bold]{info.name}@{info.version}[/bold]")
    print_text(info.description)
    print_text(
        f"{info.rows:,} rows and {info.bytes:,} bytes in {_files(info.files)}, at {info.uri}"
    )
    print_table("Columns", columns, empty="none")


@app.command()
def history(
    table: TableArgument,
    *,
    limit: Annotated[int | None, typer.Option(help="Show only the newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List a table's versions, newest first."""
    from mlops_assets.cli.output import print_json, print_table

    commits = _lake().history(table_named(table), limit)
    rows = [
        {
            "version": commit.version,
            "at": commit.timestamp,
            "operation": commit.operation,
            "metadata": ", ".join(f"{k}={v}" for k, v in commit.metadata.items()),
        }
        for commit in commits
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(f"History of {table}", rows, empty="no commits")


app.command()(restore)


@app.command()
def compact(table: TableArgument) -> None:
    """Rewrite many small files into few large ones."""
    from mlops_assets.cli.output import console

    lake, name = _lake(), table_named(table)
    before = lake.describe(name).files
    commit = lake.compact(name)
    if commit is None:
        console.print(f"{name} has {_files(before)}; nothing to compact")
    else:
        console.print(f"{name} went from {before} to {lake.describe(name).files} files")


@app.command()
def vacuum(
    table: TableArgument,
    *,
    retention_days: Annotated[
        float, typer.Option(min=0, help="Keep files that a version this recent needs.")
    ] = 30.0,
    delete: Annotated[
        bool, typer.Option(help="Delete; without it, only say what would go.")
    ] = False,
) -> None:
    """Delete files that only old versions need, and none that a model pins."""
    from mlops_assets.cli.output import console

    name = table_named(table)
    report = _lake().vacuum(name, timedelta(days=retention_days), dry_run=not delete)
    verb = "deleted" if delete else "would delete"
    console.print(f"{name}: {verb} {_files(len(report.files))}")
    if report.pinned_versions:
        console.print(f"kept for models: versions {list(report.pinned_versions)}")
