"""Every flavor is written without pickled code, with signature and example, and reads back."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model

from mlops_assets.registry.errors import RegistryError
from mlops_assets.registry.tracking import save_native
from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators import (
    Estimator,
    FitOptions,
    estimator_class,
    load_estimator,
)
from mlops_assets.training.estimators.ensemble import Ensemble
from mlops_assets.training.tasks import Binary, Multiclass, Regression, Task

OPTIONS = FitOptions(seed=1, threads=1)
NET = {"k": 2, "d_block": 8, "epochs": 1}
TASKS: dict[str, Task] = {
    "binary": Binary(),
    "multiclass": Multiclass(("early", "late", "on time")),
    "regression": Regression((0.1, 0.5, 0.9)),
}
OWN_FILES = [("net", task) for task in TASKS] + [("ensemble", "binary")]
LIBRARIES = [
    ("linear", "binary"),
    ("linear", "regression"),
    ("catboost", "multiclass"),
    ("sklearn.tree:DecisionTreeClassifier", "multiclass"),
]


def part(task: str) -> Part:
    random = np.random.default_rng(0)
    number = random.normal(size=120).astype(np.float32)
    number[:5] = np.nan
    frame = pd.DataFrame({"number": number, "text": pd.Categorical(random.choice(["a", "b"], 120))})
    label = random.integers(0, 3, 120) if task == "multiclass" else np.nan_to_num(number) > 0
    return Part(
        name="train",
        schema=FeatureSchema(("number", "text"), ("text",)),
        task=TASKS[task],
        features=frame,
        label=label.astype(np.float64),
        days=(np.arange(120) // 10).astype("datetime64[D]"),
        context=pd.DataFrame(index=frame.index),
    )


def fitted(algorithm: str, given: Part) -> Any:
    if algorithm == "ensemble":
        members = {name: fitted(name, given) for name in ("linear", "catboost", "net")}
        answers = {name: member.predict(given.features) for name, member in members.items()}
        return Ensemble.combine(members, given, answers, {"bags": 2, "steps": 4}, OPTIONS)
    chosen = {"net": NET, "catboost": {"iterations": 5}}.get(algorithm, {})
    return estimator_class(algorithm).fit(given, given, chosen, OPTIONS)


def saved(estimator: Estimator, given: Part, tmp_path: Path) -> Path:
    native = tmp_path / "native"
    native.mkdir()
    estimator.save(native)
    (native / "example.parquet").write_bytes(b"rows")
    example = given.features.head(3).astype({"text": "object"})
    extra = [native / "estimator.json", native / "example.parquet"]
    save_native(estimator, tmp_path / "model", Model(), example, extra)
    return tmp_path / "model"


@pytest.mark.parametrize(("algorithm", "task"), OWN_FILES + LIBRARIES)
def test_a_saved_model_loads_natively_and_holds_no_pickled_code(
    algorithm: str, task: str, tmp_path: Path
):
    given = part(task)
    estimator = fitted(algorithm, given)
    folder = saved(estimator, given, tmp_path)
    loaded = load_estimator(folder)
    np.testing.assert_array_equal(loaded.predict(given.features), estimator.predict(given.features))
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]
    assert (folder / "extra_files" / "example.parquet").read_bytes() == b"rows"


@pytest.mark.parametrize(("algorithm", "task"), OWN_FILES)
def test_mlflow_knows_signature_and_example_and_answers_the_same(
    algorithm: str, task: str, tmp_path: Path
):
    from mlflow.pyfunc import load_model

    given = part(task)
    estimator = fitted(algorithm, given)
    folder = saved(estimator, given, tmp_path)
    described = Model.load(folder)
    assert set(described.flavors) == {"mlops_assets", "python_function"}
    assert described.signature.inputs.input_names() == ["number", "text"]
    assert tuple(described.signature.outputs.input_names()) == estimator.task.outputs
    example = described.load_input_example(str(folder))
    assert len(example) == 3
    answers = load_model(str(folder)).predict(example)
    expected = estimator.task.table(estimator.predict(given.features.head(3)))
    np.testing.assert_allclose(answers.to_numpy(), expected, atol=1e-6)
    requirements = (folder / "requirements.txt").read_text()
    used = set(estimator.members) if algorithm == "ensemble" else {"net"}
    for package, member in (("torch", "net"), ("catboost", "catboost"), ("skops", "linear")):
        assert (f"{package}==" in requirements) == (member in used)


def test_a_flavor_that_cannot_be_logged_is_named(tmp_path: Path):
    given = part("binary")
    with pytest.raises(RegistryError, match=r"Baseline has flavor '', .* catboost, sklearn, mlops"):
        saved(fitted("baseline", given), given, tmp_path)
