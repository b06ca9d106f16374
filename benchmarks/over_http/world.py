"""What is served: one CatBoost model, in every form in which a server wants it, and its requests.

The model is fitted here, on made-up rows of seventeen numbers and three categories. It becomes a
model folder of ours in a home of its own, deployed as version 1 with an equal version 2 beside it;
a bare CatBoost file; and an MLflow model.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_assets.registry.tracking import mlflow_client
from mlops_assets.serving.deployment import (
    DeployedFamily,
    DeployedVersion,
    Deployment,
    write_deployment,
)
from mlops_assets.serving.security.tokens import Scope, TokenStore
from mlops_assets.training.dataset import FeatureSchema
from mlops_assets.training.estimators import LearningCurve
from mlops_assets.training.example_input import EXAMPLE_ROWS, write_example
from mlops_assets.training.input_contract import InputContract, InputField, Kind
from mlops_assets.training.tasks import Binary

if TYPE_CHECKING:
    import pandas as pd

FAMILY = "late_flights"
ROWS_TO_LEARN_FROM = 10_000
DEPTH = 6
DECIMALS = 4
_CATEGORIES = {"carrier": 16, "origin": 3, "dest": 100}
_NUMBERS = tuple(f"number_{place:02d}" for place in range(17))
_SCHEMA = FeatureSchema((*_NUMBERS, *_CATEGORIES), tuple(_CATEGORIES))
_ALIKE = 64  # different requests of one row
_ALIKE_BATCHES = 4
_DECLARATION: dict[str, Any] = {
    "name": FAMILY,
    "description": "Will the flight be late?",
    "owners": ["team:benchmarks"],
    "assumptions": ["The numbers are known in time."],
    "limitations": ["Made-up flights."],
    "spine": {"table": "features/flights", "entity": ["flight_id"]},
    "label": {"table": "features/flights", "column": "late", "available_at": "known_at"},
    "features": [{"view": "numbers"}],
    "split": {
        "train_end": "2013-02-01",
        "validation_end": "2013-02-15",
        "test_end": "2013-04-01",
    },
    "candidates": [{"algorithm": "catboost"}],
}


@dataclass(frozen=True)
class World:
    """Everything that is measured, on disk and in memory.

    Attributes
    ----------
    folder
        Of all of it.
    frame
        Rows that are asked about, as a frame with categories.
    answers
        What the model says of each.
    batch
        Rows of a large request.
    secret
        Of a token for our server.
    """

    folder: Path
    frame: "pd.DataFrame"
    answers: Sequence[float]
    batch: int
    secret: str

    @property
    def home(self) -> Path:
        """A home of ours, with the model deployed."""
        return self.folder / "home"

    @property
    def bare(self) -> Path:
        """The model as CatBoost wrote it."""
        return self.folder / "bare"

    @property
    def mlflow(self) -> Path:
        """The model as MLflow wrote it."""
        return self.folder / "mlflow"

    @cached_property
    def ones(self) -> "list[pd.DataFrame]":
        """Frames of one row."""
        return [self.frame.iloc[row : row + 1] for row in range(_ALIKE)]

    @cached_property
    def batches(self) -> "list[pd.DataFrame]":
        """Frames of `batch` rows."""
        firsts = range(0, _ALIKE_BATCHES * self.batch, self.batch)
        return [self.frame.iloc[first : first + self.batch] for first in firsts]

    def deploy(self, champion: int, challenger: int | None = None) -> None:
        """Say which version serves: 1 or 2."""
        deployed = DeployedFamily(
            _DECLARATION,
            pa.schema([pa.field("flight_id", pa.int64())]).serialize().to_pybytes(),
            _deployed(champion),
            None if challenger is None else _deployed(challenger),
        )
        write_deployment(self.home / "serving", Deployment({FAMILY: deployed}))


def make_world(folder: Path, *, trees: int, batch: int) -> World:
    """Fit the model and write it down in every form.

    Parameters
    ----------
    folder
        Empty; everything goes there.
    trees
        Of the model.
    batch
        Rows of a large request.
    """
    frame, label = _rows(ROWS_TO_LEARN_FROM + _ALIKE_BATCHES * batch)
    learnt, asked = frame[:ROWS_TO_LEARN_FROM], frame[ROWS_TO_LEARN_FROM:]
    native = _fitted(learnt, label[:ROWS_TO_LEARN_FROM], trees)
    secret = _write_home(folder / "home", native, learnt)
    _write_bare(folder / "bare", native)
    _write_mlflow(folder / "mlflow", native, learnt)
    answers = native.predict_proba(asked)[:, 1].tolist()
    world = World(folder, asked.reset_index(drop=True), answers, batch, secret)
    world.deploy(1)
    return world


def _rows(count: int) -> tuple["pd.DataFrame", Any]:
    """Make rows, whose label depends on a few of their features."""
    import pandas as pd

    random = np.random.default_rng(7)
    numbers = random.normal(size=(count, len(_NUMBERS))).round(DECIMALS).astype(np.float32)
    columns: dict[str, Any] = {name: numbers[:, place] for place, name in enumerate(_NUMBERS)}
    for name, values in _CATEGORIES.items():
        known = [f"{name[0].upper()}{value:03d}" for value in range(values)]
        columns[name] = pd.Categorical.from_codes(random.integers(values, size=count), known)
    score = numbers[:, :5].sum(axis=1) + (columns["carrier"].codes % 3) + random.normal(size=count)
    return pd.DataFrame(columns), score > 1


def _fitted(frame: "pd.DataFrame", label: Any, trees: int) -> Any:
    from catboost import CatBoostClassifier, Pool

    model = CatBoostClassifier(
        iterations=trees,
        depth=DEPTH,
        random_seed=1,
        allow_writing_files=False,
        logging_level="Silent",
    )
    model.fit(Pool(frame, label=label, cat_features=list(_CATEGORIES)))
    return model


def _write_home(home: Path, native: Any, learnt: "pd.DataFrame") -> str:
    """Make a home of ours with two equal versions, and return the secret of a token."""
    from mlops_assets.training.estimators.catboost import CatBoost

    estimator = CatBoost(_SCHEMA, Binary(), {}, LearningCurve(), native)
    first = home / "serving" / "models" / FAMILY / "1"
    first.mkdir(parents=True)
    estimator.save(first)
    _contract(learnt).write(first)
    write_example(first, estimator, learnt.tail(EXAMPLE_ROWS))
    shutil.copytree(first, first.with_name("2"))
    # The follower finds a registry without models, and leaves what is deployed as it is.
    mlflow_client(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    issued = TokenStore(home / "serving" / "tokens.json").create(
        "benchmark", [Scope.predict], timedelta(days=1)
    )
    return issued.secret


def _contract(learnt: "pd.DataFrame") -> InputContract:
    """Return what `InputContract.learnt_from` would read from a training set of these rows."""
    fields = []
    for name in _SCHEMA.names:
        values = learnt[name]
        is_category = name in _CATEGORIES
        fields.append(
            InputField(
                name=name,
                kind=Kind.category if is_category else Kind.number,
                nullable=False,
                low=None if is_category else float(values.min()) - 1,
                high=None if is_category else float(values.max()) + 1,
                categories=tuple(values.value_counts().index) if is_category else (),
                description=f"The {name}.",
                example=values.iloc[0] if is_category else float(values.iloc[0]),
            )
        )
    return InputContract(tuple(fields))


def _write_bare(folder: Path, native: Any) -> None:
    folder.mkdir()
    native.save_model(str(folder / "model.cb"))
    described = {"names": _SCHEMA.names, "categorical": _SCHEMA.categorical}
    (folder / "features.json").write_text(json.dumps(described), encoding="utf-8")


def _write_mlflow(folder: Path, native: Any, learnt: "pd.DataFrame") -> None:
    """Write MLflow's model with a signature, by which its server validates."""
    import mlflow.catboost
    from mlflow.models import infer_signature

    plain = learnt.head(100).astype(dict.fromkeys(_NUMBERS, np.float64))
    plain = plain.astype(dict.fromkeys(_CATEGORIES, object))
    signature = infer_signature(plain, native.predict(plain))
    mlflow.catboost.save_model(
        native, folder, signature=signature, pip_requirements=["mlflow", "catboost"]
    )


def _deployed(version: int) -> DeployedVersion:
    return DeployedVersion(
        version=version,
        folder=f"models/{FAMILY}/{version}",
        threshold=0.5,
        candidate="catboost",
        algorithm="catboost",
        registered_at=datetime(2013, 4, 1, tzinfo=UTC).isoformat(),
        learnt_until="2013-02-15",
        training_set=f"training/{FAMILY}@1",
    )
