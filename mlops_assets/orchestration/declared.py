"""What all components share: their attributes are one Pydantic model, taken as it is.

Dagster's own `Resolvable` derives such a model from the component. Ours exist before it, because
the plain packages validate the same declarations without Dagster. What is said when a ``defs.yaml``
is wrong is in `mlops_assets.orchestration.defs_files`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import dagster as dg
from pydantic import BaseModel

from mlops_assets.declaration import Problem
from mlops_assets.lake import TableName
from mlops_assets.orchestration.daily import Days
from mlops_assets.orchestration.surroundings import Columns, Surroundings

Declaration = TypeVar("Declaration", bound=BaseModel)


class DeclaredComponent(dg.Component, Generic[Declaration]):
    """A component made from a declaration.

    Parameters
    ----------
    declaration
        The attributes of a ``defs.yaml``, validated by `declared_by`.
    """

    declared_by: ClassVar[type[BaseModel]]

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Name the model that a ``defs.yaml`` is validated by."""
        return cls.declared_by

    @classmethod
    def tables_of(cls, declaration: Any) -> Mapping[TableName, Columns]:
        """Return the lake tables that a declaration, or its readable part, makes."""
        del declaration
        return {}

    @classmethod
    def problems_of(cls, declaration: Any, around: Surroundings) -> Iterator[Problem]:
        """Say what is wrong with a declaration, or its readable part, given what else there is.

        Loading refuses what has a problem; `build_defs` need not look at it again.
        """
        del declaration, around
        return iter(())

    def daily_tables(self, project_root: Path) -> Mapping[TableName, Days]:
        """Return the lake tables it makes that are partitioned by day, and by which days.

        Parameters
        ----------
        project_root
            Folder of the project that declares it.
        """
        del project_root
        return {}

    @classmethod
    def load(cls, attributes: BaseModel | None, _context: dg.ComponentLoadContext) -> Self:
        """Make the component from its validated attributes."""
        if not isinstance(attributes, cls.declared_by):
            raise TypeError(f"{cls.__name__} takes {cls.declared_by.__name__}, got {attributes!r}")
        return cls(attributes)  # type: ignore[arg-type]  # an instance of declared_by, just checked
