"""What a declaration may name: everything else that a project declares, and what the lake holds.

It is made of the declarations alone, of their valid parts where some are wrong; nothing is built.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mlops_assets.features import FeatureRegistry
from mlops_assets.features.manifest import FeatureViewProblem, examine_feature_views
from mlops_assets.lake import Lake, TableName
from mlops_assets.transform.project import DbtProject, DbtProjectError, project_at

DBT_FOLDER = "dbt_project"

Columns = tuple[str, ...] | None
"""Names of a table's columns; None where they are not known before it exists."""


@dataclass(frozen=True)
class Surroundings:
    """What there is around a declaration.

    Attributes
    ----------
    tables
        Every table that something declares, with its columns.
    families
        Names of the declared model families.
    lake
        Holds tables that nothing declares; asked only for those.
    views
        Every feature view that is declared rightly.
    wrong_views
        What is wrong with the others.
    dbt_error
        What dbt says where it refuses the project; then no feature view is known.
    """

    tables: Mapping[TableName, Columns]
    families: tuple[str, ...]
    lake: Lake
    views: FeatureRegistry = field(default_factory=lambda: FeatureRegistry(()))
    wrong_views: tuple[FeatureViewProblem, ...] = ()
    dbt_error: str = ""

    @classmethod
    def of(
        cls,
        project_root: Path,
        lake: Lake,
        tables: Mapping[TableName, Columns],
        families: Iterable[str],
    ) -> Self:
        """Add to what the components declare what dbt does.

        Parameters
        ----------
        project_root
            Folder with the dbt project, if there is one.
        lake
            The deployment's.
        tables, families
            What the components declare.
        """
        named = tuple(families)
        project = project_at(project_root / DBT_FOLDER)
        if not project.folder.is_dir():
            return cls(tables, named, lake)
        try:
            views, wrong = examine_feature_views(project.manifest)
        except DbtProjectError as error:
            return cls(tables, named, lake, dbt_error=str(error))
        return cls(
            {**tables, **tables_of(project)}, named, lake, FeatureRegistry(views), tuple(wrong)
        )

    def has(self, table: TableName) -> bool:
        """Whether a table is declared, or stands in the lake without being."""
        return table in self.tables or self.lake.exists(table)

    def columns(self, table: TableName) -> Columns:
        """Return the columns of a table, as they are declared, or as they are in the lake."""
        if table not in self.tables:
            return tuple(self.lake.schema(table).names) if self.lake.exists(table) else None
        return self.tables[table]


def tables_of(project: DbtProject) -> dict[TableName, Columns]:
    """Return the tables that a dbt project makes; without columns where it declares none."""
    return {model.table: tuple(model.columns) or None for model in project.models.values()}
