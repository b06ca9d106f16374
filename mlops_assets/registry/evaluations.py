"""Evaluations kept with the run of the model they are of, so that nothing is measured twice.

The answers are beside them: an ensemble is weighed by them, and a plot can be drawn again.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.registry.errors import RegistryError
from mlops_assets.training.evaluation import Evaluation
from mlops_assets.training.metrics import MetricError

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "evaluation"
"""Artifact folder of a run in which its evaluations are."""


def log_evaluations(client: "MlflowClient", run_id: str, evaluations: Iterable[Evaluation]) -> None:
    """Keep evaluations with a run, each as JSON and its answers as an array, one pair a part."""
    with tempfile.TemporaryDirectory(prefix="mlops-evaluation-") as scratch:
        for evaluation in evaluations:
            text = Path(scratch) / f"{evaluation.part}.json"
            text.write_text(evaluation.to_json(), encoding="utf-8")
            np.save(text.with_suffix(".npy"), evaluation.answers, allow_pickle=False)
        client.log_artifacts(run_id, scratch, FOLDER)


def evaluations_of(client: "MlflowClient", run_id: str) -> Mapping[str, Evaluation]:
    """Read the evaluations of a run, by part.

    Raises
    ------
    RegistryError
        When the run has none, or they cannot be read.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="mlops-evaluation-") as scratch:
        try:
            folder = Path(client.download_artifacts(run_id, FOLDER, scratch))
            return {
                text.stem: Evaluation.from_json(
                    text.read_text(encoding="utf-8"),
                    np.load(text.with_suffix(".npy"), allow_pickle=False),
                )
                for text in sorted(folder.glob("*.json"))
            }
        except (MlflowException, MetricError, OSError, ValueError) as error:
            raise RegistryError(
                f"run {run_id}: its evaluations cannot be read ({error}); train the model again"
            ) from error
