"""The process that keeps the deployment equal to the registry.

It is the only one of the server that opens the registry. It looks at the aliases every second or
so, checks a version before it hands it to the workers, and copies what serving needs, so that a
worker reads local files only and a server can start while the registry is away.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from mlops_assets.features import FeatureError, FeatureRegistry
from mlops_assets.lake import Lake, LakeError, TableName
from mlops_assets.registry import Alias, ModelReference, ModelVersion, Registry, RegistryError
from mlops_assets.registry.card.keeping import FOLDER as CARD_FOLDER
from mlops_assets.registry.card.keeping import HTML_FILE
from mlops_assets.registry.recipe import Recipe
from mlops_assets.serving.declared import ServingDeclarationError
from mlops_assets.serving.deployment import (
    DeployedFamily,
    DeployedVersion,
    Deployment,
    read_deployment,
    write_deployment,
)
from mlops_assets.serving.inference_log import InferenceLogError
from mlops_assets.serving.inputs import Policy
from mlops_assets.serving.routing import Contest, deployed_contests
from mlops_assets.serving.security.state_file import Report, StateFileError
from mlops_assets.serving.served import ModelRefusedError, load_served
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.training_set import select_features

_LOG = logging.getLogger(__name__)
_MODELS = "models"
_PASSING = (
    RegistryError,
    LakeError,
    FeatureError,
    StateFileError,
    ServingDeclarationError,
    InferenceLogError,
    OSError,
)
"""What may pass by itself; anything else is a bug and ends the process, which is started again."""


class CanaryWatch(Protocol):
    """Stops a challenger that answers worse: `CanaryMonitor`, or what asks another machine's."""

    def look(self, contests: Iterable[Contest]) -> object:
        """Look once, at what runs of the families that are deployed.

        Raises
        ------
        StateFileError
            When the switches cannot be read or changed.
        """
        ...


@dataclass
class Follower:
    """Brings the registry's aliases into the deployment file.

    Attributes
    ----------
    registry
        Says who is champion.
    lake
        Knows the types of the spine's columns.
    folder
        Holds the deployment file and the copies of models.
    canaries
        Stops a challenger that answers worse.
    report
        Is told once of a version that cannot serve.
    declared
        Returns what each family's `serving:` says now; a family it does not name is served as its
        champion was declared.
    views
        Reads the feature registry; None where no prediction is asked for by key.
    """

    registry: Registry
    lake: Lake
    folder: Path
    canaries: CanaryWatch
    report: Report
    declared: Callable[[], Mapping[str, dict[str, Any]]] = dict
    views: Callable[[], FeatureRegistry] | None = None
    _known_bad: set[str] = field(default_factory=set)
    _told: dict[str, str] = field(default_factory=dict)
    _unfinished: bool = False
    _settled: tuple[object, object, Deployment] | None = None

    def follow(
        self, every_seconds: float, stopped: Callable[[], bool], ship: Callable[[], object]
    ) -> None:
        """Look again and again until told to stop. What fails is tried again, the rest goes on.

        Parameters
        ----------
        every_seconds
            Pause between two looks.
        stopped
            Whether to stop.
        ship
            Brings the inference log into the lake.
        """
        troubles: dict[str, str] = {}
        while not stopped():
            # A registry that is away must not keep a bad canary running, nor a full lake either.
            for name, task in (
                ("registry", self.look),
                ("canaries", self._watch_canaries),
                ("inference log", ship),
            ):
                try:
                    task()
                    troubles.pop(name, None)
                except _PASSING as error:
                    if troubles.get(name) != str(error):
                        _LOG.error("%s: %s", name, error)
                        troubles[name] = str(error)
            time.sleep(every_seconds)

    def _watch_canaries(self) -> None:
        self.canaries.look(deployed_contests(self.folder).values())

    def look(self) -> bool:
        """Look once; return whether the deployment changed.

        Raises
        ------
        RegistryError
            When the registry cannot be read.
        """
        try:
            before = read_deployment(self.folder)
        except StateFileError as error:  # nobody else writes it: it is written again
            _LOG.error("%s", error)
            before = Deployment()
        # A family that the registry no longer lists goes on as it was: a store that was lost or
        # mistyped must not take the answers away.
        families = dict(before.families)
        serving = self.declared()
        aliases = self.registry.aliases()
        if self._settled == (aliases, serving, before) and self._all_there(before):
            return False  # most looks end here, after one question to the registry
        self._unfinished = False
        for name in aliases:
            found = self._family(name, before.families.get(name))
            if found is not None:
                changed = {"serving": serving[name]} if name in serving else {}
                declaration = {**found.declaration, **changed}
                families[name] = msgspec.structs.replace(found, declaration=declaration)
        after = Deployment(families)
        self._settled = None if self._unfinished else (aliases, serving, after)
        if after == before:
            return False
        write_deployment(self.folder, after)
        self._remove_unused(after, before)
        return True

    def _all_there(self, deployment: Deployment) -> bool:
        return all(
            (self.folder / version.folder).is_dir()
            for family in deployment.families.values()
            for version in (family.champion, family.challenger)
            if version is not None
        )

    def _family(self, name: str, before: DeployedFamily | None) -> DeployedFamily | None:
        roles = {
            alias: self.registry.find_or_none(ModelReference(name, alias=alias))
            for alias in (Alias.champion, Alias.challenger)
        }
        champion = self._deployed(roles[Alias.champion], before)
        if champion is None:
            return before  # nobody serves, or who should cannot: what served goes on
        current = roles[Alias.champion]
        if before is not None and before.champion == champion:
            declaration, spine = before.declaration, before.spine
        elif current is None:
            return before
        else:
            family = Recipe.of_run(self.registry.client, current.run_id).family
            declaration = family.model_dump(mode="json", exclude_unset=True)
            schema = self.lake.schema(TableName.parse(family.spine.table))
            columns = {*family.spine.entity, *family.spine.keep, *self._joined_by(family)}
            kept = pa.schema([each.remove_metadata() for each in schema if each.name in columns])
            spine = kept.serialize().to_pybytes()
        return DeployedFamily(
            declaration=declaration,
            spine=spine,
            champion=champion,
            challenger=self._deployed(roles[Alias.challenger], before),
        )

    def _joined_by(self, family: ModelFamily) -> set[str]:
        """Return the spine columns that features are looked up by; the log keeps them too."""
        if self.views is None:
            return set()
        try:
            selections = select_features(family, self.views())
        except FeatureError as error:  # it can still be asked by its features
            _LOG.warning("%s cannot be asked by key: %s", family.name, error)
            return set()
        return {mine for selection in selections for mine, _ in selection.keys}

    def _deployed(
        self, version: ModelVersion | None, before: DeployedFamily | None
    ) -> DeployedVersion | None:
        """Return a version as it can be deployed; None when there is none, or it cannot serve."""
        if version is None or str(version) in self._known_bad:
            return None
        known = () if before is None else (before.champion, before.challenger)
        for each in known:
            if each and each.version == version.version and (self.folder / each.folder).is_dir():
                return each
        folder = f"{_MODELS}/{version.family}/{version.version}"
        try:
            self._copy(version, self.folder / folder)
        except (RegistryError, ModelRefusedError) as error:
            if isinstance(error, ModelRefusedError):
                self._known_bad.add(str(version))
            else:
                self._unfinished = True  # a copy that failed is tried again
            if self._told.get(str(version)) != str(error):
                self._told[str(version)] = str(error)
                about = {"family": version.family, "version": version.version}
                self.report("model_refused", str(error), about)
            return None
        return DeployedVersion(
            version=version.version,
            folder=folder,
            threshold=version.threshold,
            candidate=version.candidate,
            algorithm=version.algorithm,
            registered_at=version.created_at.isoformat(),
            learnt_until=version.last_day.isoformat(),
            training_set=str(version.training_set),
            metrics=dict(version.metrics),
        )

    def _copy(self, version: ModelVersion, folder: Path) -> None:
        """Copy a model and its card, and see that the copy serves."""
        draft = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            self.registry.copy_model(version, draft)
            self.registry.copy_artifact(version, f"{CARD_FOLDER}/{HTML_FILE}", draft)
            load_served(version.family, version.version, draft, threshold=None, policy=Policy())
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _remove_unused(self, after: Deployment, before: Deployment) -> None:
        """Remove copies that neither this deployment nor the one before it names.

        A worker that is slow to notice may still be loading the one before.
        """
        used = {
            version.folder
            for deployment in (after, before)
            for family in deployment.families.values()
            for version in (family.champion, family.challenger)
            if version is not None
        }
        for folder in (self.folder / _MODELS).glob("*/*"):
            if str(folder.relative_to(self.folder)) not in used:
                shutil.rmtree(folder, ignore_errors=True)
