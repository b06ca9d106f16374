"""Every command explains itself, at once: help imports nothing heavy."""

import json
import subprocess
import sys

import pytest

COMMANDS = [
    (),
    ("demo",),
    ("up",),
    ("status",),
    ("sql",),
    ("doctor",),
    ("tables",),
    ("tables", "list"),
    ("tables", "show"),
    ("tables", "history"),
    ("tables", "restore"),
    ("tables", "compact"),
    ("tables", "vacuum"),
    ("models",),
    ("models", "list"),
    ("models", "show"),
    ("models", "card"),
    ("models", "promote"),
    ("models", "rollback"),
    ("models", "reproduce"),
    ("serve",),
    ("tokens",),
    ("tokens", "create"),
    ("tokens", "list"),
    ("tokens", "rotate"),
    ("tokens", "revoke"),
    ("shadow",),
    ("canary",),
    ("alerts",),
    ("alerts", "list"),
    ("alerts", "show"),
    ("alerts", "acknowledge"),
    ("alerts", "test"),
    ("alerts", "retry"),
    ("restore",),
    ("drill",),
    ("drill", "data"),
    ("incidents",),
    ("incidents", "list"),
    ("incidents", "show"),
    ("incidents", "resolve"),
]
HEAVY = [
    *("dagster", "dagster_dbt", "dbt", "duckdb", "deltalake", "pyarrow", "pandas", "numpy"),
    *("pandera", "ibis", "mlflow", "catboost", "sklearn", "matplotlib", "pydantic_settings"),
]
# What each command shows, and what had to be imported for it, one after the other in one process.
PROGRAM = """
import contextlib, io, json, sys
from mlops_assets.cli.main import app

heavy, commands = json.loads(sys.argv[1])
for command in commands:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        app([*command, "--help"], prog_name="mlops", standalone_mode=False)
    imported = [name for name in heavy if name in sys.modules]
    print(json.dumps([shown.getvalue(), imported]))
"""


@pytest.fixture(scope="module")
def told() -> dict[tuple[str, ...], tuple[str, list[str]]]:
    """What the help of each command said, and the heavy libraries there were by then."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([HEAVY, COMMANDS])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    return {command: tuple(json.loads(line)) for command, line in zip(COMMANDS, lines, strict=True)}


def test_all_commands_are_known_here() -> None:
    import typer

    from mlops_assets.cli.main import app

    def walk(command: object, path: tuple[str, ...]) -> set[tuple[str, ...]]:
        below = getattr(command, "commands", {})
        return {path}.union(*(walk(sub, (*path, name)) for name, sub in below.items()))

    assert walk(typer.main.get_command(app), ()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_and_imports_nothing_heavy(
    told: dict[tuple[str, ...], tuple[str, list[str]]], command: tuple[str, ...]
) -> None:
    text, imported = told[command]
    assert f"Usage: {' '.join(['mlops', *command])} " in text
    assert "--help" in text
    assert imported == []
