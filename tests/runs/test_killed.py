"""A run over a year that is killed at any moment leaves whole versions; the next one finishes."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from deltalake import DeltaTable

from mlops_assets.ingestion import ATTEMPTS
from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import load_settings
from tests.demo import environment_of
from tests.servers import wait_until

PROGRAM = Path(__file__).with_name("load_program.py")
ROWS = {
    "intermediate/int_flights": 336_776,
    "marts/fct_flights": 336_776,
    "marts/spine_flights": 336_776,
    "raw/airlines": 16,
    "raw/airports": 1_458,
    "raw/flights": 336_776,
    "raw/planes": 3_322,
    "raw/weather": 26_115,
    "staging/stg_airlines": 16,
    "staging/stg_airports": 1_462,
    "staging/stg_flights": 336_776,
    "staging/stg_planes": 3_322,
    "staging/stg_weather": 26_115,
}
LAST_MOMENT = 12.0  # seconds after the run began, about the length of a run
KILLS = 3


def test_every_table_is_whole_after_each_kill_and_the_next_run_finishes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    lake = Lake.from_settings(load_settings(home=home))
    moments = random.Random(20130101)  # noqa: S311 - moments to kill at, no secret
    # One kill in each stretch of the run, so that early and late steps are both hit.
    stretch = LAST_MOMENT / KILLS
    killed = 0
    for number in range(KILLS):
        killed += run(home, kill_after=(number + moments.random()) * stretch) != "succeeded"
        assert_whole(lake)
    assert killed, "no run was killed before its end, so this test shows nothing"

    assert run(home, kill_after=None) == "succeeded"

    assert {str(name): lake.describe(name).rows for name in data_tables(lake)} == ROWS
    assert_whole(lake)


def test_the_next_run_removes_what_a_killed_build_left_in_scratch(tmp_path: Path) -> None:
    """A build that is killed cannot clean up after itself; unless another does, the disk fills."""
    home = tmp_path / "home"
    tables = ["raw/airlines", "staging/stg_airlines"]
    with started(home, tables) as process:
        wait_until(
            lambda: process.poll() is not None or builds_in_scratch(home) != [],
            "dbt builds in the scratch folder",
        )
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(builds_in_scratch(home)) == 1

    assert run(home, kill_after=None, tables=tables) == "succeeded"

    assert builds_in_scratch(home) == []


def builds_in_scratch(home: Path) -> list[Path]:
    return [path for path in (home / "scratch").glob("dbt-*") if path.is_dir()]


def started(home: Path, tables: Iterable[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", PROGRAM, home, *tables],
        env=environment_of(home),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(home: Path, *, kill_after: float | None, tables: Iterable[str] = ROWS) -> str:
    """Run the program, killing it so many seconds after its run began; return its last word."""
    with started(home, tables) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip()]
        if kill_after is None:
            said += process.stdout.read().split()
        else:
            timer = threading.Timer(kill_after, os.killpg, (process.pid, signal.SIGKILL))
            timer.start()
            said += process.stdout.read().split()
            timer.cancel()
            timer.join()
    return said[-1]


def data_tables(lake: Lake) -> list[TableName]:
    """Return the tables that hold data; what failed to load is written down beside them."""
    return [name for name in lake.tables() if name != ATTEMPTS]


def assert_whole(lake: Lake) -> None:
    """Each table that is there is readable by any reader, and holds a whole year and no more."""
    with lake.connect() as con:
        for name in data_tables(lake):
            [(rows,)] = con.sql(f"SELECT count(*) FROM {name.sql}").fetchall()
            assert rows == ROWS[str(name)], name
            assert DeltaTable(lake.uri(name)).to_pyarrow_dataset().count_rows() == rows
