"""What `mlops status` asks of Dagster and of the lake: checks, runs and what neither knows."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.orchestration.health import AssetHealth, assets_health, raw_table_loads
from mlops_assets.orchestration.instance import open_instance
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.settings import load_settings
from tests.orchestration.raw_tables import GOOD, TABLE, materialise, raw_table


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_settings(home=tmp_path / "home", project_root=tmp_path, threads=2))


@pytest.fixture
def instance(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    for variable in ("DAGSTER_HOME", "MLOPS_HOME"):
        monkeypatch.setenv(variable, "")  # so that what opening sets is undone
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    with open_instance(platform.settings) as opened:
        yield opened


def health(platform: Platform, defs: dg.Definitions) -> AssetHealth:
    [orders] = assets_health(with_platform(platform, defs), platform.settings, platform.lake)
    return orders


def with_platform(platform: Platform, defs: dg.Definitions) -> dg.Definitions:
    return dg.Definitions.merge(defs, dg.Definitions(resources={RESOURCE_KEY: platform}))


def test_failing_checks_have_their_severity_and_reason(
    tmp_path: Path, platform: Platform, instance: dg.DagsterInstance
) -> None:
    defs = raw_table(tmp_path)
    (tmp_path / "orders.csv").write_text(GOOD + "4,2013-01-04,-7\n")
    materialise(platform, defs, instance=instance)

    found = health(platform, defs)
    [values] = found.failing_checks
    assert (values.name, values.severity) == ("values", "WARN")
    assert values.reason == '1 row breaks "amount: at least 0"'
    assert (found.checks, found.unevaluated_checks, found.unrecorded) == (5, 0, False)


def test_checks_that_a_failed_run_never_reached_are_failing(
    tmp_path: Path, platform: Platform, instance: dg.DagsterInstance
) -> None:
    defs = raw_table(tmp_path)
    (tmp_path / "orders.csv").write_text(GOOD)
    materialise(platform, defs, instance=instance)
    assert health(platform, defs).failing_checks == ()
    (tmp_path / "orders.csv").unlink()
    run = materialise(platform, defs, instance=instance).dagster_run

    failing = {check.name: check for check in health(platform, defs).failing_checks}
    assert set(failing) == {"schema", "keys", "values", "volume", "days"}
    assert "no file in" in failing["volume"].reason
    assert failing["schema"].severity == "ERROR"
    assert failing["schema"].reason == f"not evaluated: run {run.run_id[:8]} ended as FAILURE"


def test_a_table_that_dagster_knows_nothing_of_is_said_to_be_there(
    tmp_path: Path, platform: Platform, instance: dg.DagsterInstance
) -> None:
    defs = raw_table(tmp_path)
    (tmp_path / "orders.csv").write_text(GOOD)
    assert health(platform, defs).unrecorded is False
    materialise(platform, defs)  # in an instance of its own, as in another place
    assert platform.lake.exists(TABLE)
    found = health(platform, defs)
    assert (found.materialised_at, found.unrecorded) == (None, True)


def test_the_days_of_a_declared_raw_table_are_told(tmp_path: Path, platform: Platform) -> None:
    defs = raw_table(tmp_path)
    materialise(platform, defs, "2013-01-02", "2013-01-02")
    [loads] = raw_table_loads(with_platform(platform, defs), platform.lake)
    [line] = loads.lines()
    assert line.startswith("raw/orders: 1 of 1 days not loaded: 2013-01-02 (missing: ")
