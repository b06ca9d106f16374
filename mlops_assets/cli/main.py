"""The entry point: gathers the commands and turns the platform's errors into exit codes."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

import typer

from mlops_assets.cli import (
    alerts,
    demo,
    doctor,
    drill,
    incidents,
    models,
    restore,
    serve,
    sql,
    status,
    tables,
    tokens,
    traffic,
    up,
)

app = typer.Typer(
    name="mlops",
    help="Data and models as one lineage graph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(up.up)
app.command()(serve.serve)
app.add_typer(tokens.app, name="tokens")
app.command()(traffic.shadow)
app.command()(traffic.canary)
app.command()(status.status)
app.add_typer(tables.app, name="tables")
app.command()(restore.restore)
app.add_typer(drill.app, name="drill")
app.command()(sql.sql)
app.add_typer(models.app, name="models")
app.add_typer(alerts.app, name="alerts")
app.add_typer(incidents.app, name="incidents")
app.command()(doctor.doctor)


def run() -> int:
    """Run the command and return its exit code.

    0: success; 1: refused or failed, with its reason; 2: wrong usage. An error that the platform
    raises on purpose is printed as a message; any other one is a bug and keeps its traceback.
    """
    try:
        app()
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except Exception as error:
        if not type(error).__module__.startswith("mlops_assets."):
            raise
        print(f"mlops: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> NoReturn:
    """Run the command in this process, and end it.

    It ends after its exit handlers, without taking the interpreter apart: at that point DuckDB's
    bindings list on the screen, as leaks, whatever objects still exist.
    """
    code = run()
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to run them
    with suppress(BrokenPipeError):  # whoever read the output has seen enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
