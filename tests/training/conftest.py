"""A small world with known truth: flights of two carriers over 120 days in a real lake."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.features import Feature, FeatureRegistry, FeatureView
from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import DuckDBLimits
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.dataset import Part, load_parts
from mlops_assets.training.training_set import TrainingSet, build_training_set

FIRST = datetime(2013, 1, 1, tzinfo=UTC)
SPINE = TableName("features", "spine")
OUTCOMES = TableName("marts", "outcomes")
VIEW = TableName("features", "delays")
DAYS, PER_DAY = 120, 40


def world(seed: int = 7) -> dict[TableName, pa.Table]:
    """Make the tables: the label depends on the view's numbers and carrier, and on chance."""
    random = np.random.default_rng(seed)
    rows = DAYS * PER_DAY
    day = np.repeat(np.arange(DAYS), PER_DAY)
    minute = np.tile(np.linspace(300, 1300, PER_DAY).astype(int), DAYS)
    recent, wind = (
        random.normal(size=rows) + random.normal(size=DAYS)[day],
        random.normal(size=rows),
    )
    carrier = random.choice(["AA", "B6", "UA"], p=[0.5, 0.3, 0.2], size=rows)
    chance = 1 / (1 + np.exp(-(-1.3 + 1.1 * recent + 0.6 * wind + 0.8 * (carrier == "B6"))))
    late = random.random(rows) < chance
    # From generators of their own, so that the draws of everything else stay the same.
    noise = np.random.default_rng(seed + 1).exponential(size=rows) * (8 + 6 * np.exp(0.4 * recent))
    minutes = np.round(10 * recent + 4 * wind + 5 * (carrier == "B6") - 12 + noise, 1)
    drift = minutes + np.random.default_rng(seed + 2).normal(scale=5, size=rows)
    outcome = np.where(drift < -8, "early", np.where(drift < 12, "on time", "late"))
    at = [FIRST + timedelta(days=int(d), minutes=int(m)) for d, m in zip(day, minute, strict=True)]
    flight = pa.array(np.arange(rows))
    instants = pa.array(at, pa.timestamp("us", "UTC"))
    known = pa.array([t + timedelta(hours=10) for t in at], pa.timestamp("us", "UTC"))
    seen = pa.array([t - timedelta(hours=1) for t in at], pa.timestamp("us", "UTC"))
    gaps = random.random(rows) < 0.05
    return {
        SPINE: pa.table(
            {
                "flight_id": flight,
                "prediction_time": instants,
                "flight_date": pa.array([t.date() for t in at]),
                "origin": pa.array(random.choice(["EWR", "JFK"], size=rows)),
            }
        ),
        OUTCOMES: pa.table(
            {
                "flight_id": flight,
                "late": pa.array(late, mask=random.random(rows) < 0.02),
                "minutes": pa.array(minutes),
                "outcome": pa.array(outcome),
                "known_at": known,
                "cancelled": pa.array(random.random(rows) < 0.01),
            }
        ),
        VIEW: pa.table(
            {
                "flight_id": flight,
                "event_time": seen,
                "available_at": seen,
                "recent_delay": pa.array(recent, mask=gaps),
                "wind": pa.array(wind),
                "carrier": pa.array(carrier, mask=random.random(rows) < 0.01),
                "constant": pa.array(np.ones(rows)),
            }
        ),
    }


DECLARATION: dict[str, Any] = {
    "name": "late_flights",
    "description": "Will the flight be late?",
    "owners": ["team:flights"],
    "assumptions": ["Recent delays are known an hour ahead."],
    "limitations": ["Made-up flights."],
    "spine": {"table": "features/spine", "entity": ["flight_id"], "keep": ["origin"]},
    "label": {
        "table": "marts/outcomes",
        "column": "late",
        "available_at": "known_at",
        "filter": "not cancelled",
    },
    "features": [{"view": "delays"}],
    "split": {
        "train_end": "2013-03-01",
        "validation_end": "2013-03-20",
        "test_end": "2013-05-01",
    },
    "candidates": [
        {"algorithm": "linear"},
        {"algorithm": "catboost", "parameters": {"iterations": 60, "depth": 4}},
    ],
    "slices": ["carrier", "origin", "month"],
    "gate": {"draws": 400, "baseline": {"by": ["carrier"]}},
}


@pytest.fixture(scope="session")
def declare() -> Callable[..., ModelFamily]:
    """Declare the family, with some keys changed."""

    def make(**changes: Any) -> ModelFamily:
        return declare_family({**DECLARATION, **changes}, "test.yaml")

    return make


TASKS = ("binary", "multiclass", "regression")
_LABELS = {"binary": "late", "multiclass": "outcome", "regression": "minutes"}


@pytest.fixture(scope="session")
def families(declare: Callable[..., ModelFamily]) -> dict[str, ModelFamily]:
    """The same world as a family of each task."""
    found = {}
    for task in TASKS:
        label = {**DECLARATION["label"], "column": _LABELS[task]}
        found[task] = declare(name=f"{task}_flights", task=task, label=label)
    return found


@pytest.fixture(scope="session")
def training_sets(
    lake: Lake, families: dict[str, ModelFamily], views: FeatureRegistry
) -> dict[str, TrainingSet]:
    return {task: build_training_set(lake, family, views) for task, family in families.items()}


@pytest.fixture(scope="session")
def parts_of(
    lake: Lake, families: dict[str, ModelFamily], training_sets: dict[str, TrainingSet]
) -> dict[str, dict[str, Part]]:
    """The parts of each task's training set."""
    return {
        task: load_parts(lake, training_sets[task].version, family)
        for task, family in families.items()
    }


@pytest.fixture(scope="session")
def family(declare: Callable[..., ModelFamily]) -> ModelFamily:
    return declare()


@pytest.fixture(scope="session")
def views() -> FeatureRegistry:
    features = tuple(
        Feature(name, kind, f"The {name}.")
        for name, kind in (
            ("recent_delay", "DOUBLE"),
            ("wind", "DOUBLE"),
            ("carrier", "VARCHAR"),
            ("constant", "DOUBLE"),
        )
    )
    return FeatureRegistry(
        (
            FeatureView(
                name="delays",
                table=VIEW,
                entity=("flight_id",),
                event_time="event_time",
                available_at="available_at",
                ttl=None,
                owner="team:flights",
                description="Delays.",
                features=features,
            ),
        )
    )


@pytest.fixture(scope="session")
def make_lake(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Lake]:
    """Make a lake of its own, with some tables of the world replaced."""

    def make(**replaced: pa.Table) -> Lake:
        root: Path = tmp_path_factory.mktemp("lake")
        limits = DuckDBLimits(memory_limit="1GiB", threads=2, scratch=root / "scratch")
        lake = Lake(str(root / "lake"), limits=limits)
        for name, table in world().items():
            lake.overwrite(name, replaced.get(name.name, table))
        return lake

    return make


@pytest.fixture(scope="session")
def lake(make_lake: Callable[..., Lake]) -> Lake:
    return make_lake()


@pytest.fixture(scope="session")
def training_set(lake: Lake, family: ModelFamily, views: FeatureRegistry) -> TrainingSet:
    return build_training_set(lake, family, views)


@pytest.fixture(scope="session")
def parts(lake: Lake, family: ModelFamily, training_set: TrainingSet) -> dict[str, Part]:
    return load_parts(lake, training_set.version, family)


@pytest.fixture(scope="session")
def tables() -> dict[TableName, pa.Table]:
    """The world's tables, to make faulty ones from."""
    return world()
