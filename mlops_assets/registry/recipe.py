"""The recipe of a model: everything that must be the same for it to come out the same again.

It travels as a file in the artifacts of the model's run. (Not as tags: MLflow cuts a long tag short
without a word, and a declaration may be long.)
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_assets.lake import TableVersion
from mlops_assets.registry.errors import RegistryError
from mlops_assets.registry.provenance import Environment, Provenance
from mlops_assets.training.family import CandidateDeclaration, ModelFamily

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Recipe:
    """What a model was made of, and how.

    Attributes
    ----------
    family
        The declaration at that time.
    candidate
        What was fitted, with the parameters it was fitted with; those that a search found included.
    training_set, inputs
        The training set's version, and those of the tables it was made of.
    seed, threads
        As handed to the algorithm.
    members
        Of an ensemble: name of each member to its MLflow run, which has a recipe as well.
    study
        Name of the search that found the parameters; empty without one.
    provenance, environment
        The code, and what it ran on.
    """

    FILE: ClassVar[str] = "recipe.json"

    family: ModelFamily
    candidate: CandidateDeclaration
    training_set: TableVersion
    inputs: tuple[TableVersion, ...]
    seed: int
    threads: int
    members: Mapping[str, str]
    study: str
    provenance: Provenance
    environment: Environment

    def log(self, client: "MlflowClient", run_id: str) -> None:
        """Keep the recipe with a run."""
        record = {
            "family": self.family.model_dump(mode="json"),
            "candidate": self.candidate.model_dump(mode="json"),
            "training_set": str(self.training_set),
            "inputs": [str(table) for table in self.inputs],
            "seed": self.seed,
            "threads": self.threads,
            "members": dict(self.members),
            "study": self.study,
            "provenance": vars(self.provenance),
            "environment": dict(self.environment),
        }
        client.log_text(run_id, json.dumps(record, indent=1), self.FILE)

    @classmethod
    def of_run(cls, client: "MlflowClient", run_id: str) -> "Recipe":
        """Read the recipe of a run.

        Raises
        ------
        RegistryError
            When the run has none, or this version of the platform cannot read it.
        """
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory(prefix="mlops-recipe-") as scratch:
            try:
                path = Path(client.download_artifacts(run_id, cls.FILE, scratch))
                record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            except (MlflowException, OSError, ValueError) as error:
                raise RegistryError(
                    f"run {run_id}: its {cls.FILE} cannot be read ({error}), so it is not known "
                    "how the model was made; train it again"
                ) from error
        try:
            return cls(
                family=ModelFamily.model_validate(record["family"]),
                candidate=CandidateDeclaration.model_validate(record["candidate"]),
                training_set=TableVersion.parse(record["training_set"]),
                inputs=tuple(TableVersion.parse(text) for text in record["inputs"]),
                seed=record["seed"],
                threads=record["threads"],
                members=record["members"],
                study=record["study"],
                provenance=Provenance(**record["provenance"]),
                environment=record["environment"],
            )
        except (KeyError, TypeError, ValueError) as error:
            commit = record.get("provenance", {}).get("git_commit", "unknown")
            raise RegistryError(
                f"run {run_id}: its {cls.FILE} does not fit this version of the platform: {error}. "
                f"Check out commit {commit}, which wrote it"
            ) from error
