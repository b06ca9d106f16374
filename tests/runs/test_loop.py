"""The production loop under a real daemon: what is due is trained again, once, by itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration.instance import dagster_environment, open_instance
from mlops_assets.orchestration.model_family.retraining import UNFINISHED
from mlops_assets.production.evaluating import evaluate_day
from mlops_assets.registry import Registry
from mlops_assets.serving.batch_scoring import predictions_table, score_days
from mlops_assets.settings import Settings, load_settings
from mlops_assets.training import ModelFamily
from mlops_assets.training.training_set import build_training_set
from tests.registry.conftest import judge_version, make_lake, make_version
from tests.runs.loop_location import AGEING, DRIFTING, FAILING, VIEWS

pytestmark = pytest.mark.timeout(900)

LOCATION = Path(__file__).with_name("loop_location.py")
PROJECT = Path(__file__).parents[2]
DELAYS = TableName("features", "delays")
LAST = date(2013, 3, 31)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Three champions; what the second meets has moved, and the third is wrong all the time."""
    settings = load_settings(home=tmp_path_factory.mktemp("loop") / "home", threads=1)
    lake = make_lake(settings.home)
    registry = Registry.from_settings(settings, lake)
    with open_instance(settings) as instance:
        for family in (AGEING, DRIFTING, FAILING):
            made = build_training_set(lake, family, VIEWS)
            judge_version(registry, family, make_version(registry, family, made, "linear"))
            instance.report_runless_asset_event(dg.AssetMaterialization([family.name, "champion"]))
    answer_wrongly(lake, registry, FAILING)
    move(lake)
    return settings


def move(lake: Lake) -> None:
    """Let the wind of the last days be what it never was."""
    table = lake.read(DELAYS).read_all().to_pandas()
    table.loc[table["event_time"] >= datetime(2013, 3, 20, tzinfo=UTC), ["wind"]] += 4
    lake.overwrite(DELAYS, pa.Table.from_pandas(table, schema=lake.schema(DELAYS)))


def answer_wrongly(lake: Lake, registry: Registry, family: ModelFamily) -> None:
    champion = registry.find(f"{family.name}@champion")
    days = (date(2013, 3, 1), date(2013, 4, 1))
    score_days(lake, family, VIEWS, registry.load(champion), champion, days)
    table = predictions_table(family.name)
    given = lake.read(table).read_all().to_pandas()
    given["answer"] = 1 - given["answer"]
    lake.overwrite(table, pa.Table.from_pandas(given, schema=lake.schema(table)))
    now = datetime.now(UTC)
    found = evaluate_day(lake, registry, family, VIEWS, LAST, evaluation="by hand", at=now)
    assert found.decision.retrain
    assert "realised roc_auc" in found.decision.summary


@contextmanager
def daemon(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the real daemon over the small code location."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-f", str(LOCATION)],
            cwd=PROJECT,
            env={**dagster_environment(settings), "PYTHONPATH": str(PROJECT)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def runs_of(instance: dg.DagsterInstance, family: ModelFamily) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(job_name=f"train_{family.name}")))


def wait(until: Callable[[], bool], seconds: float, log: Path, every: float = 0.5) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, log.read_text()[-6000:]
        time.sleep(every)


def gate(instance: dg.DagsterInstance, family: ModelFamily) -> tuple[str, str]:
    """Return which run the newest gate decision is of, and what it says."""
    key = dg.AssetCheckKey(dg.AssetKey([family.name, "champion"]), "gate")
    [found] = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).values()
    assert found.evaluation is not None
    return found.run_id, found.evaluation.description or ""


def test_what_is_due_is_trained_again_once_by_itself_also_when_the_daemon_is_killed(
    settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "daemon.log"
    with open_instance(settings) as instance:
        with daemon(settings, log) as first:
            # The decision on the third is there already: its run is the first to be asked for.
            wait(lambda: bool(runs_of(instance, FAILING)), 120, log, every=0.01)
            os.kill(first.pid, signal.SIGKILL)
            first.wait(30)
        families = (AGEING, DRIFTING, FAILING)
        with daemon(settings, log):
            wait(
                lambda: all(
                    any(run.is_finished for run in runs_of(instance, family)) for family in families
                ),
                400,
                log,
            )
        wait(lambda: not instance.get_run_ids(dg.RunsFilter(statuses=UNFINISHED)), 120, log)

        for family, why in (
            (AGEING, "stale: the gate last decided on"),
            (DRIFTING, f"decision for {LAST}: retrain: 1 of 3 features drifted"),
            (FAILING, f"decision for {LAST}: retrain: realised roc_auc"),
        ):
            runs = runs_of(instance, family)
            assert all(run.is_success for run in runs), log.read_text()[-6000:]
            assert why in runs[-1].tags["mlops/reason"]
            assert runs[-1].tags["dagster/sensor_name"] == f"{family.name}_retraining"
            assert gate(instance, family)[0] == runs[0].run_id
            if family is not AGEING:  # which goes stale again every minute
                assert len(runs) == 1
        [watching] = instance.get_runs(dg.RunsFilter(job_name="monitor_drifting"))
        assert watching.is_success
