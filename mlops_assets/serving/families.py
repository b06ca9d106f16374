"""The models that a worker has in memory, kept equal to what is deployed.

A version is loaded beside the one that serves and takes its place by one assignment: a request is
answered by the old version or the new one. One that does not load, or does not answer its example
as it did, is refused and reported; what served goes on serving.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mlops_assets.serving.batching import Batcher
from mlops_assets.serving.deployment import (
    FILE,
    DeployedFamily,
    DeployedVersion,
    Deployment,
    read_deployment,
)
from mlops_assets.serving.inference_log import Event, EventKind, InferenceLog, LoggedModel
from mlops_assets.serving.inputs import Policy
from mlops_assets.serving.security.state_file import StateFileError
from mlops_assets.serving.served import ModelRefusedError, ServedModel, load_served
from mlops_assets.training.family import ModelFamily, declare_family

_LOG = logging.getLogger(__name__)

Observe = Callable[[str, int, int, float], None]
"""Told of every call of a model: family, version, rows, seconds."""


@dataclass(frozen=True)
class Lane:
    """A version that answers.

    Attributes
    ----------
    deployed
        What is known of it.
    model
        Itself.
    batcher
        Puts its requests together.
    """

    deployed: DeployedVersion
    model: ServedModel
    batcher: Batcher


@dataclass(frozen=True)
class Family:
    """A family as it is served now.

    Attributes
    ----------
    declaration
        As declared.
    champion
        Who answers.
    challenger
        Who may answer a share, or only be asked; None where nobody waits.
    spine
        Spine columns that the log keeps of a prediction by key, with their types.
    """

    declaration: ModelFamily
    champion: Lane
    challenger: Lane | None = None
    spine: pa.Schema = field(default_factory=lambda: pa.schema([]))


@dataclass
class Families:
    """All families that a worker serves.

    Attributes
    ----------
    folder
        Holds the deployment file and the model folders.
    log
        Where answers and events go.
    executor
        Runs long calls of models.
    observe
        Is told of every call.
    threads
        How many a call with many rows may use.
    """

    folder: Path
    log: InferenceLog
    executor: Executor
    observe: Observe
    threads: int = 1
    _served: Mapping[str, Family] = field(default_factory=dict)
    _seen: tuple[int, int, int] | None = None
    _unreadable: str = ""

    @property
    def served(self) -> Mapping[str, Family]:
        """Families by name."""
        return self._served

    @property
    def changed(self) -> bool:
        """Whether the deployment file is another than the one that was last looked at."""
        return self._signature() != self._seen

    async def follow(self, every_seconds: float) -> None:
        """Keep up with the deployment file until cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            if self.changed:
                await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Load what is deployed and not loaded yet. Slow; requests go on meanwhile."""
        seen = self._signature()
        if seen is None and self._served:
            return  # it was removed: what it said last holds until it is written again
        try:
            deployment = read_deployment(self.folder)
        except StateFileError as error:
            if str(error) != self._unreadable:
                _LOG.error("%s", error)
                self._unreadable = str(error)
            return
        self._unreadable = ""
        self._served = self._loaded(deployment)
        self._seen = seen

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = (self.folder / FILE).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _loaded(self, deployment: Deployment) -> dict[str, Family]:
        served = {}
        for name, deployed in deployment.families.items():
            before = self._served.get(name)
            try:
                family = declare_family(deployed.declaration, f"{self.folder / FILE}: {name}")
                champion = self._lane(name, deployed, deployed.champion, family, before)
            except ValueError as error:  # a declaration, or a model, that cannot serve
                self._refused(name, deployed.champion, error)
                if before is not None:
                    served[name] = before
                continue
            challenger = None
            if deployed.challenger is not None:
                try:
                    challenger = self._lane(name, deployed, deployed.challenger, family, before)
                except ModelRefusedError as error:
                    self._refused(name, deployed.challenger, error)
            served[name] = Family(family, champion, challenger, _entity(deployed))
        return served

    def _lane(
        self,
        name: str,
        deployed: DeployedFamily,
        wanted: DeployedVersion,
        family: ModelFamily,
        before: Family | None,
    ) -> Lane:
        """Return a version that is loaded already, or load it."""
        lanes = () if before is None else (before.champion, before.challenger)
        policy = Policy(
            refuse_unseen=family.serving.unseen_categories == "refuse",
            refuse_outside=family.serving.out_of_range == "refuse",
        )
        for lane in lanes:
            if lane and lane.deployed == wanted and lane.model.check.policy == policy:
                return lane
        model = load_served(
            name,
            wanted.version,
            self.folder / wanted.folder,
            threshold=wanted.threshold,
            policy=policy,
            threads=self.threads,
        )
        self.log.declare(
            name,
            wanted.version,
            LoggedModel(model.estimator.schema, model.outputs, _entity(deployed)),
        )
        event = Event(EventKind.model_loaded, f"{model} is loaded", name, wanted.version)
        self.log.report(event)
        batcher = Batcher(
            model,
            self.log,
            self.executor,
            lambda rows, seconds: self.observe(name, wanted.version, rows, seconds),
        )
        return Lane(wanted, model, batcher)

    def _refused(self, family: str, version: DeployedVersion, error: Exception) -> None:
        _LOG.error("%s/%d is refused: %s", family, version.version, error)
        self.log.report(Event(EventKind.model_refused, str(error), family, version.version))


def _entity(deployed: DeployedFamily) -> pa.Schema:
    """Return the spine columns that a prediction may come with."""
    return pa.ipc.read_schema(pa.py_buffer(deployed.spine))
