from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import DuckDBLimits


@pytest.fixture
def limits(tmp_path: Path) -> DuckDBLimits:
    return DuckDBLimits(memory_limit="512MiB", threads=2, scratch=tmp_path / "scratch")


@pytest.fixture
def lake(tmp_path: Path, limits: DuckDBLimits) -> Lake:
    return Lake(str(tmp_path / "lake"), limits=limits)


@pytest.fixture
def flights() -> TableName:
    return TableName.parse("raw/flights")


Rows = Callable[..., pa.Table]


@pytest.fixture
def rows() -> Rows:
    """Rows of one day: ``rows(day, count, first=0)``."""

    def make(day: int, count: int = 4, first: int = 0) -> pa.Table:
        midnight = datetime(2013, 1, day, tzinfo=UTC)
        return pa.table(
            {
                "id": pa.array(range(first, first + count), pa.int64()),
                "day": pa.array([date(2013, 1, day)] * count, pa.date32()),
                "at": pa.array(
                    [midnight + timedelta(hours=i) for i in range(count)],
                    pa.timestamp("us", "UTC"),
                ),
                "carrier": pa.array([f"c{i % 3}" for i in range(count)], pa.string()),
            }
        )

    return make


@pytest.fixture
def count_by_day(lake: Lake, flights: TableName) -> Callable[[], dict[int, int]]:
    """Rows of each day of January that a DuckDB session sees."""

    def counts() -> dict[int, int]:
        with lake.connect() as con:
            return dict(
                con.execute(f"SELECT day(day), count(*) FROM {flights.sql} GROUP BY 1").fetchall()
            )

    return counts
