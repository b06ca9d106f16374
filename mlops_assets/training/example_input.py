"""Rows of input kept beside a model with the answers it gave when it was trained.

Whoever is about to let a model answer asks it the same again first: a file that was changed, or a
library that computes otherwise, shows here and not in front of a caller.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.training.dataset import feature_frame
from mlops_assets.training.estimators import Estimator, EstimatorError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

EXAMPLE_ROWS = 20
"""How many there are."""

_FILE = "example.parquet"
_ANSWER = "@answer"
_SAME_ANSWER = 1e-6  # relative above 1: a label may be counted in minutes


def write_example(folder: Path, estimator: Estimator, rows: "pd.DataFrame") -> Path:
    """Write rows and the model's answers into a folder, and return the file's path.

    Parameters
    ----------
    folder
        Where `check_example` looks, or a folder whose files MLflow keeps beside the model.
    estimator
        Answers the rows.
    rows
        Its features.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = rows.astype(dict.fromkeys(estimator.schema.categorical, "object"))
    answers = pa.array(estimator.predict(rows).tolist())
    table = pa.Table.from_pandas(plain, preserve_index=False).append_column(_ANSWER, answers)
    path = folder / _FILE
    pq.write_table(table, path)
    return path


def check_example(folder: Path, estimator: Estimator) -> "pa.Table":
    """Ask a loaded model its example again.

    Parameters
    ----------
    folder
        The model's, also where MLflow keeps extra files.
    estimator
        What was loaded from it.

    Returns
    -------
    pyarrow.Table
        The rows of the example, as they were stored.

    Raises
    ------
    EstimatorError
        When there is no example, or an answer is not what it was, saying by how much.
    """
    import pyarrow.parquet as pq

    places = [folder / _FILE, folder / "extra_files" / _FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise EstimatorError(
            f"its example input is missing: looked for {' and '.join(map(str, places))}"
        )
    example = pq.read_table(found)
    recorded = np.array(example[_ANSWER].to_pylist())
    answers = estimator.predict(feature_frame(example, estimator.schema))
    if answers.shape != recorded.shape:
        raise EstimatorError(
            f"it answers its example input with shape {answers.shape}, where it gave "
            f"{recorded.shape} when it was trained; its files have changed"
        )
    apart = float((np.abs(answers - recorded) / np.maximum(1, np.abs(recorded))).max())
    if not apart <= _SAME_ANSWER:
        raise EstimatorError(
            f"it answers its example input up to {apart:.3g} away from what it did when it was "
            "trained; its files or a library have changed"
        )
    return example.select(list(estimator.schema.names))
