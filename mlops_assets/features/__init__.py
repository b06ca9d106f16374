"""Feature views and point-in-time joins: what was known about an entity at a moment.

Here belongs everything about features that is neither SQL of one project (that is dbt's) nor a
model's business: reading feature views from the dbt manifest, finding them by name or meaning, and
joining them to a spine by `available_at`. Writing training sets belongs to ``training``.
"""

from mlops_assets.features.errors import (
    FeatureError,
    FeatureViewError,
    PointInTimeJoinError,
    UnknownFeatureError,
)
from mlops_assets.features.point_in_time import (
    column_lineage,
    latest_sql,
    point_in_time_join,
    point_in_time_sql,
)
from mlops_assets.features.registry import FeatureRegistry, SearchHit
from mlops_assets.features.selection import Selection, Spine
from mlops_assets.features.side_by_side import SideBySide, join_side_by_side
from mlops_assets.features.view import Feature, FeatureView

__all__ = [
    "Feature",
    "FeatureError",
    "FeatureRegistry",
    "FeatureView",
    "FeatureViewError",
    "PointInTimeJoinError",
    "SearchHit",
    "Selection",
    "SideBySide",
    "Spine",
    "UnknownFeatureError",
    "column_lineage",
    "join_side_by_side",
    "latest_sql",
    "point_in_time_join",
    "point_in_time_sql",
]
