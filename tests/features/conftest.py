"""Sessions and views that the tests of features share."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from mlops_assets.features import Feature, FeatureView
from mlops_assets.lake import TableName


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A session with the schema that feature tables live in."""
    with duckdb.connect(config={"threads": 2}) as session:
        session.execute("SET TimeZone = 'UTC'")
        session.execute("CREATE SCHEMA features")
        yield session


@pytest.fixture(scope="session")
def hour() -> Callable[[float], datetime]:
    """So many hours after the beginning of 2013."""
    return lambda number: datetime(2013, 1, 1, tzinfo=UTC) + timedelta(hours=number)


@pytest.fixture(scope="session")
def feature_view() -> Callable[..., FeatureView]:
    """Make a view ``features/<name>`` of DOUBLE features."""

    def make(
        name: str,
        *features: str,
        entity: tuple[str, ...] = ("airport",),
        ttl: timedelta | None = None,
    ) -> FeatureView:
        return FeatureView(
            name=name,
            table=TableName("features", name),
            entity=entity,
            event_time="event_time",
            available_at="available_at",
            ttl=ttl,
            owner="team-data",
            description=f"The view {name}.",
            features=tuple(Feature(feature, "DOUBLE", f"The {feature}.") for feature in features),
            source="models/features.yml",
        )

    return make
