"""A family with two good versions and a bad one, that answer the days of March in a real lake."""

import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake
from mlops_assets.registry import ModelReference, ModelVersion, Registry, promotion
from mlops_assets.serving.batch_scoring import score_days
from mlops_assets.settings import DuckDBLimits, load_settings
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.training_set import build_training_set
from tests.registry.conftest import DECLARATION, make_lake, make_version, make_views

DECLARED = {
    **DECLARATION,
    "candidates": [
        {"algorithm": "catboost", "parameters": {"iterations": 40, "depth": 3}},
        {"algorithm": "catboost", "name": "shallow", "parameters": {"iterations": 40, "depth": 2}},
        # Stops before it has learnt much, so it is worse by a wide margin.
        {"algorithm": "catboost", "name": "weak", "parameters": {"iterations": 1, "depth": 1}},
    ],
    "rollback": {"metric_drop": 0.02, "min_rows": 100, "cooldown": "P2D"},
}
GOOD, OTHER, WEAK = 1, 2, 3
MARCH = date(2013, 3, 1)


@dataclass
class House:
    """A deployment in which one family is in production.

    Versions 1 and 2 are good, version 3 is bad; none of them serves yet.
    """

    home: Path
    lake: Lake
    registry: Registry
    family: ModelFamily
    views: FeatureRegistry

    def serve(self, version: int, reason: str = "a test") -> None:
        """Make a version champion on a person's word."""
        reference = ModelReference(self.family.name, version)
        promotion.promote_by_hand(self.registry, reference, actor="ada", reason=reason)

    def champion(self) -> int:
        return self.registry.find(f"{self.family.name}@champion").version

    def version(self, number: int) -> ModelVersion:
        return self.registry.find(f"{self.family.name}/{number}")

    def answer(self, first: date, days: int) -> None:
        """Let the champion answer some days."""
        champion = self.version(self.champion())
        model = self.registry.load(champion)
        end = first + timedelta(days=days)
        score_days(self.lake, self.family, self.views, model, champion, (first, end))


def noon_after(day: date) -> datetime:
    """Return an instant at which the labels of a day are known."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(days=1)


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("production") / "home"
    lake = make_lake(home)
    family = declare_family(DECLARED)
    registry = Registry.from_settings(load_settings(home=home, threads=1), lake)
    made = build_training_set(lake, family, make_views())
    for candidate in family.candidates:
        make_version(registry, family, made, candidate.name)
    return home


@pytest.fixture
def house(made_home: Path, tmp_path: Path) -> House:
    """Give a copy of the deployment, for one test to change.

    The artifacts of the models stay where they were made; nobody writes there.
    """
    home = tmp_path / "home"
    home.mkdir()
    for name in ("lake", "mlflow"):
        shutil.copytree(made_home / name, home / name)
    limits = DuckDBLimits(memory_limit="1GiB", threads=2, scratch=home / "scratch")
    lake = Lake(str(home / "lake"), limits=limits)
    registry = Registry.from_settings(load_settings(home=home, threads=1), lake)
    return House(home, lake, registry, declare_family(DECLARED), make_views())
