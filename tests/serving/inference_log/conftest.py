import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.lake import Lake
from mlops_assets.serving.inference_log import Answered, InferenceLog, LoggedModel
from mlops_assets.settings import DuckDBLimits
from mlops_assets.training.dataset import FeatureSchema

AT = datetime(2013, 10, 1, 12, 30, tzinfo=UTC)
AT_US = int(AT.timestamp() * 1_000_000)


def make_lake(root: Path) -> Lake:
    limits = DuckDBLimits(memory_limit="512MiB", threads=1, scratch=root / "scratch")
    return Lake(str(root / "lake"), limits=limits)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return make_lake(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "inference"


def delay_model() -> LoggedModel:
    """A model of two numbers and a category, in an order that mixes them."""
    schema = FeatureSchema(("wind", "carrier", "distance"), categorical=("carrier",))
    entity = pa.schema(
        [("flight_id", pa.int64()), ("day", pa.date32()), ("scheduled", pa.timestamp("us", "UTC"))]
    )
    return LoggedModel(schema, ("probability",), entity)


@pytest.fixture
def model() -> LoggedModel:
    return delay_model()


Answer = Callable[..., Answered]


def answer_with(**changes: Any) -> Answered:
    """An answer of `delay_model`; ``rows`` says of how many rows."""
    rows = changes.pop("rows", 1)
    given: dict[str, Any] = {
        "family": "flight_delay",
        "version": 3,
        "role": "champion",
        "request_id": "r",
        "answered_at": AT_US,
        "caller": "anonymous",
        "source": "online",
        "seconds": 0.002,
        "as_of": [AT_US] * rows,
        "entity": {"flight_id": list(range(rows)), "scheduled": [AT] * rows},
        "numbers": np.array([[3.5, np.nan]] * rows, np.float32),
        "categories": [["UA"] * rows],
        "answers": np.linspace(0.25, 0.75, rows),
        "feature_versions": {"fv_weather": 7},
        "warnings": (),
    }
    return Answered(**{**given, **changes})


@pytest.fixture
def answer() -> Answer:
    return answer_with


@pytest.fixture
def log(folder: Path, model: LoggedModel) -> Any:
    with InferenceLog(folder, sync_seconds=0.01) as opened:
        opened.declare("flight_delay", 3, model)
        yield opened
