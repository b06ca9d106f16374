"""A small deployment with a model of every task: trained, registered, deployed, made once.

``MLOPS_TEST_SERVING_WORLD`` names a folder in which it is kept between sessions, which is for
working on these tests.
"""

import fcntl
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlops_assets.features import Feature, FeatureRegistry, FeatureView
from mlops_assets.features.online import SpineTable, fill, open_online_store
from mlops_assets.lake import Lake, TableName
from mlops_assets.registry import Registry, promotion
from mlops_assets.registry.tracking import mlflow_client
from mlops_assets.serving.following import Follower
from mlops_assets.serving.routing import CanaryMonitor
from mlops_assets.settings import Settings, load_settings
from mlops_assets.training import declare_family
from mlops_assets.training.dataset import feature_frame
from mlops_assets.training.estimators import Estimator, load_estimator
from mlops_assets.training.training_set import TrainingSet, build_training_set
from tests.registry.conftest import (
    DAYS,
    DECLARATION,
    PER_DAY,
    judge_version,
    make_lake,
    make_version,
    make_views,
)

KEPT_FOLDER = "MLOPS_TEST_SERVING_WORLD"
JOURNEYS = TableName("features", "journeys")
PLANES = TableName("features", "planes")
FILLED_AS_OF = datetime(2013, 3, 1, tzinfo=UTC)
"""Moment for which the online store holds what was known then."""

_INSTANT = pa.timestamp("us", "UTC")
_TREES = {"algorithm": "catboost", "parameters": {"iterations": 40, "depth": 3}}
_OTHER_TREES = _TREES | {"name": "shallow", "parameters": {"iterations": 40, "depth": 2}}
LATE = DECLARATION | {"candidates": [_TREES, _OTHER_TREES]}
_JOURNEYS: dict[str, Any] = {
    "spine": {"table": str(JOURNEYS), "entity": ["flight_id"], "keep": ["origin", "scheduled"]},
    "features": [{"view": "delays"}, {"view": "planes"}],
    "candidates": [_TREES],
}
OUTCOMES = {
    **DECLARATION,
    **_JOURNEYS,
    "name": "outcomes",
    "description": "How will the flight arrive?",
    "task": "multiclass",
    "label": {"table": str(JOURNEYS), "column": "outcome", "available_at": "known_at"},
}
MINUTES = {
    **DECLARATION,
    **_JOURNEYS,
    "name": "minutes_late",
    "description": "How many minutes late will the flight be?",
    "task": "regression",
    "label": {"table": str(JOURNEYS), "column": "minutes", "available_at": "known_at"},
}


@dataclass(frozen=True)
class World:
    """Three families that are served; read it, never write.

    late_flights is binary, with a challenger, and looks one view up; outcomes has three classes,
    minutes_late is a number, and both look two views up and keep further columns of their spine.

    Attributes
    ----------
    home
        Everything is in it.
    training_sets
        By family.
    """

    home: Path
    training_sets: dict[str, TrainingSet]

    @cached_property
    def settings(self) -> Settings:
        return load_settings(home=self.home, threads=2)

    @cached_property
    def lake(self) -> Lake:
        return Lake.from_settings(self.settings)

    @cached_property
    def registry(self) -> Registry:
        return Registry.from_settings(self.settings, self.lake)

    @property
    def folder(self) -> Path:
        """What workers watch."""
        return self.home / "serving"

    def model(self, name: str) -> Estimator:
        """Load a version as it was deployed, by its name: `late_flights/1`."""
        return load_estimator(self.folder / "models" / name)

    def rows(self, family: str, count: int) -> pa.Table:
        """Return rows of the test part of a family's training set, in the order of their keys."""
        table = self.training_sets[family].version.table
        with self.lake.connect(tables=[table]) as con:
            query = f"SELECT * FROM {table.sql} WHERE split = 'test' ORDER BY flight_id"
            return con.sql(f"{query} LIMIT {count}").to_arrow_table()

    def features(self, family: str, count: int) -> pa.Table:
        """Return such rows with nothing but what a model of the family takes."""
        names = self.model(f"{family}/1").schema.names
        return self.rows(family, count).select(list(names))

    def answers(self, name: str, rows: pa.Table) -> NDArray[np.float64]:
        """Return what a version says of rows when it is asked directly."""
        model = self.model(name)
        return model.predict(feature_frame(rows, model.schema))


def make_feature_views() -> FeatureRegistry:
    [delays] = make_views().views
    kinds = {"seats": "INTEGER", "is_new": "BOOLEAN", "maker": "VARCHAR"}
    planes = FeatureView(
        name="planes",
        table=PLANES,
        entity=("flight_id",),
        event_time="event_time",
        available_at="available_at",
        ttl=timedelta(days=2),
        owner="team:flights",
        description="Planes.",
        features=tuple(Feature(name, kind, f"The {name}.") for name, kind in kinds.items()),
    )
    return FeatureRegistry((delays, planes))


def world_in(folder: Path) -> World:
    """Make the world, or take what another process of this session has made."""
    kept = Path(os.environ.get(KEPT_FOLDER) or folder) / "serving-world"
    kept.mkdir(parents=True, exist_ok=True)
    made = kept / "training-sets.pickle"
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(_make(kept / "home")))
    return World(kept / "home", pickle.loads(made.read_bytes()))  # noqa: S301 - written above


def _make(home: Path) -> dict[str, TrainingSet]:
    settings = load_settings(home=home, threads=2)
    lake = make_lake(home)
    _add_journeys(lake)
    mlflow_client(settings.tracking_uri)
    registry = Registry.from_settings(settings, lake)
    views = make_feature_views()
    families = [declare_family(declared) for declared in (LATE, OUTCOMES, MINUTES)]
    training_sets = {}
    for family in families:
        made = training_sets[family.name] = build_training_set(lake, family, views)
        champion, *others = (
            make_version(registry, family, made, each.name) for each in family.candidates
        )
        judge_version(registry, family, champion)
        for other in others:
            promotion.set_challenger(registry, other)
    assert follower(registry, home / "serving").look()
    spines = [
        SpineTable(TableName.parse(each.spine.table), each.spine.entity) for each in families[:2]
    ]
    store = open_online_store(settings)
    fill(lake, store, [*views.views, *spines], FILLED_AS_OF)
    store.close()
    return training_sets


def _add_journeys(lake: Lake) -> None:
    """Write a spine with more columns, labels of two more tasks, and one more feature view."""
    random = np.random.default_rng(12)
    rows = DAYS * PER_DAY
    start = datetime(2013, 1, 1, 6, tzinfo=UTC)
    at = [start + timedelta(days=i // PER_DAY, minutes=20 * (i % PER_DAY)) for i in range(rows)]
    with lake.connect() as con:
        query = "SELECT recent_delay, wind FROM features.delays ORDER BY flight_id"
        known = con.execute(query).fetchnumpy()
    minutes = 10 * known["recent_delay"] + 5 * known["wind"] + random.normal(size=rows)
    seats = random.integers(50, 300, rows)
    journeys = {
        "flight_id": np.arange(rows),
        "prediction_time": pa.array(at, _INSTANT),
        "scheduled": pa.array([t + timedelta(hours=2) for t in at], _INSTANT),
        "origin": random.choice(["JFK", "LGA"], rows),
        "minutes": minutes,
        "outcome": np.select([minutes < -5, minutes < 8], ["early", "on time"], "late"),
        "known_at": pa.array([t + timedelta(hours=5) for t in at], _INSTANT),
    }
    planes = {
        "flight_id": np.arange(rows),
        "event_time": pa.array(at, _INSTANT),
        "available_at": pa.array(at, _INSTANT),
        "seats": pa.array(seats, pa.int32(), mask=seats > 280),
        "is_new": random.random(rows) < 0.3,
        "maker": random.choice(["AIRBUS", "BOEING"], rows),
    }
    lake.overwrite(JOURNEYS, pa.table(journeys))
    lake.overwrite(PLANES, pa.table(planes))


def follower(
    registry: Registry, folder: Path, report: Callable[..., None] = lambda *_: None
) -> Follower:
    """Return what brings the registry's aliases into a folder."""
    return Follower(registry, registry.lake, folder, CanaryMonitor(folder, report), report)
