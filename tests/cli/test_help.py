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
]
HEAVY = [
    *("dagster", "dagster_dbt", "dbt", "duckdb", "deltalake", "pyarrow", "pandas", "numpy"),
    *("pandera", "ibis", "mlflow", "catboost", "sklearn", "matplotlib", "pydantic_settings"),
]
# What the command does, in one process: its help, then what it had to import for it.
PROGRAM = """
import json, sys
from mlops_assets.cli.main import app
app(sys.argv[2:] + ["--help"], standalone_mode=False)
print()
print(json.dumps([name for name in json.loads(sys.argv[1]) if name in sys.modules]))
"""


def test_all_commands_are_known_here() -> None:
    import typer

    from mlops_assets.cli.main import app

    def walk(command: object, path: tuple[str, ...]) -> set[tuple[str, ...]]:
        below = getattr(command, "commands", {})
        return {path}.union(*(walk(sub, (*path, name)) for name, sub in below.items()))

    assert walk(typer.main.get_command(app), ()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_and_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(HEAVY), *command],
        capture_output=True,
        text=True,
        check=False,
    )

    assert shown.returncode == 0, shown.stderr
    *text, imported = shown.stdout.splitlines()
    assert "Usage:" in "\n".join(text)
    assert "--help" in "\n".join(text)
    assert json.loads(imported) == []
