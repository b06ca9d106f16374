"""The online store: latest feature values per entity, for requests that cannot wait for a join.

Here belongs what stores such values, fills them from the lake, looks them up for a request, and
finds out whether what was served is what the lake says. What a value means at a moment is the same
as in a training set: `mlops_assets.features.point_in_time`. Serving itself belongs to ``serving``.
"""

from mlops_assets.features.online.asking import AsOf, Entities
from mlops_assets.features.online.errors import (
    EntityValueError,
    OnlineStoreError,
    OnlineStoreUnavailableError,
)
from mlops_assets.features.online.filling import FillProgress, fill
from mlops_assets.features.online.layout import Layout, SpineTable, ViewState
from mlops_assets.features.online.looked_up import LookedUp, Status, ViewLookup
from mlops_assets.features.online.lookup import FeatureLookup, LookupPolicy
from mlops_assets.features.online.offline import OfflineLookup
from mlops_assets.features.online.skew import (
    FeatureSkew,
    SkewError,
    SkewExample,
    SkewReport,
    find_skew,
)
from mlops_assets.features.online.store import OnlineStore, open_online_store

__all__ = [
    "AsOf",
    "Entities",
    "EntityValueError",
    "FeatureLookup",
    "FeatureSkew",
    "FillProgress",
    "Layout",
    "LookedUp",
    "LookupPolicy",
    "OfflineLookup",
    "OnlineStore",
    "OnlineStoreError",
    "OnlineStoreUnavailableError",
    "SkewError",
    "SkewExample",
    "SkewReport",
    "SpineTable",
    "Status",
    "ViewLookup",
    "ViewState",
    "fill",
    "find_skew",
    "open_online_store",
]
