"""The model of `serving.py` called by hand: what the floor and the peers answer with.

Only CatBoost and NumPy are imported, so that every peer's environment has all it takes. Of the ways
to call CatBoost with decoded JSON this is the fastest: a pool of one matrix of Python values, not
lists and not a frame, in one thread; with more of them, even a row's pool wakes a second thread,
which spins on another core after every call.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER_VARIABLE = "BENCHMARK_MODEL_FOLDER"
"""Names the folder with `model.cb` and `features.json` to a server's process."""


class BareModel:
    """CatBoost's own model and the names of its features, in order."""

    def __init__(self, folder: Path) -> None:
        from catboost import CatBoostClassifier

        described = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        self.names: list[str] = described["names"]
        self.places = [self.names.index(name) for name in described["categorical"]]
        self.native = CatBoostClassifier().load_model(str(folder / "model.cb"))

    @classmethod
    def of_this_process(cls) -> "BareModel":
        """Load the model that the environment names."""
        return cls(Path(os.environ[FOLDER_VARIABLE]))

    def probabilities(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Answer rows that are mappings."""
        names = self.names
        return self.of_matrix(np.array([[row[name] for name in names] for row in rows], object))

    def of_matrix(self, matrix: Any) -> list[float]:
        """Answer a matrix of Python values, shape (rows, features)."""
        from catboost import Pool

        pool = Pool(matrix, cat_features=self.places, thread_count=1)
        found = self.native.predict(pool, prediction_type="Probability", thread_count=1)
        answers: list[float] = found[:, 1].tolist()
        return answers

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> list[float]:
        """Answer columns."""
        matrix = np.empty((len(columns[self.names[0]]), len(self.names)), object)
        for place, name in enumerate(self.names):
            matrix[:, place] = columns[name]
        return self.of_matrix(matrix)
