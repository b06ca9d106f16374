"""A small deployment with a champion, a raw table by day, and weeks of history to come."""

from datetime import UTC, date, datetime
from pathlib import Path

from pandera.ibis import Field
from pyarrow import csv

from mlops_assets.alerting import AlertKind, AlertRule, AlertsDeclaration
from mlops_assets.ingestion import ingest
from mlops_assets.ingestion.sources import FileSource
from mlops_assets.lake import Lake, TableName
from mlops_assets.production.platform import Platform
from mlops_assets.production.replay.raw_days import RawDays
from mlops_assets.production.training import train_family
from mlops_assets.quality import Contract, TimestampUTC
from mlops_assets.settings import load_settings
from mlops_assets.training import ModelFamily, declare_family
from tests.registry.conftest import DECLARATION, make_lake, make_views

FIRST, LAST = date(2013, 2, 20), date(2013, 3, 5)
RAW, FLIGHTS = TableName("raw", "flights"), TableName("features", "flights")
VIEWS = make_views()
ALERTS = AlertsDeclaration(alerts=(AlertRule(name="all", kinds=tuple(AlertKind)),))
FAMILY: ModelFamily = declare_family(
    {
        **DECLARATION,
        "split": {
            "train_end": "2013-01-20",
            "validation_end": "2013-01-28",
            "test_end": "2013-02-10",
            "rolling": {"validation_days": 8, "test_days": 12},
        },
        "candidates": [{"algorithm": "linear"}],
        "monitoring": {"windows": [1, 7], "drift": {"min_rows": 20}},
        "retraining": {"max_age": "P30D", "cooldown": "P7D", "min_new_rows": 200},
        "rollback": {"metric_drop": 0.05, "min_rows": 50, "window_days": 10},
    }
)


class Flights(Contract):
    """One row a flight."""

    flight_id: int = Field(description="Key of the flight.")
    day: date = Field(description="Day of the prediction.")
    prediction_time: TimestampUTC = Field(description="When it is predicted.")
    late: bool = Field(description="Whether it was late.")
    known_at: TimestampUTC = Field(description="When that was known.")

    class Config:
        unique = ("flight_id",)


def rebuild(lake: Lake, day: date) -> None:
    """Make the spine from the raw table; what the dbt models are in the flights example."""
    del day
    with lake.connect(tables=[RAW]) as con:
        made = con.sql(f"SELECT flight_id, prediction_time, late, known_at FROM {RAW.sql}")
        lake.overwrite(FLIGHTS, made.to_arrow_table())


RAW_DAYS = RawDays(RAW, Flights, "day", rebuild)


def make_deployment(home: Path) -> Platform:
    """Make a home whose champion was trained on what was known on the tenth of February."""
    lake = make_lake(home)
    with lake.connect() as con:
        rows = con.sql(
            "SELECT flight_id, CAST(prediction_time AS DATE) AS day, prediction_time, late, "
            f"known_at FROM {FLIGHTS.sql}"
        ).to_arrow_table()
    csv.write_csv(rows, home / "flights.csv")
    ingest(lake, FileSource(path="flights.csv"), Flights, RAW, mode="snapshot", root=home)
    platform = Platform(load_settings(home=home, threads=1))
    train_family(platform, FAMILY, VIEWS, actor="test", as_of=datetime(2013, 2, 10, tzinfo=UTC))
    return platform
