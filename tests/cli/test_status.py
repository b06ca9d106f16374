"""``mlops status``: what is not loaded, what is red and why, and what Dagster does not know."""

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.defs.flights.contracts import Flights
from mlops_assets.ingestion import IngestionError, ingest
from mlops_assets.ingestion.sources import FileSource
from mlops_assets.lake import Lake, TableName, Window
from tests.cli.conftest import Run

FLIGHTS = TableName("raw", "flights")


def fail_to_load(lake: Lake, day: int, root: Path) -> None:
    window = Window("flight_date", dt.date(2013, 1, day), dt.date(2013, 1, day + 1))
    source = FileSource(path="flights-{date:%Y-%m-%d}.csv")
    with pytest.raises(IngestionError):
        ingest(lake, source, Flights, FLIGHTS, mode=window, root=root)


def test_days_that_are_not_loaded_are_named(run: Run, lake: Lake, tmp_path: Path) -> None:
    for day in (1, 3):
        fail_to_load(lake, day, tmp_path)
    told = run("status")
    assert told.returncode == 0, told.stderr
    [line] = [line for line in told.stdout.splitlines() if "not loaded" in line]
    assert "! raw/flights: 3 of 3 days not loaded: 2013-01-01 (missing: no file in" in line
    assert "2013-01-02 (never loaded), 2013-01-03 (missing: " in line

    [loads] = [
        loads
        for loads in json.loads(run("status", "--json").stdout)["loads"]
        if loads["table"] == "raw/flights"
    ]
    assert loads["days"] == 3
    assert [(s["first"], s["outcome"]) for s in loads["shortfalls"]] == [
        ("2013-01-01", "missing"),
        ("2013-01-02", "never loaded"),
        ("2013-01-03", "missing"),
    ]
    assert loads["told"] == [line.split("! ", 1)[1].strip()]


def test_a_table_without_a_run_is_said_to_have_none(run: Run, lake: Lake) -> None:
    lake.overwrite(FLIGHTS, pa.table({"flight": [1]}))
    told = run("status")
    assert told.returncode == 0, told.stderr
    assert "in the lake, but Dagster knows of no run that made them: raw/flights;" in told.stdout
