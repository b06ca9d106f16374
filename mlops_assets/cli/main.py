"""The entry point: gathers the commands and turns the platform's errors into exit codes."""

import sys

import typer

from mlops_assets.cli import demo, doctor, models, sql, status, tables, up

app = typer.Typer(
    name="mlops",
    help="Data and models as one lineage graph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(up.up)
app.command()(status.status)
app.add_typer(tables.app, name="tables")
app.command()(sql.sql)
app.add_typer(models.app, name="models")
app.command()(doctor.doctor)


def main() -> None:
    """Run the command. Exit code 0: success; 1: refused or failed, with its reason; 2: wrong usage.

    An error that the platform raises on purpose is printed as a message; any other one is a bug and
    keeps its traceback.
    """
    try:
        app()
    except Exception as error:
        if not type(error).__module__.startswith("mlops_assets."):
            raise
        print(f"mlops: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
