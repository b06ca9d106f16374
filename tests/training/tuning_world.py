"""Parts and an estimator for searches, importable by worker processes and by programs."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from mlops_assets.training import CandidateDeclaration, ModelFamily, declare_family
from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators import EstimatorError, FitOptions, LearningCurve
from mlops_assets.training.tasks import Binary

SCHEMA = FeatureSchema(("x", "z", "carrier"), ("carrier",))
PATH = "tuning_world:Slope"


def part(name: str, days: int, per_day: int = 40, seed: int = 3) -> Part:
    """Rows whose label depends on x and carrier, and on chance."""
    random = np.random.default_rng([seed, len(name)])
    rows = days * per_day
    x, z = random.normal(size=(2, rows)).astype(np.float32)
    carrier = random.choice(["AA", "B6"], size=rows)
    chance = 1 / (1 + np.exp(-(1.2 * x + 0.8 * (carrier == "B6") - 0.5)))
    return Part(
        name=name,
        schema=SCHEMA,
        task=Binary(),
        features=pd.DataFrame({"x": x, "z": z, "carrier": pd.Categorical(carrier)}),
        label=(random.random(rows) < chance).astype(np.float64),
        days=np.repeat(np.datetime64("2013-01-01") + np.arange(days), per_day),
        context=pd.DataFrame({"flight_id": np.arange(rows)}),
    )


def family(algorithm: str, space: Mapping[str, Any], **search: Any) -> ModelFamily:
    """Declare a family with one candidate, `tried`, that is searched."""
    parameters = search.pop("parameters", {})
    return declare_family(
        {
            "name": "late",
            "description": "Late?",
            "owners": ["team:flights"],
            "assumptions": ["None."],
            "limitations": ["Made up."],
            "spine": {"table": "features/spine", "entity": ["flight_id"]},
            "label": {"table": "marts/late", "column": "late", "available_at": "known_at"},
            "features": [{"view": "delays"}],
            "split": {
                "train_end": "2013-03-01",
                "validation_end": "2013-03-20",
                "test_end": "2013-05-01",
            },
            "candidates": [
                {
                    "algorithm": algorithm,
                    "name": "tried",
                    "parameters": parameters,
                    "search": {"space": dict(space), **search},
                }
            ],
        },
        "test.yaml",
    )


def candidate(declared: ModelFamily) -> CandidateDeclaration:
    return declared.candidates[0]


@dataclass(frozen=True)
class Slope:
    """P(yes) is a logistic curve over x whose slope is a parameter; it misbehaves when asked to.

    Attributes
    ----------
    native
        The slope of each iteration.
    """

    flavor: ClassVar[str] = ""

    schema: FeatureSchema
    task: Any
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    native: float

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        chosen = {"slope": 0.1, "offset": 0.0, "iterations": 40, "misbehave": "no", **parameters}
        if log := os.environ.get("SLOPE_LOG"):
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(f"{chosen['slope']!r} {chosen['offset']!r}\n")
        misbehave(chosen["misbehave"], options)
        losses = []
        for iteration in range(chosen["iterations"]):
            time.sleep(float(chosen.get("pause", 0.0)))
            far = 2.0 ** (-iteration / 5)
            slope = chosen["slope"] * (1 - far)
            losses.append(log_loss(validation, slope, chosen["offset"]))
            told = options.progress and options.progress(
                iteration + 1, chosen["iterations"], {"validation": losses[-1]}
            )
            if told is False:
                break
        best = int(np.argmin(losses))
        curve = LearningCurve(tuple(losses), tuple(losses), best)
        return cls(
            train.schema, train.task, chosen, curve, chosen["slope"] * (1 - 2.0 ** (-best / 5))
        )

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        return answers(features, self.native, self.parameters["offset"])

    def refit(self, *_: object) -> Self:
        raise EstimatorError("a search does not learn again")

    def explain(self, _: pd.DataFrame) -> Any:
        raise EstimatorError("a search does not explain")

    def save(self, _: Path) -> None:
        raise EstimatorError("a search saves no model")

    @classmethod
    def load(cls, _: Path) -> Self:
        raise EstimatorError("a search loads no model")


HANGING = 999
"""How many iterations a fit says it has before it hangs."""


def misbehave(how: str, options: FitOptions) -> None:
    if how == "raise":
        raise EstimatorError("this one cannot be fitted")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        assert options.progress is not None
        options.progress(1, HANGING, {"validation": 1.0})
        time.sleep(600)
    if how == "eat":
        np.ones(2**50)


def answers(features: pd.DataFrame, slope: float, offset: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(slope * features["x"].to_numpy(dtype=np.float64) + offset)))


def log_loss(rows: Part, slope: float, offset: float) -> float:
    p = np.clip(answers(rows.features, slope, offset), 1e-12, 1 - 1e-12)
    return float(-np.mean(rows.label * np.log(p) + (1 - rows.label) * np.log1p(-p)))
