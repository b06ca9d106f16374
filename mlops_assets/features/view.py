"""A feature view and its features: plain values, however they were declared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlops_assets.features.duration import format_duration
from mlops_assets.features.errors import UnknownFeatureError, nearest
from mlops_assets.lake import TableName

if TYPE_CHECKING:
    from mlops_assets.features.selection import Selection


@dataclass(frozen=True)
class Feature:
    """One column of a feature view.

    Attributes
    ----------
    name
        Column name, unique in its view.
    type
        SQL data type as the dbt model declares it, such as ``DOUBLE``.
    description
        What the value means, with its unit.
    """

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class FeatureView:
    """A dbt model of features: one row per entity, event and version of what was known of it.

    ``(entity, event_time, available_at)`` is its key. A correction is one more row with the same
    entity and ``event_time`` and a later ``available_at``.

    Attributes
    ----------
    name
        The dbt model's name, unique in a registry.
    table
        The lake table the model is published to.
    entity
        Columns that say what the features are about.
    event_time
        Column with the time that a row describes.
    available_at
        Column with the time from which a row could be known.
    ttl
        A value whose ``event_time`` lies further back than this counts as missing; None: never.
    owner
        Who answers for the view.
    description
        What the view holds.
    features
        Its features, in the model's order.
    source
        The YAML file that declares it.
    knowledge_ordered
        Whether a test guarantees that, within an entity, nothing becomes known later than, or
        together with, a later event. Joins then need not look for such rows.
    """

    name: str
    table: TableName
    entity: tuple[str, ...]
    event_time: str
    available_at: str
    ttl: timedelta | None
    owner: str
    description: str
    features: tuple[Feature, ...]
    source: str = ""
    knowledge_ordered: bool = False

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the model's order."""
        return tuple(feature.name for feature in self.features)

    def feature(self, name: str) -> Feature:
        """Return a feature by name.

        Raises
        ------
        UnknownFeatureError
            With the nearest name, if there is none of this name.
        """
        for feature in self.features:
            if feature.name == name:
                return feature
        raise UnknownFeatureError(
            f"feature view {self.name} ({self.source or self.table}) has no feature {name!r}; "
            f"{nearest(name, self.feature_names)}"
        )

    def select(
        self,
        features: Iterable[str] | None = None,
        *,
        entity: Mapping[str, str] | None = None,
        prefix: str = "",
    ) -> "Selection":
        """Choose features of this view for a point-in-time join; see `Selection`.

        Parameters
        ----------
        features
            Feature names; None for all.
        entity
            Spine column to entity column of this view, where the names differ.
        prefix
            Put before each output column's name.

        Raises
        ------
        UnknownFeatureError
            If a feature or entity column does not exist.
        PointInTimeJoinError
            If a feature or entity column is named twice.
        """
        from mlops_assets.features.selection import Selection

        names = self.feature_names if features is None else tuple(features)
        return Selection(self, names, dict(entity or {}), prefix)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; ``ttl`` as an ISO-8601 duration."""
        return {
            "name": self.name,
            "table": str(self.table),
            "description": self.description,
            "owner": self.owner,
            "entity": list(self.entity),
            "event_time": self.event_time,
            "available_at": self.available_at,
            "ttl": None if self.ttl is None else format_duration(self.ttl),
            "source": self.source,
            "knowledge_ordered": self.knowledge_ordered,
            "features": [
                {"name": f.name, "type": f.type, "description": f.description}
                for f in self.features
            ],
        }
