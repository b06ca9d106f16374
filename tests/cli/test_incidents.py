"""``mlops restore``, ``mlops drill`` and ``mlops incidents``, on a project of one table."""

import json
from pathlib import Path

import pytest

from mlops_assets.lake import Lake
from mlops_assets.orchestration.raw_table import RawTable
from mlops_assets.settings import load_settings
from tests.cli.conftest import ORDERS, Run, orders

CONTRACT = '''
from pandera.ibis import Field

from mlops_assets.quality import Contract


class Orders(Contract):
    """Orders of the shop."""

    order_id: int = Field(description="Key of the order.")
    amount: float = Field(ge=0, description="What was paid.")

    class Config:
        unique = ["order_id"]
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project that declares the small lake's table, and gives it rules."""
    defs = tmp_path / "project" / "mlops_assets" / "defs"
    defs.mkdir(parents=True)
    declared = {
        "type": f"{RawTable.__module__}.RawTable",
        "attributes": {
            "table": str(ORDERS),
            "description": "Orders of the shop.",
            "owners": ["team:shop"],
            "contract": "rules_of_orders:Orders",
            "source": {"kind": "file", "path": "orders.csv"},
        },
    }
    (defs / "defs.yaml").write_text(json.dumps(declared))
    (tmp_path / "rules_of_orders.py").write_text(CONTRACT)
    monkeypatch.syspath_prepend(str(tmp_path))
    return str(tmp_path / "project")


def test_the_last_good_version_comes_back_and_the_incident_is_listed(
    run: Run, lake: Lake, project: str
) -> None:
    lake.append(ORDERS, orders((3, -1.0)), metadata={"who": "somebody"})

    done = run("restore", "raw/orders", "--reason", "negative", MLOPS_PROJECT_ROOT=project)
    listed = run("incidents", "list", "--all", "--json").told
    shown = run("incidents", "show", listed[0]["incident"][:6])
    again = run("restore", "raw/orders", "--reason", "negative", MLOPS_PROJECT_ROOT=project)

    assert done.returncode == 0, done.stderr
    assert "raw/orders is now version 4, with the 3 rows of version 2" in done.stdout
    assert "Undo: mlops restore raw/orders --version 3" in done.stdout
    assert lake.describe(ORDERS).rows == 3
    [incident] = listed
    assert (incident["kind"], incident["subject"]) == ("data_rollback", "raw/orders")
    assert not incident["open"]
    assert "negative" in shown.stdout
    assert run("incidents", "list").stdout.strip() == "Incidents: none is open"
    assert again.returncode == 1
    assert "keeps all its rules" in again.stderr


def test_a_drill_prints_its_steps_and_leaves_the_table_alone(
    run: Run, lake: Lake, project: str
) -> None:
    done = run("drill", "data", "raw/orders", MLOPS_PROJECT_ROOT=project)
    asked = run("drill", "data", "raw/orders", "--for-real", MLOPS_PROJECT_ROOT=project)
    real = run(
        "drill", "data", "raw/orders", "--for-real", "--yes", "--json", MLOPS_PROJECT_ROOT=project
    ).told

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 5 + ["The"]
    assert asked.returncode == 2
    assert real["passed"]
    assert len(real["steps"]) == 5
    assert lake.describe(ORDERS).rows == 3
    unknown = run("drill", "data", "raw/nothing", MLOPS_PROJECT_ROOT=project)
    assert unknown.returncode == 1
    assert "raw/nothing" in unknown.stderr


def test_an_open_incident_is_resolved_once(run: Run, home: Path) -> None:
    from datetime import UTC, datetime

    from mlops_assets.alerting import Severity
    from mlops_assets.production.incidents import Incident, IncidentKind, open_incident

    kind, at = IncidentKind.model_rollback, datetime(2013, 5, 3, tzinfo=UTC)
    incident = Incident(
        kind, "late", "3-2", at, Severity.error, what="late/3 is bad", done="late/2 serves", by="it"
    )
    open_incident(Lake.from_settings(load_settings(home=home)), incident)

    listed = run("incidents", "list")
    done = run("incidents", "resolve", incident.incident_id, "--how", "mended", "--actor", "ada")
    again = run("incidents", "resolve", incident.incident_id, "--how", "mended")

    assert "model_rollback: late" in listed.stdout
    assert "is resolved by ada: mended" in done.stdout
    assert again.returncode == 1
    assert "was resolved by ada" in again.stderr
