"""Stores of both kinds, and a small lake with what is known about two airports."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import redis

from mlops_assets.features import Feature, FeatureView
from mlops_assets.features.online import OnlineStore, SpineTable, open_online_store
from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import Settings, load_settings
from tests.features.online.redis_server import running

INSTANT = pa.timestamp("us", "UTC")
WEATHER = TableName("features", "weather")
DELAYS = TableName("features", "delays")
SPINE = TableName("marts", "spine_flights")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A deployment whose online store is empty."""
    url = ""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        with redis.Redis.from_url(url) as client:
            client.flushdb()
    return load_settings(home=tmp_path / "home", threads=2, online_store_url=url)


@pytest.fixture
def store(settings: Settings) -> Iterator[OnlineStore]:
    opened = open_online_store(settings)
    yield opened
    opened.close()


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)


@pytest.fixture(scope="session")
def weather() -> FeatureView:
    """Hourly weather of an airport, known half an hour later, good for three hours."""
    return FeatureView(
        name="weather",
        table=WEATHER,
        entity=("airport",),
        event_time="observed_at",
        available_at="available_at",
        ttl=timedelta(hours=3),
        owner="team:data",
        description="The weather.",
        features=(
            Feature("wind", "FLOAT", "Wind in knots."),
            Feature("sky", "VARCHAR", "Clear or not."),
            Feature("is_storm", "BOOLEAN", "Whether there is a storm."),
        ),
    )


@pytest.fixture(scope="session")
def delays() -> FeatureView:
    """Delays of a carrier's flight number at an airport; never too old."""
    return FeatureView(
        name="delays",
        table=DELAYS,
        entity=("carrier", "number"),
        event_time="available_at",
        available_at="available_at",
        ttl=None,
        owner="team:data",
        description="Recent delays.",
        features=(
            Feature("mean", "DOUBLE", "Mean delay in minutes."),
            Feature("flights", "SMALLINT", "How many flights."),
        ),
    )


@pytest.fixture(scope="session")
def spine() -> SpineTable:
    return SpineTable(SPINE, ("flight_id",))


WeatherRow = tuple[str | None, float, float, float | None, str | None, bool | None]


@pytest.fixture
def write_weather(lake: Lake, hour: Callable[[float], datetime]) -> Callable[..., None]:
    """Make the table of weather from (airport, observed, available, wind, sky, is_storm)."""

    def write(*rows: WeatherRow) -> None:
        lake.overwrite(
            WEATHER,
            pa.table(
                {
                    "airport": pa.array([row[0] for row in rows], pa.string()),
                    "observed_at": pa.array([hour(row[1]) for row in rows], INSTANT),
                    "available_at": pa.array([hour(row[2]) for row in rows], INSTANT),
                    "wind": pa.array([row[3] for row in rows], pa.float32()),
                    "sky": pa.array([row[4] for row in rows], pa.string()),
                    "is_storm": pa.array([row[5] for row in rows], pa.bool_()),
                }
            ),
        )

    return write


@pytest.fixture
def write_delays(lake: Lake, hour: Callable[[float], datetime]) -> Callable[..., None]:
    """Make the table of delays from (carrier, number, available, mean, flights)."""

    def write(*rows: tuple[str, int, float, float | None, int | None]) -> None:
        lake.overwrite(
            DELAYS,
            pa.table(
                {
                    "carrier": pa.array([row[0] for row in rows], pa.string()),
                    "number": pa.array([row[1] for row in rows], pa.int16()),
                    "available_at": pa.array([hour(row[2]) for row in rows], INSTANT),
                    "mean": pa.array([row[3] for row in rows], pa.float64()),
                    "flights": pa.array([row[4] for row in rows], pa.int16()),
                }
            ),
        )

    return write


@pytest.fixture
def write_spine(lake: Lake, hour: Callable[[float], datetime]) -> Callable[..., None]:
    """Make the spine from (flight_id, carrier, number, origin, hour of prediction)."""

    def write(*rows: tuple[str, str, int, str | None, float]) -> None:
        lake.overwrite(
            SPINE,
            pa.table(
                {
                    "flight_id": pa.array([row[0] for row in rows], pa.string()),
                    "flight_date": pa.array([hour(row[4]).date() for row in rows], pa.date32()),
                    "carrier": pa.array([row[1] for row in rows], pa.string()),
                    "number": pa.array([row[2] for row in rows], pa.int16()),
                    "origin": pa.array([row[3] for row in rows], pa.string()),
                    "leaves_local": pa.array(
                        [hour(row[4]).replace(tzinfo=None) for row in rows], pa.timestamp("us")
                    ),
                    "prediction_time": pa.array([hour(row[4]) for row in rows], INSTANT),
                }
            ),
        )

    return write
