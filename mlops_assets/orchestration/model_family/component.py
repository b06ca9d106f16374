"""The component itself: which assets a declaration gives."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.declaration import Problem
from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import TableName
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.model_family.challenging import challenger, documentation
from mlops_assets.orchestration.model_family.checking import family_problems
from mlops_assets.orchestration.model_family.judging import champion, evaluation
from mlops_assets.orchestration.model_family.learning import candidate, search, training_set
from mlops_assets.orchestration.model_family.retraining import retraining_defs
from mlops_assets.orchestration.surroundings import DBT_FOLDER, Columns, Surroundings
from mlops_assets.training.family import ModelFamily
from mlops_assets.transform.project import project_at


class ModelFamilyAssets(DeclaredComponent[ModelFamily]):
    """A model family: training set, searches, candidates, evaluation, champion; job and sensor."""

    declared_by = ModelFamily

    @classmethod
    def tables_of(cls, declaration: Any) -> Mapping[TableName, Columns]:
        """Return the training set; its columns are those of what it is made of."""
        return {declaration.training_set: None}

    @classmethod
    def problems_of(cls, declaration: Any, around: Surroundings) -> Iterator[Problem]:
        """Say what the family names that does not exist."""
        return family_problems(declaration, around)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Give the family's assets and checks, its training job and its retraining sensor."""
        project = project_at(Path(context.project_root) / DBT_FOLDER)
        views = FeatureRegistry.from_manifest(project.manifest)
        family = self.declaration
        searched = [declared for declared in family.candidates if declared.search is not None]
        assets = [
            training_set(family, views),
            *(search(family, declared) for declared in searched),
            *(candidate(family, declared) for declared in family.candidates),
            evaluation(family),
            challenger(family),
            documentation(family, views),
            champion(family),
        ]
        return dg.Definitions.merge(dg.Definitions(assets=assets), retraining_defs(family, assets))
