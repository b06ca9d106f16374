"""``mlops status`` and ``mlops doctor``, and what a wrong setting looks like."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.demo import MLOPS, environment_of


def test_status_of_a_small_lake_is_json(run: Run) -> None:
    told = run("status", "--json")
    assert told.returncode == 0, told.stderr
    status = json.loads(told.stdout)
    [orders] = status["tables"]
    assert (orders["table"], orders["version"], orders["rows"]) == ("raw/orders", 2, 3)
    assert status["families"] == []
    never = {asset["asset"] for asset in status["assets"] if asset["materialised_at"] is None}
    assert {"raw/flights", "flight_delay/champion"} <= never


def test_doctor_finds_a_sound_deployment_sound(run: Run) -> None:
    told = run("doctor", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    findings = {finding["subject"]: finding for finding in json.loads(told.stdout)}
    assert all(finding["ok"] for finding in findings.values())
    assert {"Python", "settings", "state folder", "definitions"} <= set(findings)


def test_doctor_names_a_variable_that_nothing_reads(run: Run) -> None:
    told = run("doctor", MLOPS_THREDS="2")
    assert told.returncode == 1
    assert "MLOPS_THREDS, from the environment; did you mean 'MLOPS_THREADS'?" in told.stdout


def test_doctor_names_a_line_of_the_projects_env_file_that_nothing_reads(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("MLOPS_SEED=1\nMLOPS_HOMES=/tmp\n")
    told = run("doctor", MLOPS_PROJECT_ROOT=str(tmp_path))
    assert told.returncode == 1
    place = f"from line 2 of {tmp_path / '.env'}; did you mean 'MLOPS_HOME'?"
    assert f"MLOPS_HOMES, {place}" in told.stdout


def test_what_is_declared_wrongly_is_shown_in_a_few_lines(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "defs" / "raw"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "shop"\n'
    )
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "defs" / "__init__.py").touch()
    (folder / "defs.yaml").write_text(
        "type: mlops_assets.orchestration.raw_table.RawTable\nattributes:\n  tabel: raw/x\n"
    )
    python_path = f"{tmp_path}:{environment_of(home).get('PYTHONPATH', '')}"
    for command in ("doctor", "status"):
        told = subprocess.run(  # a process of its own: another project's package is imported
            [*MLOPS, command],
            env={
                **environment_of(home),
                "MLOPS_PROJECT_ROOT": str(tmp_path),
                "PYTHONPATH": python_path,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 1
        said = told.stdout + told.stderr
        assert "shop/defs/raw/defs.yaml:3: attributes.tabel\n" in said
        assert "did you mean 'table'?" in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MLOPS_THREADS", "0"),
        ("MLOPS_THREADS", "many"),
        ("MLOPS_MEMORY_LIMIT", "4 elephants"),
        ("MLOPS_EXECUTOR", "cloud"),
        ("MLOPS_HOME", __file__),
    ],
)
def test_a_wrong_setting_ends_with_1_and_is_named(run: Run, variable: str, value: str) -> None:
    refused = run("tables", "list", **{variable: value})
    assert refused.returncode == 1
    assert f"{variable}=" in refused.stderr
    assert value in refused.stderr
    assert "Traceback" not in refused.stderr
