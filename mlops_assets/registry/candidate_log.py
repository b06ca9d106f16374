"""Candidates in MLflow: a run with everything about each, and the model in its own flavor.

How a search for parameters is logged is in `mlops_assets.registry.search_log`; how a logged
candidate becomes a version, in `mlops_assets.registry.registry`.
"""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.lake import Lake, TableVersion
from mlops_assets.registry.evaluations import log_evaluations
from mlops_assets.registry.provenance import Provenance, collect_environment
from mlops_assets.registry.recipe import Recipe
from mlops_assets.registry.tracking import save_native
from mlops_assets.training.candidate import Candidate
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator, Manifest
from mlops_assets.training.example_input import EXAMPLE_ROWS, write_example
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.input_contract import InputContract

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

_CURVE_POINTS = 200


@dataclass(frozen=True)
class LoggedCandidate:
    """A trained candidate that MLflow holds; not yet a version.

    Attributes
    ----------
    family, name, algorithm
        What it is.
    run_id, model_id
        MLflow's names of it.
    training_set
        What it learnt from.
    metrics
        As `Evaluation.numbers` names them.
    """

    family: str
    name: str
    algorithm: str
    run_id: str
    model_id: str
    training_set: TableVersion
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class CandidateLog:
    """The runs of a family's candidates.

    Attributes
    ----------
    client
        Of the MLflow that holds them.
    lake
        Holds the tables they learnt from.
    experiment
        Id of the family's MLflow experiment.
    """

    client: "MlflowClient"
    lake: Lake
    experiment: str

    def add(
        self,
        candidate: Candidate,
        family: ModelFamily,
        example: Part,
        inputs: Sequence[TableVersion],
        provenance: Provenance,
    ) -> LoggedCandidate:
        """Log a trained candidate; the parameters are those of `Registry.log_candidate`."""
        from mlflow.entities import Param, RunTag

        tags = {
            "mlflow.runName": candidate.declaration.name,
            "mlflow.note.content": family.description,
            **_tags(candidate, inputs),
            **provenance.tags(),
            "mlops.primary_metric": family.primary_metric,
        }
        run = self.client.create_run(
            self.experiment, tags=tags, run_name=candidate.declaration.name
        )
        run_id = run.info.run_id
        status = "FAILED"
        try:
            model_id = self._log_model(candidate, run_id, example)
            Recipe(
                family=family,
                candidate=candidate.declaration,
                training_set=candidate.learnt.training_set,
                inputs=tuple(inputs),
                seed=candidate.learnt.seed,
                threads=candidate.learnt.threads,
                members=candidate.members,
                study=candidate.study,
                provenance=provenance,
                environment=collect_environment(),
            ).log(self.client, run_id)
            parameters = {
                "algorithm": candidate.declaration.algorithm,
                "features": len(candidate.estimator.schema.names),
                "train_rows": candidate.learnt.train_rows,
                "validation_rows": candidate.learnt.validation_rows,
                "seed": candidate.learnt.seed,
                "threads": candidate.learnt.threads,
                **candidate.estimator.parameters,
            }
            self.client.log_batch(
                run_id,
                params=[Param(name, str(value)) for name, value in parameters.items()],
                metrics=_metrics(candidate, model_id),
                tags=[RunTag("mlops.model_id", model_id)],
            )
            log_evaluations(self.client, run_id, (candidate.validation, candidate.test))
            self._log_inputs(run_id, candidate.learnt.training_set, inputs)
            status = "FINISHED"
        finally:
            self.client.set_terminated(run_id, status=status)
        return LoggedCandidate(
            family=family.name,
            name=candidate.declaration.name,
            algorithm=candidate.declaration.algorithm,
            run_id=run_id,
            model_id=model_id,
            training_set=candidate.learnt.training_set,
            metrics=_numbers(candidate),
        )

    def newest(self, training_set: TableVersion | None = None) -> tuple[LoggedCandidate, ...]:
        """Return the newest finished run of each candidate; as `Registry.candidates` says."""
        # Only candidates have that tag; the trials of a search are runs too, and there are many.
        conditions = ["attributes.status = 'FINISHED'", "tags.`mlops.candidate` != ''"]
        if training_set is not None:
            conditions.append(f"tags.`mlops.training_set` = '{training_set}'")
        runs = self.client.search_runs(
            [self.experiment],
            " AND ".join(conditions),
            order_by=["attributes.start_time DESC"],
            max_results=1000,
        )
        newest: dict[str, LoggedCandidate] = {}
        for run in runs:
            tags = run.data.tags
            name = tags.get("mlops.candidate")
            if name is None or name in newest:
                continue
            newest[name] = LoggedCandidate(
                family=tags["mlops.family"],
                name=name,
                algorithm=tags["mlops.algorithm"],
                run_id=run.info.run_id,
                model_id=tags["mlops.model_id"],
                training_set=TableVersion.parse(tags["mlops.training_set"]),
                metrics=json.loads(tags["mlops.metrics"]),
            )
        return tuple(newest.values())

    def _log_model(self, candidate: Candidate, run_id: str, example: Part) -> str:
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        estimator = candidate.estimator
        rows = example.features.head(EXAMPLE_ROWS)[list(estimator.schema.names)]
        logged = self.client.create_logged_model(
            self.experiment,
            name=candidate.declaration.name,
            source_run_id=run_id,
            model_type=candidate.declaration.algorithm,
            params={name: str(value) for name, value in estimator.parameters.items()},
        )
        model_id = str(logged.model_id)
        with tempfile.TemporaryDirectory(prefix="mlops-model-") as temporary:
            folder = Path(temporary)
            native = folder / "native"
            native.mkdir()
            estimator.save(native)
            example_file = write_example(native, estimator, rows)
            contract = InputContract.learnt_from(
                self.lake, candidate.learnt.training_set, estimator.schema
            )
            save_native(
                estimator,
                folder / "model",
                Model(run_id=run_id, model_id=model_id),
                _plain(rows, estimator),
                [native / Manifest.FILE, example_file, contract.write(native)],
            )
            self.client.log_model_artifacts(model_id, str(folder / "model"))
        self.client.finalize_logged_model(model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
        return model_id

    def _log_inputs(
        self, run_id: str, training_set: TableVersion, inputs: Sequence[TableVersion]
    ) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        datasets = [
            DatasetInput(
                Dataset(
                    name=str(table.table),
                    digest=f"version-{table.version}",
                    source_type="delta_table",
                    source=json.dumps(
                        {
                            "path": self.lake.describe(table.table, table.version).uri,
                            "delta_table_version": table.version,
                        }
                    ),
                ),
                [InputTag("mlflow.data.context", context)],
            )
            for context, tables in (("training", [training_set]), ("source", inputs))
            for table in tables
        ]
        self.client.log_inputs(run_id, datasets)


def _plain(rows: "pd.DataFrame", estimator: Estimator) -> "pd.DataFrame":
    """Give categories as text, the way a caller sends them."""
    return rows.astype(dict.fromkeys(estimator.schema.categorical, "object"))


def _numbers(candidate: Candidate) -> dict[str, float]:
    return {
        **candidate.validation.numbers(),
        **candidate.test.numbers(),
        "fit_seconds": candidate.seconds,
    }


def _tags(candidate: Candidate, inputs: Sequence[TableVersion]) -> dict[str, str]:
    learnt = candidate.learnt
    return {
        "mlops.family": candidate.family,
        "mlops.candidate": candidate.declaration.name,
        "mlops.algorithm": candidate.declaration.algorithm,
        "mlops.training_set": str(learnt.training_set),
        "mlops.inputs": json.dumps([str(table) for table in inputs]),
        "mlops.first_day": learnt.first_day.isoformat(),
        "mlops.last_day": learnt.last_day.isoformat(),
        "mlops.seed": str(learnt.seed),
        "mlops.threads": str(learnt.threads),
        "mlops.threshold": json.dumps(candidate.threshold),
        "mlops.metrics": json.dumps(_numbers(candidate)),
    }


def _metrics(candidate: Candidate, model_id: str) -> list[Any]:
    """Return every number, and the learning curve thinned to what a plot can show."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, 0, model_id=model_id)
        for name, value in _numbers(candidate).items()
    ]
    curve = candidate.estimator.learning_curve
    every = max(1, len(curve.train) // _CURVE_POINTS)
    loss = candidate.estimator.task.loss
    for name, values in (
        (f"{loss}/train", curve.train),
        (f"{loss}/validation", curve.validation),
    ):
        metrics += [Metric(name, values[i], now, i) for i in range(0, len(values), every)]
    return metrics
