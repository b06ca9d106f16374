"""A model in a worker's memory, with everything a request about it needs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.serving.decoding import InputDecoder
from mlops_assets.serving.inputs import InputCheck, Inputs, Policy
from mlops_assets.serving.scoring import Cost, Scorer
from mlops_assets.training.dataset import DatasetError, FeatureSchema
from mlops_assets.training.estimators import Estimator, load_estimator
from mlops_assets.training.example_input import check_example
from mlops_assets.training.input_contract import InputContract

if TYPE_CHECKING:
    import pyarrow as pa


class ModelRefusedError(ValueError):
    """A model cannot serve: it does not load, or does not answer as it did when it was trained."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded version.

    Attributes
    ----------
    family, version
        Which one.
    threshold
        Probability at and above which the answer is yes; None for a task without one.
    scorer
        Answers.
    decoder
        Reads requests.
    check
        Applies the contract.
    cost
        What a call takes.
    example
        Rows it was registered with.
    """

    family: str
    version: int
    threshold: float | None
    scorer: Scorer
    decoder: InputDecoder
    check: InputCheck
    cost: Cost
    example: Inputs

    def __str__(self) -> str:
        return f"{self.family}/{self.version}"

    @property
    def estimator(self) -> Estimator:
        """The model itself."""
        return self.scorer.estimator

    @property
    def contract(self) -> InputContract:
        """What it may be asked."""
        return self.check.contract

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of its answer's numbers."""
        return self.estimator.task.outputs


def load_served(
    family: str,
    version: int,
    folder: Path,
    *,
    threshold: float | None,
    policy: Policy,
    threads: int = 1,
) -> ServedModel:
    """Load a version from its folder and check that it answers its example as it once did.

    Parameters
    ----------
    family, version
        What it is called.
    folder
        Its model folder, as MLflow or `Estimator.save` wrote it.
    threshold
        Probability from which the answer is yes.
    policy
        What is refused.
    threads
        How many a call with many rows may use.

    Raises
    ------
    ModelRefusedError
        When it does not load, has no example or contract, or answers differently.
    """
    try:
        estimator = load_estimator(folder)
        contract = InputContract.read(folder)
        _require_same_features(contract, estimator.schema)
        example = _inputs(check_example(folder, estimator), estimator.schema)
        scorer = Scorer(estimator, threads)
        cost = scorer.cost(example)
    except Exception as error:  # a library may raise anything on a file that was changed
        raise ModelRefusedError(
            f"{family}/{version} cannot serve: {type(error).__name__}: {error}"
        ) from error
    return ServedModel(
        family=family,
        version=version,
        threshold=threshold,
        scorer=scorer,
        decoder=InputDecoder(contract, estimator.schema),
        check=InputCheck(contract, estimator.schema, policy),
        cost=cost,
        example=example,
    )


def _require_same_features(contract: InputContract, schema: FeatureSchema) -> None:
    if contract.names != schema.names:
        raise DatasetError(
            f"its input contract is of {', '.join(contract.names)}, and the model takes "
            f"{', '.join(schema.names)}"
        )


def _inputs(rows: "pa.Table", schema: FeatureSchema) -> Inputs:
    numbers = np.empty((len(rows), len(schema.numeric)), np.float32)
    for place, column in enumerate(schema.numeric):
        numbers[:, place] = rows[column].to_numpy()
    return Inputs(numbers, tuple(rows[column].to_pylist() for column in schema.categorical))
