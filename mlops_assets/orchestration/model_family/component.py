"""The component itself: which assets a declaration gives."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.declaration import Problem
from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import TableName
from mlops_assets.orchestration.daily import Days
from mlops_assets.orchestration.declared import DeclaredComponent
from mlops_assets.orchestration.model_family.challenging import challenger, documentation
from mlops_assets.orchestration.model_family.checking import family_problems
from mlops_assets.orchestration.model_family.judging import champion, evaluation
from mlops_assets.orchestration.model_family.learning import candidate, search, training_set
from mlops_assets.orchestration.model_family.monitoring import monitoring
from mlops_assets.orchestration.model_family.predicting import predictions
from mlops_assets.orchestration.model_family.retraining import retraining_defs
from mlops_assets.orchestration.model_family.rolling_back import rollback_decision, rollback_defs
from mlops_assets.orchestration.model_family.watching import watching_defs
from mlops_assets.orchestration.surroundings import DBT_FOLDER, Columns, Surroundings
from mlops_assets.training.family import ModelFamily
from mlops_assets.transform.project import project_at


class ModelFamilyAssets(DeclaredComponent[ModelFamily]):
    """A model family, from its training set to its champion, and what it does day by day.

    Of a family whose spine is partitioned by day, or that says from when on it is watched, there
    are predictions, drift, performance and retraining decisions as well.
    """

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
        """Give the family's assets and checks, its jobs and its sensors."""
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
        days = self._days(context)
        return dg.Definitions.merge(
            dg.Definitions(assets=assets),
            retraining_defs(family, assets),
            rollback_defs(family),
            *([watched(family, views, days)] if days is not None else []),
        )

    def _days(self, context: dg.ComponentLoadContext) -> Days | None:
        """Return the days that the family is watched by; None where nothing says which."""
        family, start = self.declaration, self.declaration.monitoring.start
        kinds: Any = DeclaredComponent  # abstract; those found are not
        declared: list[DeclaredComponent[Any]] = context.component_tree.get_all_components(kinds)
        root = Path(context.project_root)
        daily = {
            table: days for each in declared for table, days in each.daily_tables(root).items()
        }
        days = daily.get(TableName.parse(family.spine.table))
        if days is None:
            return None if start is None else Days(start=start)
        return days if start is None else days.model_copy(update={"start": start})


def watched(family: ModelFamily, views: FeatureRegistry, days: Days) -> dg.Definitions:
    """Give the assets, the job and the sensor that watch a family day by day."""
    assets = [predictions(family, views, days), monitoring(family, views, days)]
    if family.rollback.metric_drop is not None:
        assets.append(rollback_decision(family, views, days))
    return watching_defs(family, days, assets)
