"""The sensor that tells people: what it notices, what it closes, and what it sends."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.sensor_definition import SensorExecutionData

from mlops_assets.alerting import AlertBook, AlertKind, AlertsDeclaration, Severity
from mlops_assets.lake import LakeError
from mlops_assets.orchestration.alerts import alerts_sensor
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.production.incidents import Incident, IncidentKind, open_incident
from mlops_assets.settings import load_settings
from tests.alerting.receivers import webhook
from tests.disks import small_disk

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


def test_checks_of_a_family_are_told_as_what_they_are(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    drift = dg.AssetKey(["late", "drift"])
    checks = [dg.AssetCheckSpec(name, asset=drift) for name in ("no_drift", "labels_arrive")]

    @dg.asset(key=drift, group_name="late", check_specs=checks)
    def watched() -> Iterator[object]:
        warn = dg.AssetCheckSeverity.WARN
        yield dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(check_name=check.name, passed=False, severity=warn)
                for check in checks
            ]
        )

    defs = dg.Definitions(
        assets=[watched],
        sensors=[alerts_sensor(DECLARED)],
        resources={RESOURCE_KEY: platform},
    )
    dg.materialize([watched], instance=instance)
    tick(defs, instance, None)

    assert told(platform) == {
        "drift late/drift:no_drift",
        "failed_check late/drift:labels_arrive",
    }
    [alert] = AlertBook(platform.lake, DECLARED).open_alerts(AlertKind.drift)
    assert alert.occurrence.family == "late"


def test_incidents_are_told(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform
) -> None:
    at = datetime(2013, 5, 3, tzinfo=UTC)
    kind = IncidentKind.data_corruption
    open_incident(
        platform.lake,
        Incident(kind, "raw/orders", "1", at, Severity.critical, "It is broken.", "Nothing.", "me"),
    )

    tick(defs, instance, None)

    assert told(platform) == {"incident data_corruption/raw/orders"}


def test_a_full_log_is_told_though_nothing_can_be_kept(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says so itself; the lake, on the same full disk, takes no alert."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    declared = AlertsDeclaration.model_validate(
        {
            "sinks": [{"name": "hook", "url": "${HOOK_URL}"}],
            "alerts": [{"name": "all", "kinds": ["inference_log", "failed_sensor"]}],
        }
    )
    with (
        small_disk(tmp_path / "disk", "512k") as disk,
        webhook() as hook,
        model_server(inference_log="full") as port,
    ):
        monkeypatch.setenv("HOOK_URL", hook.address)
        home = disk / "home"
        home.mkdir()
        platform = Platform(load_settings(home=home, project_root=tmp_path, serve_port=port))
        defs = dg.Definitions(sensors=[alerts_sensor(declared)], resources={RESOURCE_KEY: platform})
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
        for _ in range(2):
            with pytest.raises(LakeError):
                tick(defs, instance, None)
        while_full = [call["title"] for call in hook.calls]
        (disk / "filler").unlink()
        tick(defs, instance, None)

        assert while_full == [
            "CRITICAL: inference log: inference_log/full",
            "CRITICAL: failed sensor: alerts_sensor",
        ]
        [kept] = AlertBook(platform.lake, declared).open_alerts()
        assert kept.occurrence.subject == "inference_log/full"


@contextmanager
def model_server(**ready: str) -> Iterator[int]:
    """Answer on loopback as a model server does when it is asked whether it is ready."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ready" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(ready).encode())

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
