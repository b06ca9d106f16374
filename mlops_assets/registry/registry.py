"""The model registry: runs, versions and aliases of a family's models, kept in MLflow.

A model goes in as it was trained and comes out as the same estimator, loaded by its own library and
not through a wrapper. Who serves is changed in `mlops_assets.registry.promotion` alone.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_assets.declaration import did_you_mean
from mlops_assets.lake import PINS, Lake, TableVersion
from mlops_assets.registry.candidate_log import CandidateLog, LoggedCandidate
from mlops_assets.registry.errors import ModelNotFoundError, RegistryError
from mlops_assets.registry.ledger import LEDGER
from mlops_assets.registry.names import Alias, ModelReference
from mlops_assets.registry.provenance import Provenance
from mlops_assets.registry.tracking import local_folder, mlflow_client
from mlops_assets.settings import Settings
from mlops_assets.training.candidate import Candidate
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import (
    Estimator,
    EstimatorError,
    load_estimator,
)
from mlops_assets.training.example_input import check_example
from mlops_assets.training.family import ModelFamily

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.store.entities import PagedList

_RECORD = "mlops.record"  # one tag a version: MLflow reads a thousand versions tag by tag
_MANY_FILES = 100  # of one row each, as pins and the ledger are written

_Found = TypeVar("_Found")


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
        log = CandidateLog(self.client, self.lake, self.experiment(family))
        return log.add(candidate, family, example, inputs, provenance)

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
        log = CandidateLog(self.client, self.lake, experiment.experiment_id)
        return log.newest(training_set)

    def attach(self, run_id: str, path: Path, folder: str = "report") -> None:
        """Add a file, such as the report, to a run's artifacts."""
        self.client.log_artifact(run_id, str(path), folder)

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
