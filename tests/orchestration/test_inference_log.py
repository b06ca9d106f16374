"""The inference log in Dagster: its tables are assets, and no segment is left behind."""

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from mlops_assets.lake import TableName
from mlops_assets.orchestration.inference_log import InferenceLogDeclaration, inference_log_defs
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.serving.inference_log import Event, EventKind, InferenceLog
from mlops_assets.serving.inference_log.shipping import ship
from mlops_assets.settings import load_settings
from tests.serving.inference_log.conftest import answer_with, delay_model

TABLE = TableName.parse("inference/flight_delay")
KEY = dg.AssetKey(["inference", "flight_delay"])
EVENTS = dg.AssetKey(["inference", "events"])


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_settings(home=tmp_path / "home", project_root=tmp_path, threads=1))


def declared(platform: Platform, **changes: object) -> dg.Definitions:
    declaration = InferenceLogDeclaration(
        **{"families": ["flight_delay"], "owners": ["team:data-science"], **changes}
    )
    champion = dg.AssetsDefinition(specs=[dg.AssetSpec(["flight_delay", "champion"])])
    return dg.Definitions.merge(
        inference_log_defs(declaration),
        dg.Definitions(assets=[champion], resources={RESOURCE_KEY: platform}),
    )


def answer(platform: Platform, *requests: str) -> None:
    """Have a server answer, and stop."""
    with InferenceLog(platform.settings.serve_log_folder) as log:
        log.declare("flight_delay", 3, delay_model())
        for request in requests:
            log.append([answer_with(request_id=request)])
        log.report(Event(EventKind.model_loaded, "loaded", "flight_delay", 3))


def run(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("ship_inference_log").execute_in_process(instance=instance)


def tick(
    defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None
) -> SensorExecutionData:
    sensor = defs.resolve_sensor_def("inference_log_sensor")
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=defs, resources=defs.resources
    ) as context:
        return sensor.evaluate_tick(context)


def test_a_run_ships_what_there_is_and_says_what_it_is(platform: Platform) -> None:
    answer(platform, "a", "b")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(declared(platform), instance)

    assert platform.lake.describe(TABLE).rows == 2
    found = {
        e.asset_key: e.metadata for e in result.asset_materializations_for_node("inference_log")
    }
    assert found[KEY]["dagster/row_count"].value == 2
    assert found[KEY]["shipped_rows"].value == 2
    assert found[KEY]["newest"].value == pytest.approx(1380630600.0)
    assert found[KEY]["seconds_since_newest"].value > 0
    [version] = found[KEY]["versions"].value.records
    assert (version.data["version"], version.data["rows"]) == ("3", 2)
    assert found[EVENTS]["shipped_rows"].value == 1
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == {"every_prediction_once": True, "everything_shipped": True}


def test_before_the_first_prediction_the_tables_are_there_and_empty(platform: Platform) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        defs = declared(platform)
        assert run(defs, instance).success
        assert platform.lake.describe(TABLE).rows == 0
        answer(platform, "a")
        run(defs, instance)
    assert platform.lake.describe(TABLE).rows == 1
    assert "wind" in platform.lake.schema(TABLE).names


def test_a_prediction_that_is_there_twice_is_found(platform: Platform) -> None:
    answer(platform, "a", "b")
    with dg.DagsterInstance.ephemeral() as instance:
        defs = declared(platform)
        run(defs, instance)
        platform.lake.append(TABLE, platform.lake.read(TABLE).read_all().slice(0, 1))
        result = run(defs, instance)
    [check] = [c for c in result.get_asset_check_evaluations() if c.asset_key == KEY]
    assert not check.passed
    assert "(2 times)" in (check.description or "")


def test_a_damaged_segment_is_a_warning_that_names_it(platform: Platform) -> None:
    answer(platform, "a", "b")
    [segment] = (platform.settings.serve_log_folder / "segments").iterdir()
    data = bytearray(segment.read_bytes())
    data[-20] ^= 255
    segment.write_bytes(data)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(declared(platform), instance)
    [check] = [c for c in result.get_asset_check_evaluations() if c.asset_key == EVENTS]
    assert not check.passed
    assert segment.name in (check.description or "")
    assert platform.lake.describe(TABLE).rows == 2


def test_what_a_server_left_behind_is_shipped_by_one_run(platform: Platform) -> None:
    answer(platform, "a")
    with dg.DagsterInstance.ephemeral() as instance:
        young = tick(declared(platform), instance)
        assert not young.run_requests
        defs = declared(platform, left_behind_after=timedelta(0))
        old = tick(defs, instance)
        assert old.run_requests is not None
        [request] = old.run_requests
        assert "1 finished segments" in request.tags["mlops/reason"]
        instance.create_run_for_job(
            defs.resolve_job_def("ship_inference_log"), status=dg.DagsterRunStatus.STARTED
        )
        again = tick(defs, instance)
        assert not again.run_requests
        assert "a run is shipping them" in (again.skip_message or "")


def test_what_the_server_ships_is_shown_once_and_without_a_run(platform: Platform) -> None:
    answer(platform, "a")
    ship(platform.lake, platform.settings.serve_log_folder)
    with dg.DagsterInstance.ephemeral() as instance:
        defs = declared(platform)
        first = tick(defs, instance)
        assert {event.asset_key for event in first.asset_events} == {KEY, EVENTS}
        assert "inference/flight_delay" in (first.skip_message or "")
        second = tick(defs, instance, first.cursor)
        assert not second.asset_events
        assert "nothing new" in (second.skip_message or "")
        answer(platform, "b")
        ship(platform.lake, platform.settings.serve_log_folder)
        third = tick(defs, instance, first.cursor)
        assert {event.asset_key for event in third.asset_events} == {KEY, EVENTS}
        # Though nobody asks for predictions, the tables are seen to be complete now and then.
        long_ago = json.dumps({**json.loads(third.cursor or ""), "at": 0.0})
        fourth = tick(defs, instance, long_ago)
        assert {event.asset_key for event in fourth.asset_events} == {KEY, EVENTS}


def test_the_table_of_events_is_no_family() -> None:
    with pytest.raises(ValueError, match="'events' is the table of events"):
        InferenceLogDeclaration(families=("events",), owners=("team:data-science",))
