"""What a point-in-time join is asked for: a spine, and features of views for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlops_assets.features.errors import PointInTimeJoinError, UnknownFeatureError, nearest
from mlops_assets.features.view import FeatureView

AVAILABLE_AT_SUFFIX = "__available_at"
"""Ends the name of the output column with the ``available_at`` of the value that was used."""


@dataclass(frozen=True)
class Spine:
    """One row per entity and prediction time: what a model is to score.

    Attributes
    ----------
    relation
        Table or view in the DuckDB session, as ``name``, ``schema.name`` or
        ``catalog.schema.name``. A part in double quotes may itself hold dots.
    entity_columns
        Its columns that feature views are joined by.
    prediction_time
        Its column with the instant at which each prediction is made.
    """

    relation: str
    entity_columns: tuple[str, ...]
    prediction_time: str = "prediction_time"


@dataclass(frozen=True)
class Selection:
    """Features of one view, for one role that the view's entity plays in the spine.

    A view may be selected more than once, under different prefixes: the airport of origin and of
    destination.

    Attributes
    ----------
    view
        Where the features come from.
    features
        Their names.
    entity
        Spine column to the view's entity column. An entity column that is not in it is joined to
        the spine's column of the same name.
    prefix
        Put before each output column's name.

    Raises
    ------
    UnknownFeatureError
        If a feature or entity column does not exist in the view.
    PointInTimeJoinError
        If no feature is named, or a feature or entity column is named twice.
    """

    view: FeatureView
    features: tuple[str, ...]
    entity: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    def __post_init__(self) -> None:
        if not self.features:
            raise PointInTimeJoinError(
                f"no feature of view {self.view.name} is selected; name some of "
                f"{', '.join(self.view.feature_names)}"
            )
        for name in self.features:
            self.view.feature(name)
        for column in self.entity.values():
            if column not in self.view.entity:
                raise UnknownFeatureError(
                    f"feature view {self.view.name} has no entity column {column!r}; "
                    f"{nearest(column, self.view.entity)}"
                )
        for what, names in (
            ("feature", self.features),
            ("entity column", tuple(self.entity.values())),
        ):
            if repeated := repeated_names(names):
                raise PointInTimeJoinError(
                    f"view {self.view.name}: {what} {repeated[0]!r} is named twice; once is enough"
                )

    @property
    def label(self) -> str:
        """What this selection is called in a statement: the view's name after the prefix."""
        return f"{self.prefix}{self.view.name}"

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Pairs of spine column and entity column of the view, in the order of the view."""
        spine_column = {column: spine for spine, column in self.entity.items()}
        return tuple((spine_column.get(column, column), column) for column in self.view.entity)

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of output column and the view's column it shows, ``available_at`` last."""
        return (
            *((f"{self.prefix}{name}", name) for name in self.features),
            (f"{self.label}{AVAILABLE_AT_SUFFIX}", self.view.available_at),
        )


def repeated_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that occur more than once; as in SQL, upper and lower case do not differ."""
    counts = Counter(name.casefold() for name in names)
    return tuple(sorted(name for name, count in counts.items() if count > 1))
