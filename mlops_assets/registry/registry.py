"""The model registry: runs, versions and aliases of a family's models, kept in MLflow.

A model goes in as it was trained and comes out as the same estimator, loaded by its own library and
not through a wrapper. Who serves is changed in `mlops_assets.registry.promotion` alone.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_assets.declaration import did_you_mean
from mlops_assets.lake import PINS, Lake, TableVersion
from mlops_assets.registry.errors import ModelNotFoundError, RegistryError
from mlops_assets.registry.evaluations import log_evaluations
from mlops_assets.registry.ledger import LEDGER
from mlops_assets.registry.names import Alias, ModelReference
from mlops_assets.registry.provenance import Provenance, collect_environment
from mlops_assets.registry.recipe import Recipe
from mlops_assets.registry.tracking import local_folder, mlflow_client, save_native
from mlops_assets.settings import Settings
from mlops_assets.training.candidate import Candidate
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import (
    Estimator,
    EstimatorError,
    Manifest,
    load_estimator,
)
from mlops_assets.training.example_input import EXAMPLE_ROWS, check_example, write_example
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.input_contract import InputContract

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.store.entities import PagedList

_RECORD = "mlops.record"  # one tag a version: MLflow reads a thousand versions tag by tag
_CURVE_POINTS = 200
_MANY_FILES = 100  # of one row each, as pins and the ledger are written

_Found = TypeVar("_Found")


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
class ModelVersion:
    """A registered version.

    Attributes
    ----------
    family, version
        Its name is `family/version`.
    aliases
        Its roles now.
    created_at
        When it was registered, in UTC.
    candidate, algorithm
        Which candidate it was.
    run_id, model_id
        MLflow's names of it.
    training_set, inputs
        The training set's version, and those of the tables it was made of.
    first_day, last_day
        Calendar days of the rows it learnt from, validation included.
    threshold
        Probability at and above which the answer is yes; None for a task without one.
    primary_metric
        By which its family chose and judged it.
    metrics
        As `Evaluation.numbers` names them.
    """

    family: str
    version: int
    aliases: tuple[Alias, ...]
    created_at: datetime
    candidate: str
    algorithm: str
    run_id: str
    model_id: str
    training_set: TableVersion
    inputs: tuple[TableVersion, ...]
    first_day: date
    last_day: date
    threshold: float | None
    primary_metric: str
    metrics: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.family}/{self.version}"


class Registry:
    """Models by family, version and alias.

    Parameters
    ----------
    tracking_uri
        MLflow's tracking and registry store.
    artifact_uri
        Where new families keep their artifacts.
    lake
        Holds the tables that versions pin, and the ledger.
    locks
        Folder for lock files.
    """

    def __init__(self, tracking_uri: str, artifact_uri: str, lake: Lake, locks: Path) -> None:
        self.tracking_uri = tracking_uri
        self.artifact_uri = artifact_uri
        self.lake = lake
        self.locks = locks

    @classmethod
    def from_settings(cls, settings: Settings, lake: Lake | None = None) -> "Registry":
        """Open the deployment's registry. Nothing is read, and MLflow not imported, until used."""
        return cls(
            settings.tracking_uri,
            settings.artifact_uri,
            lake or Lake.from_settings(settings),
            settings.home / "locks",
        )

    @cached_property
    def client(self) -> "MlflowClient":
        """The MLflow client, opened when first used."""
        return mlflow_client(self.tracking_uri)

    # Candidates ---------------------------------------------------------------------------------

    def log_candidate(
        self,
        candidate: Candidate,
        family: ModelFamily,
        example: Part,
        inputs: Sequence[TableVersion],
        provenance: Provenance,
    ) -> LoggedCandidate:
        """Log a trained candidate: one run with everything about it, and the model in its flavor.

        Parameters
        ----------
        candidate
            Trained and evaluated.
        family
            Its declaration, kept with the run.
        example
            A few rows of input; they are answered again before every promotion.
        inputs
            Versions of the tables the training set was made of.
        provenance
            Code and environment.

        Raises
        ------
        RegistryError
            When the estimator's flavor cannot be logged, or MLflow refuses. The run is then marked
            as failed.
        """
        from mlflow.entities import Param, RunTag

        experiment = self.experiment(family)
        tags = {
            "mlflow.runName": candidate.declaration.name,
            "mlflow.note.content": family.description,
            **_tags(candidate, inputs),
            **provenance.tags(),
            "mlops.primary_metric": family.primary_metric,
        }
        run = self.client.create_run(experiment, tags=tags, run_name=candidate.declaration.name)
        run_id = run.info.run_id
        status = "FAILED"
        try:
            model_id = self._log_model(candidate, experiment, run_id, example)
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

    def candidates(
        self, family: str, training_set: TableVersion | None = None
    ) -> tuple[LoggedCandidate, ...]:
        """Return the newest finished run of each candidate, newest first.

        Parameters
        ----------
        family
            Whose.
        training_set
            Only those that learnt from this version.
        """
        experiment = self.client.get_experiment_by_name(family)
        if experiment is None:
            return ()
        # Only candidates have that tag; the trials of a search are runs too, and there are many.
        conditions = ["attributes.status = 'FINISHED'", "tags.`mlops.candidate` != ''"]
        if training_set is not None:
            conditions.append(f"tags.`mlops.training_set` = '{training_set}'")
        runs = self.client.search_runs(
            [experiment.experiment_id],
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
                family=family,
                name=name,
                algorithm=tags["mlops.algorithm"],
                run_id=run.info.run_id,
                model_id=tags["mlops.model_id"],
                training_set=TableVersion.parse(tags["mlops.training_set"]),
                metrics=json.loads(tags["mlops.metrics"]),
            )
        return tuple(newest.values())

    def attach(self, run_id: str, path: Path, folder: str = "report") -> None:
        """Add a file, such as the report, to a run's artifacts."""
        self.client.log_artifact(run_id, str(path), folder)

    # Versions -----------------------------------------------------------------------------------

    def register(self, logged: LoggedCandidate, family: ModelFamily) -> ModelVersion:
        """Make a logged candidate the family's newest version and pin the tables it learnt from.

        Registering the same candidate again gives the version it already is.
        """
        from mlflow.exceptions import MlflowException

        for known in self.versions(family.name):
            if known.model_id == logged.model_id:
                self.pin(known)
                return known
        try:
            self.client.create_registered_model(family.name, description=family.description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        run = self.client.get_run(logged.run_id)
        created = self.client.create_model_version(
            family.name,
            # Not models:/ID: MLflow's SQL store looks that up in its process-wide default store.
            source=self.client.get_logged_model(logged.model_id).artifact_location,
            run_id=logged.run_id,
            tags={
                _RECORD: json.dumps(
                    {k: v for k, v in run.data.tags.items() if k.startswith("mlops.")}
                )
            },
            description=f"{logged.name} on {logged.training_set}",
            model_id=logged.model_id,
        )
        version = self._version(created, {})
        self.pin(version)
        for table in (PINS, LEDGER):
            if self.lake.exists(table) and self.lake.describe(table).files > _MANY_FILES:
                self.lake.compact(table)
        return version

    def versions(self, family: str) -> tuple[ModelVersion, ...]:
        """Return the family's versions, newest first; none when the family is unknown."""
        aliases = self._aliases(family)
        if aliases is None:
            return ()
        found = [self._version(version, aliases) for version in self._search(f"name = '{family}'")]
        return tuple(sorted(found, key=lambda version: -version.version))

    def all_versions(self) -> tuple[ModelVersion, ...]:
        """Return the versions of every family, by family, the newest first.

        What was registered outside this platform, in a store shared with others, is left out.
        """
        aliases = self.aliases()
        found = [
            self._version(version, aliases[version.name])
            for version in self._search("")
            if _RECORD in version.tags
        ]
        return tuple(sorted(found, key=lambda version: (version.family, -version.version)))

    def families(self) -> tuple[str, ...]:
        """Return the names of the families that have versions."""
        return tuple(sorted(self.aliases()))

    def require_family(self, family: str) -> None:
        """Refuse a family that has no version.

        Raises
        ------
        ModelNotFoundError
            With the nearest name, and those that there are.
        """
        known = self.families()
        if family not in known:
            hint = did_you_mean(family, known) or "."
            raise ModelNotFoundError(
                f"model family {family!r}: there is no version of it{hint} Families with versions: "
                f"{', '.join(known) or 'none'}"
            )

    def find(self, reference: ModelReference | str) -> ModelVersion:
        """Return one version by `family/version` or `family@alias`.

        Raises
        ------
        ModelNotFoundError
            Listing what there is.
        """
        wanted = ModelReference.parse(reference) if isinstance(reference, str) else reference
        found = self.find_or_none(wanted)
        if found is None:
            self.require_family(wanted.family)
            there = ", ".join(str(version) for version in self.versions(wanted.family)[:10])
            raise ModelNotFoundError(f"no model {wanted}; there is {there}")
        return found

    def find_or_none(self, reference: ModelReference) -> ModelVersion | None:
        """Return one version, or None where there is none of that name."""
        from mlflow.exceptions import MlflowException

        aliases = self._aliases(reference.family)
        if aliases is None:
            return None
        number = reference.version
        if reference.alias is not None:
            number = aliases.get(reference.alias.value)
        if number is None:
            return None
        try:
            return self._version(
                self.client.get_model_version(reference.family, str(number)), aliases
            )
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def pin(self, version: ModelVersion) -> None:
        """Keep every table version that a model learnt from out of vacuum's reach.

        Raises
        ------
        mlops_assets.lake.LakeError
            When one of them is gone.
        """
        owner = str(version)
        held = {(pin.table, pin.version) for pin in self.lake.pins() if pin.owner == owner}
        for table in (version.training_set, *version.inputs):
            if (table.table, table.version) not in held:
                self.lake.pin(table, owner)

    # Models -------------------------------------------------------------------------------------

    def load(self, model: ModelReference | ModelVersion | LoggedCandidate | str) -> Estimator:
        """Load a model natively.

        Raises
        ------
        ModelNotFoundError
            When there is none of that name.
        RegistryError
            When its artifacts are missing or cannot be read.
        """
        with ExitStack() as stack:
            return load_estimator_in(self._folder(model, stack))

    def verify(self, model: ModelReference | ModelVersion | str) -> Estimator:
        """Load a model and check that it answers its example input as it did when it was trained.

        Raises
        ------
        RegistryError
            When it does not load, or answers differently, saying by how much.
        """
        with ExitStack() as stack:
            folder = self._folder(model, stack)
            estimator = load_estimator_in(folder)
            try:
                check_example(folder, estimator)
            except EstimatorError as error:
                raise RegistryError(f"{model}: {error}") from error
        return estimator

    def copy_model(self, version: ModelVersion, folder: Path) -> None:
        """Copy a version's model into a folder that does not exist yet.

        Raises
        ------
        RegistryError
            When its artifacts are missing or cannot be read.
        """
        with ExitStack() as stack:
            try:
                shutil.copytree(self._folder(version, stack), folder)
            except OSError as error:
                raise RegistryError(f"{version}: its files cannot be copied: {error}") from error

    def copy_artifact(self, version: ModelVersion, path: str, folder: Path) -> bool:
        """Copy a file of a version's run into a folder; return whether there is such a file.

        Parameters
        ----------
        version
            Whose run.
        path
            The file among the run's artifacts, such as `card/model_card.html`.
        folder
            An existing one.
        """
        parent = str(PurePosixPath(path).parent)
        if path not in {each.path for each in self.client.list_artifacts(version.run_id, parent)}:
            return False
        with tempfile.TemporaryDirectory(prefix="mlops-artifact-") as scratch:
            found = self.client.download_artifacts(version.run_id, path, scratch)
            shutil.copy(found, folder)
        return True

    # Inside -------------------------------------------------------------------------------------

    def _folder(
        self, model: ModelReference | ModelVersion | LoggedCandidate | str, stack: ExitStack
    ) -> Path:
        from mlflow.exceptions import MlflowException

        if isinstance(model, str | ModelReference):
            model = self.find(model)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlops-model-")))
        try:
            location = self.client.get_logged_model(model.model_id).artifact_location
            return local_folder(location, scratch)
        except (MlflowException, OSError) as error:
            raise RegistryError(f"{model}: its artifacts cannot be fetched: {error}") from error

    def experiment(self, family: ModelFamily) -> str:
        """Return the id of the MLflow experiment with a family's runs, made where there is none."""
        from mlflow.exceptions import MlflowException

        known = self.client.get_experiment_by_name(family.name)
        if known is not None:
            return str(known.experiment_id)
        try:
            return str(
                self.client.create_experiment(
                    family.name,
                    artifact_location=f"{self.artifact_uri.rstrip('/')}/{family.name}",
                    tags={"mlflow.note.content": family.description},
                )
            )
        except MlflowException as error:
            # Another process made it between the look and the attempt.
            known = self.client.get_experiment_by_name(family.name)
            if known is None:
                raise RegistryError(f"experiment {family.name}: {error}") from error
            return str(known.experiment_id)

    def _log_model(self, candidate: Candidate, experiment: str, run_id: str, example: Part) -> str:
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        estimator = candidate.estimator
        rows = example.features.head(EXAMPLE_ROWS)[list(estimator.schema.names)]
        logged = self.client.create_logged_model(
            experiment,
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

    def _aliases(self, family: str) -> dict[str, int] | None:
        """Return the family's aliases, or None when the family is unknown."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_registered_model(family)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return {name: int(version) for name, version in found.aliases.items()}

    def aliases(self) -> dict[str, dict[str, int]]:
        """Return the version behind each alias of every family, by one question to the store.

        There is nothing where no store was made yet.
        """
        if self._has_no_store:
            return {}
        return {
            found.name: {name: int(version) for name, version in found.aliases.items()}
            for found in _pages(self.client.search_registered_models, max_results=1000)
        }

    def _search(self, condition: str) -> "Iterator[MlflowVersion]":
        if self._has_no_store:
            return iter(())
        return _pages(
            self.client.search_model_versions, filter_string=condition, max_results=10_000
        )

    @property
    def _has_no_store(self) -> bool:
        """Whether looking would make one: its migrations take seconds."""
        scheme = "sqlite:///"
        path = self.tracking_uri.removeprefix(scheme)
        return self.tracking_uri.startswith(scheme) and not Path(path).exists()

    def _version(self, found: "MlflowVersion", aliases: Mapping[str, int]) -> ModelVersion:
        number = int(found.version)
        if _RECORD not in found.tags or found.run_id is None:
            raise RegistryError(
                f"{found.name}/{number} was registered outside this platform: it does not say what "
                "it learnt from. Delete it in MLflow, or register it under another name"
            )
        tags = json.loads(found.tags[_RECORD])
        return ModelVersion(
            family=found.name,
            version=number,
            aliases=tuple(alias for alias in Alias if aliases.get(alias.value) == number),
            created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            candidate=tags["mlops.candidate"],
            algorithm=tags["mlops.algorithm"],
            run_id=found.run_id,
            model_id=tags["mlops.model_id"],
            training_set=TableVersion.parse(tags["mlops.training_set"]),
            inputs=tuple(TableVersion.parse(text) for text in json.loads(tags["mlops.inputs"])),
            first_day=date.fromisoformat(tags["mlops.first_day"]),
            last_day=date.fromisoformat(tags["mlops.last_day"]),
            threshold=json.loads(tags["mlops.threshold"]),
            primary_metric=tags["mlops.primary_metric"],
            metrics=json.loads(tags["mlops.metrics"]),
        )


def _pages(search: "Callable[..., PagedList[_Found]]", **wanted: Any) -> "Iterator[_Found]":
    """Give what a search finds, page after page."""
    token = None
    while True:
        page = search(**wanted, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def load_estimator_in(folder: Path) -> Estimator:
    """Load the estimator of a model folder.

    Raises
    ------
    RegistryError
        When it cannot be read.
    """
    try:
        return load_estimator(folder)
    except (EstimatorError, OSError) as error:
        raise RegistryError(f"{folder}: the model cannot be loaded: {error}") from error


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
