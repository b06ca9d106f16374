"""A family with a training set in a real lake, and real candidates of it, good and bad."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.features import Feature, FeatureRegistry, FeatureView
from mlops_assets.lake import Lake, TableName
from mlops_assets.registry import ModelVersion, Outcome, Provenance, Registry, promotion
from mlops_assets.settings import DuckDBLimits
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.candidate import Candidate, train_candidate
from mlops_assets.training.dataset import Part, load_parts
from mlops_assets.training.training_set import TrainingSet, build_training_set

DAYS, PER_DAY = 90, 30
PROVENANCE = Provenance("abc123", "0" * 64, "1" * 64)
DECLARATION: dict[str, Any] = {
    "name": "late_flights",
    "description": "Will the flight be late?",
    "owners": ["team:flights"],
    "assumptions": ["Recent delays are known an hour ahead."],
    "limitations": ["Made-up flights."],
    "spine": {"table": "features/flights", "entity": ["flight_id"]},
    "label": {"table": "features/flights", "column": "late", "available_at": "known_at"},
    "features": [{"view": "delays"}],
    "split": {
        "train_end": "2013-02-01",
        "validation_end": "2013-02-15",
        "test_end": "2013-04-01",
    },
    "candidates": [
        {"algorithm": "linear"},
        {"algorithm": "catboost", "parameters": {"iterations": 40, "depth": 3}},
        # Stops before it has learnt much, so it is worse by a wide margin.
        {"algorithm": "catboost", "name": "weak", "parameters": {"iterations": 1, "depth": 1}},
    ],
    "gate": {"draws": 400},
}


@pytest.fixture(scope="session")
def family() -> ModelFamily:
    return declare_family(DECLARATION)


@pytest.fixture(scope="session")
def declare() -> Callable[..., ModelFamily]:
    """Declare the family, with some keys changed."""
    return lambda **changes: declare_family({**DECLARATION, **changes})


def make_lake(home: Path) -> Lake:
    """Make a lake with ninety days of made-up flights."""
    limits = DuckDBLimits(memory_limit="1GiB", threads=2, scratch=home / "scratch")
    lake = Lake(str(home / "lake"), limits=limits)
    random = np.random.default_rng(11)
    rows = DAYS * PER_DAY
    start = datetime(2013, 1, 1, 6, tzinfo=UTC)
    at = [start + timedelta(days=i // PER_DAY, minutes=20 * (i % PER_DAY)) for i in range(rows)]
    recent, wind = random.normal(size=(2, rows))
    carrier = random.choice(["AA", "B6"], size=rows)
    chance = 1 / (1 + np.exp(-(1.5 * recent + wind + (carrier == "B6") - 1)))
    instants = pa.array(at, pa.timestamp("us", "UTC"))
    flights = {
        "flight_id": np.arange(rows),
        "prediction_time": instants,
        "late": random.random(rows) < chance,
        "known_at": pa.array([t + timedelta(hours=5) for t in at], pa.timestamp("us", "UTC")),
    }
    delays = {
        "flight_id": np.arange(rows),
        "event_time": instants,
        "available_at": instants,
        "recent_delay": recent,
        "wind": wind,
        "carrier": carrier,
    }
    lake.overwrite(TableName("features", "flights"), pa.table(flights))
    lake.overwrite(TableName("features", "delays"), pa.table(delays))
    return lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return make_lake(tmp_path)


def make_views() -> FeatureRegistry:
    """Declare the one feature view there is."""
    kinds = {"recent_delay": "DOUBLE", "wind": "DOUBLE", "carrier": "VARCHAR"}
    view = FeatureView(
        name="delays",
        table=TableName("features", "delays"),
        entity=("flight_id",),
        event_time="event_time",
        available_at="available_at",
        ttl=None,
        owner="team:flights",
        description="Delays.",
        features=tuple(Feature(name, kind, f"The {name}.") for name, kind in kinds.items()),
    )
    return FeatureRegistry((view,))


@pytest.fixture(scope="session")
def views() -> FeatureRegistry:
    return make_views()


@pytest.fixture
def training_set(lake: Lake, family: ModelFamily, views: FeatureRegistry) -> TrainingSet:
    return build_training_set(lake, family, views)


@pytest.fixture
def parts(lake: Lake, family: ModelFamily, training_set: TrainingSet) -> dict[str, Part]:
    return load_parts(lake, training_set.version, family)


@pytest.fixture
def train(
    family: ModelFamily, parts: dict[str, Part], training_set: TrainingSet
) -> Callable[[str], Candidate]:
    """Train a candidate of the family by name."""
    declared = {candidate.name: candidate for candidate in family.candidates}
    return lambda name: train_candidate(
        family, declared[name], parts, training_set.version, seed=5, threads=1
    )


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an MLflow database once; its migrations take seconds."""
    from mlops_assets.registry.tracking import mlflow_client

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow_client(f"sqlite:///{path}")
    return path


def make_registry(home: Path, lake: Lake, empty_store: Path) -> Registry:
    """Make a registry where the settings of a home expect it."""
    database = home / "mlflow" / "mlflow.db"
    database.parent.mkdir()
    shutil.copy(empty_store, database)
    artifacts = (home / "mlflow" / "artifacts").as_uri()
    return Registry(f"sqlite:///{database}", artifacts, lake, home / "locks")


def make_version(
    registry: Registry, family: ModelFamily, training_set: TrainingSet, name: str
) -> ModelVersion:
    """Train a candidate and register it."""
    declared = {candidate.name: candidate for candidate in family.candidates}
    parts = load_parts(registry.lake, training_set.version, family)
    candidate = train_candidate(
        family, declared[name], parts, training_set.version, seed=5, threads=1
    )
    logged = registry.log_candidate(
        candidate, family, parts["test"], training_set.inputs, PROVENANCE
    )
    return registry.register(logged, family)


def judge_version(registry: Registry, family: ModelFamily, version: ModelVersion) -> Outcome:
    """Let a version go through the gate."""
    promotion.set_challenger(registry, version)
    decision = promotion.judge(registry, family, version, seed=5)
    return promotion.promote(registry, decision, actor="test", reason="a test")


@pytest.fixture
def registry(tmp_path: Path, lake: Lake, empty_store: Path) -> Registry:
    return make_registry(tmp_path, lake, empty_store)


@pytest.fixture
def provenance() -> Provenance:
    return PROVENANCE


@pytest.fixture
def two_versions(
    registry: Registry, family: ModelFamily, training_set: TrainingSet
) -> tuple[ModelVersion, ModelVersion]:
    """A champion, which is weak, and a better model that was not judged yet."""
    weak = make_version(registry, family, training_set, "weak")
    judge_version(registry, family, weak)
    return weak, make_version(registry, family, training_set, "catboost")
