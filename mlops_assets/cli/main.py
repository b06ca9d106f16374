"""The entry point: gathers the commands and turns the platform's errors into exit codes."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

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
    except SystemExit as ended:
        _leave(ended.code)
    except Exception as error:
        if not type(error).__module__.startswith("mlops_assets."):
            raise
        print(f"mlops: {error}", file=sys.stderr)
        _leave(1)


def _leave(code: object) -> NoReturn:
    """End the process after its exit handlers, without taking the interpreter apart.

    At that point DuckDB's bindings list on the screen, as leaks, whatever objects still exist.
    """
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to run them
    with suppress(BrokenPipeError):  # whoever read the output has seen enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    main()
