"""The guide to a model of one's own, followed literally: every file it shows, every command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1800)

PROJECT = Path(__file__).parents[2]
GUIDE = PROJECT / "docs" / "how-to" / "first-model.md"
FILE = re.compile(r"^`(?P<path>[^`\n]+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```console\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the files that the guide shows."""
    root = tmp_path_factory.mktemp("guide") / "project"
    root.mkdir()
    for name in ("mlops_assets", "dbt_project", "docs/how-to/data"):
        ignored = shutil.ignore_patterns("__pycache__", "target", "logs")
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "workspace.yaml", "constraints.txt"):
        shutil.copy(PROJECT / name, root)
    files = list(FILE.finditer(GUIDE.read_text(encoding="utf-8")))
    assert len(files) == 6
    for found in files:
        path = root / found["path"]
        assert not path.exists(), f"{path} is there already; the guide makes new files only"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found["text"], encoding="utf-8")
    return root


def run(root: Path, *words: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_"))}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=root,
        env={
            **inherited,
            "PYTHONPATH": str(root),
            "MLOPS_HOME": str(root / ".mlops"),
            "DAGSTER_HOME": str(root / ".mlops" / "dagster"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
    return done.stdout


def test_it_leads_from_the_csv_to_a_registered_model(followed: Path) -> None:
    run(followed, "mlops_assets.cli.main", "doctor")
    run(
        followed,
        *("dagster", "asset", "materialize", "-m", "mlops_assets.definitions"),
        *("--select", '+key:"seattle_weather/champion"'),
    )
    versions = json.loads(run(followed, "mlops_assets.cli.main", "models", "list", "--json"))
    [version] = [found for found in versions if found["family"] == "seattle_weather"]
    assert version["version"] == 1
    card = run(followed, "mlops_assets.cli.main", "models", "card", "seattle_weather/1")
    assert "What will today's weather in Seattle be?" in card
    days = json.loads(
        run(
            followed,
            *("mlops_assets.cli.main", "sql", "--json"),
            "select count(*) as days, count(distinct label) as classes "
            "from training.seattle_weather",
        )
    )
    assert days == [{"days": 1461, "classes": 5}]


def test_every_command_it_shows_is_one_that_exists() -> None:
    shown = [
        line
        for found in COMMAND.finditer(GUIDE.read_text(encoding="utf-8"))
        for line in found["lines"].splitlines()
    ]
    assert len(shown) >= 6
    for line in shown:
        assert line.startswith((".venv/bin/mlops ", ".venv/bin/dagster ", "make ", "export ")), line
