"""The sensor that tells people: what it notices, what it closes, and what it sends."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.sensor_definition import SensorExecutionData

from mlops_assets.alerting import AlertBook, AlertKind, AlertsDeclaration
from mlops_assets.orchestration.alerts import alerts_sensor
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.settings import load_settings

ORDERS = dg.AssetKey(["raw", "orders"])
DECLARED = AlertsDeclaration.model_validate(
    {"alerts": [{"name": "everything", "kinds": [kind.value for kind in AlertKind]}]}
)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_settings(home=tmp_path / "home", project_root=tmp_path, threads=1))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "dagster"
    folder.mkdir()
    with dg.instance_for_test(temp_dir=str(folder)) as opened:
        yield opened


@pytest.fixture
def good() -> dict[str, bool]:
    """Whether the asset's data are good; a test changes it."""
    return {"data": True, "source": True}


@pytest.fixture
def defs(platform: Platform, good: dict[str, bool]) -> dg.Definitions:
    @dg.asset(key=ORDERS, check_specs=[dg.AssetCheckSpec("values", asset=ORDERS)])
    def orders() -> Iterator[object]:
        if not good["source"]:
            raise dg.Failure("the source is gone")
        yield dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    check_name="values", passed=good["data"], description="price is negative"
                )
            ]
        )

    return dg.Definitions(
        assets=[orders],
        jobs=[dg.define_asset_job("load_orders", selection=[orders])],
        sensors=[alerts_sensor(DECLARED)],
        resources={RESOURCE_KEY: platform},
    )


def run(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = defs.resolve_job_def("load_orders")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def tick(
    defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None
) -> SensorExecutionData:
    sensor = defs.resolve_sensor_def("alerts_sensor")
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=defs, resources=defs.resources
    ) as context:
        return sensor.evaluate_tick(context)


def told(platform: Platform) -> set[str]:
    """Return what is open, by kind and subject."""
    book = AlertBook(platform.lake, DECLARED)
    return {f"{a.occurrence.kind} {a.occurrence.subject}" for a in book.open_alerts()}


def test_a_check_that_fails_is_told_until_it_passes(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform, good: dict[str, bool]
) -> None:
    good["data"] = False
    run(defs, instance)
    cursor = tick(defs, instance, None).cursor
    failing = told(platform)
    again = tick(defs, instance, cursor)
    [alert] = AlertBook(platform.lake, DECLARED).open_alerts()

    good["data"] = True
    run(defs, instance)
    tick(defs, instance, again.cursor)

    assert failing == {"failed_check raw/orders:values"}
    assert "price is negative" in alert.occurrence.what
    assert "1 open" in (again.skip_message or "")
    assert told(platform) == set()


def test_a_run_that_fails_is_told_until_one_of_its_job_succeeds(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform, good: dict[str, bool]
) -> None:
    cursor = tick(defs, instance, None).cursor
    good["source"] = False
    failed = run(defs, instance)
    cursor = tick(defs, instance, cursor).cursor
    while_failed = told(platform)
    [alert] = AlertBook(platform.lake, DECLARED).open_alerts(AlertKind.failed_run)

    good["source"] = True
    run(defs, instance)
    tick(defs, instance, cursor)

    assert "failed_run load_orders" in while_failed
    assert alert.occurrence.key == failed.run_id
    assert alert.occurrence.link == f"runs/{failed.run_id}"
    assert told(platform) == set()


def test_what_failed_before_anybody_declared_alerts_is_no_news(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform, good: dict[str, bool]
) -> None:
    good["source"] = False
    run(defs, instance)
    later = json.dumps({"runs_until": 9e9, "events_until": None})

    tick(defs, instance, later)

    assert AlertBook(platform.lake, DECLARED).open_alerts(AlertKind.failed_run) == ()


def test_a_stale_asset_is_told_until_it_is_fresh(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform
) -> None:
    run(defs, instance)
    judge(instance, FreshnessState.FAIL)
    tick(defs, instance, None)
    while_stale = told(platform)

    judge(instance, FreshnessState.PASS)
    tick(defs, instance, None)

    assert while_stale == {"stale_asset raw/orders"}
    assert told(platform) == set()


def judge(instance: dg.DagsterInstance, state: FreshnessState) -> None:
    """Record the daemon's judgement of the asset's freshness."""
    instance._report_runless_asset_event(
        FreshnessStateChange(
            key=ORDERS,
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=0.0,
        )
    )
