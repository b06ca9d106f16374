"""SHAP values of many rows through our estimator against CatBoost's own call on the same model.

Both sides get the same frame and make their own CatBoost pool of it. Ours also scores each row and
gives named contributions; checking that they add up, and the summary that reports show, are timed
as a second candidate. The numbers of both sides are compared before anything is timed.
"""

from collections.abc import Callable
from typing import Any

import catboost
import measure
import numpy as np
import pandas as pd

from mlops_assets.settings import load_settings
from mlops_assets.training import ModelFamily, declare_family
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators import FitOptions, estimator_class
from mlops_assets.training.explaining import attribute
from mlops_assets.training.tasks import Binary

NUMBERS, CATEGORIES = 90, 10
DECLARATION = {
    "name": "made_up",
    "description": "Made-up rows.",
    "owners": ["team:benchmarks"],
    "assumptions": ["None."],
    "limitations": ["Made up."],
    "spine": {"table": "made/up", "entity": ["row"]},
    "label": {"table": "made/up", "column": "label", "available_at": "known_at"},
    "features": [{"view": "made_up"}],
    "split": {"train_end": "2013-02-01", "validation_end": "2013-03-01", "test_end": "2013-04-01"},
    "candidates": [{"algorithm": "catboost"}],
}


def make_part(name: str, rows: int, seed: int) -> Part:
    """Make rows of a hundred features, a tenth of them categories, some of which matter."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, NUMBERS)).astype(np.float32)
    columns: dict[str, Any] = {f"number_{i}": numbers[:, i] for i in range(NUMBERS)}
    codes = random.integers(0, 30, size=(rows, CATEGORIES))
    for i in range(CATEGORIES):
        columns[f"category_{i}"] = pd.Categorical.from_codes(
            codes[:, i], categories=pd.Index([f"c{code}" for code in range(30)])
        )
    score = numbers[:, :20] @ np.linspace(1, 0.05, 20) + 0.05 * codes[:, 0] * numbers[:, 0] - 2
    days = np.datetime64("2013-01-01") + np.sort(random.integers(0, 90, size=rows))
    return Part(
        name=name,
        schema=FeatureSchema(tuple(columns), tuple(f"category_{i}" for i in range(CATEGORIES))),
        task=Binary(),
        features=pd.DataFrame(columns),
        label=(random.random(rows) < 1 / (1 + np.exp(-score))).astype(np.float64),
        days=days.astype("datetime64[D]"),
        context=pd.DataFrame({"row": np.arange(rows)}),
    )


def own_call(model: catboost.CatBoost, part: Part) -> Callable[[], Any]:
    """Return CatBoost's own way to the same numbers."""

    def run() -> Any:
        pool = catboost.Pool(part.features, cat_features=list(part.schema.categorical))
        return model.get_feature_importance(pool, type="ShapValues", thread_count=-1)

    return run


def main() -> None:
    parser = measure.arguments(__doc__, rows=10_000)
    parser.add_argument("--trees", type=int, default=400, help="trees of the model")
    options = parser.parse_args()
    threads = load_settings().threads
    print(measure.machine("catboost", "numpy", "pandas"))
    model = estimator_class("catboost").fit(
        make_part("train", 40_000, seed=1),
        make_part("validation", 5_000, seed=2),
        {"iterations": options.trees, "depth": 7, "early_stopping_rounds": options.trees},
        FitOptions(seed=1, threads=threads),
    )
    part = make_part("test", options.rows, seed=3)
    family: ModelFamily = declare_family(DECLARATION)
    everything = np.arange(len(part))
    bare = own_call(model.native, part)
    ours, theirs = model.explain(part.features), bare()
    assert np.array_equal(ours.contributions, theirs[:, :-1]), "contributions differ"
    assert np.allclose(ours.expected, theirs[:, -1]), "expected scores differ"
    print(
        f"{len(part):,} rows, {len(part.schema.names)} features, {model.native.tree_count_} trees; "
        f"the worst sum is {ours.additivity_error:.1e} away from its score"
    )
    compared = {
        "SHAP values": measure.side_by_side(
            {
                "estimator.explain": lambda: model.explain(part.features),
                "explain, check, summarise": lambda: attribute(
                    model, part, family, everything, everything[:500], Resampling()
                ),
                "bare": bare,
            },
            runs=options.runs,
        )
    }
    for title, comparison in compared.items():
        print(comparison.table(title))
    measure.write_json(options.json, compared, rows=len(part))


if __name__ == "__main__":
    main()
