"""A small year of predictions with known truth, in a real lake."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.monitoring.answered import PredictionLog
from mlops_assets.settings import DuckDBLimits
from mlops_assets.training import ModelFamily, declare_family

FIRST = datetime(2013, 3, 1, tzinfo=UTC)
DAYS, PER_DAY = 30, 200
LOG = TableName("inference", "late")
OUTCOMES = TableName("marts", "outcomes")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(
        str(tmp_path / "lake"),
        limits=DuckDBLimits(memory_limit="500MB", threads=2, scratch=tmp_path / "scratch"),
    )


@pytest.fixture
def family() -> ModelFamily:
    return declare_family(
        {
            "name": "late",
            "description": "Is it late?",
            "owners": ["team:test"],
            "assumptions": ["none"],
            "limitations": ["none"],
            "spine": {"table": "features/spine", "entity": ["flight_id"]},
            "label": {"table": str(OUTCOMES), "column": "late", "available_at": "known_at"},
            "features": [{"view": "delays"}],
            "split": {
                "train_end": "2013-02-01",
                "validation_end": "2013-03-01",
                "test_end": "2013-04-01",
            },
            "candidates": [{"algorithm": "linear"}],
            "slices": ["origin"],
        }
    )


@pytest.fixture
def log() -> PredictionLog:
    return PredictionLog(
        "inference.late",
        {"flight_id": "flight_id"},
        features=("wind",),
        slices={"origin": "origin"},
    )


def probabilities(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).beta(1.2, 4, size=rows)


def make_log(rows: int = DAYS * PER_DAY) -> pa.Table:
    """Predictions for every instant, calibrated by construction."""
    at = [
        FIRST + timedelta(days=i // PER_DAY, minutes=int(1440 * (i % PER_DAY) / PER_DAY))
        for i in range(rows)
    ]
    return pa.table(
        {
            "prediction_id": [f"r{i}-0" for i in range(rows)],
            "request_id": [f"r{i}" for i in range(rows)],
            "version": pa.array([3] * rows, pa.int64()),
            "role": ["champion"] * rows,
            "as_of": pa.array(at, pa.timestamp("us", "UTC")),
            "answered_at": pa.array(at, pa.timestamp("us", "UTC")),
            "seconds": pa.array(np.linspace(0.001, 0.1, rows)),
            "warnings": pa.array([[] for _ in range(rows)], pa.list_(pa.string())),
            "flight_id": pa.array(range(rows), pa.int64()),
            "origin": ["EWR" if i % 2 else "JFK" for i in range(rows)],
            "wind": pa.array(np.arange(rows, dtype=float)),
            "answer": pa.array(probabilities(rows)),
        }
    )


def make_outcomes(rows: int = DAYS * PER_DAY, seed: int = 2) -> pa.Table:
    """Labels drawn by the probabilities, known ten hours after the instant."""
    late = np.random.default_rng(seed).random(rows) < probabilities(rows)
    at = make_log(rows)["as_of"].to_pylist()
    return pa.table(
        {
            "flight_id": pa.array(range(rows), pa.int64()),
            "late": pa.array(late),
            "known_at": pa.array([t + timedelta(hours=10) for t in at], pa.timestamp("us", "UTC")),
        }
    )
