"""Requests by key: what was known about an entity, as the model takes it, and how old it is."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlops_assets.features.errors import FeatureError
from mlops_assets.features.online import (
    EntityValueError,
    FeatureLookup,
    LookedUp,
    OnlineStore,
    OnlineStoreError,
    SpineTable,
    Status,
    open_online_store,
)
from mlops_assets.features.online.layout import instant
from mlops_assets.features.registry import FeatureRegistry
from mlops_assets.lake import Lake, LakeError, TableName
from mlops_assets.serving.decoding import Entities
from mlops_assets.serving.families import Family, Lane
from mlops_assets.serving.inputs import Inputs, invalid
from mlops_assets.serving.predicting import Found
from mlops_assets.serving.security.problems import FieldProblem, OverloadedError
from mlops_assets.settings import Settings
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.training_set import select_features

_LOG = logging.getLogger(__name__)
_SHOWN_STALE = 20


class FeatureLookups:
    """Finds features for all families of a worker. Opened when the first request by key comes.

    Parameters
    ----------
    settings
        Where the store, the lake and the dbt project are.
    views
        Reads the feature registry.
    """

    def __init__(self, settings: Settings, views: Callable[[], FeatureRegistry]) -> None:
        self._settings = settings
        self._views = views
        self._lock = threading.Lock()
        self._opened: tuple[OnlineStore, Lake, FeatureRegistry] | None = None
        self._made: dict[str, tuple[ModelFamily, FeatureLookup]] = {}

    def find(self, lane: Lane, family: Family, wanted: Entities) -> Found:
        """Find the features of entities.

        Raises
        ------
        InvalidRequestError
            When an entity is unknown or misses a column, or its features are too old.
        OverloadedError
            When store and lake cannot be read now.
        """
        declared = family.declaration
        try:
            lookup = self._lookup(declared)
            _require_known(wanted, declared, lookup)
            found = lookup.rows(wanted.keys, wanted.as_of)
        except (OnlineStoreError, LakeError) as error:
            _LOG.error("features of %s cannot be looked up: %s", declared.name, error)
            raise OverloadedError("features cannot be looked up now", after=5) from error
        except EntityValueError as error:
            where = f"entities[{error.row}].{error.column}"
            kind = "wrong value" if error.column in wanted.keys[error.row] else "missing"
            expected = f"a value of {error.column} as {declared.spine.table} has it"
            raise invalid(
                "entities cannot be found so", [FieldProblem(where, kind, expected)]
            ) from None
        except (FeatureError, ValueError) as error:
            raise invalid(
                f"the features of {declared.name} cannot be looked up: {error}"
            ) from error
        if found.unknown:
            expected = (
                f"the key of a row of {declared.spine.table}: {', '.join(declared.spine.entity)}"
            )
            raise invalid(
                "these entities are not known; give the spine's columns instead of a key "
                "for one that is in no table yet",
                [FieldProblem(f"entities[{row}]", "unknown", expected) for row in found.unknown],
            )
        stale = _stale(found)
        if stale and declared.serving.stale_features == "refuse":
            raise invalid("features are older than their view allows", stale)
        return Found(
            inputs=_inputs(found, lane),
            source=found.source,
            as_of=found.as_of,
            entity={name: found.spine[name] for name in family.spine.names if name in found.spine},
            versions=found.versions,
            freshness=_freshness(found),
            warnings=[f"{each.field}: {each.kind}" for each in stale[:_SHOWN_STALE]],
        )

    def _lookup(self, family: ModelFamily) -> FeatureLookup:
        made = self._made.get(family.name)
        if made is not None and made[0] == family:
            return made[1]
        with self._lock:
            if self._opened is None:
                lake = Lake.from_settings(self._settings)
                self._opened = open_online_store(self._settings), lake, self._views()
            store, lake, views = self._opened
            spine = SpineTable(
                TableName.parse(family.spine.table),
                family.spine.entity,
                family.spine.prediction_time,
                family.spine.filter,
            )
            lookup = FeatureLookup(store, lake, spine, select_features(family, views))
            self._made[family.name] = family, lookup
            return lookup


def _require_known(wanted: Entities, family: ModelFamily, lookup: FeatureLookup) -> None:
    """Refuse a column that says nothing: misspelt, it would be answered as if it were not there."""
    spine = family.spine
    known = dict.fromkeys((*spine.entity, *lookup.joined_by, spine.prediction_time, *spine.keep))
    unknown = [
        FieldProblem(f"entities[{row}].{name[:100]}", "unknown", f"one of {', '.join(known)}")
        for row, key in enumerate(wanted.keys)
        for name in key
        if name not in known
    ]
    if unknown:
        raise invalid("an entity has columns that are not looked at", unknown)


def _inputs(found: LookedUp, lane: Lane) -> Inputs:
    schema = lane.model.estimator.schema
    if lacking := [name for name in schema.names if name not in found.columns]:
        raise invalid(
            f"{lane.model} takes features that its feature views no longer have: "
            f"{', '.join(lacking)}; send the features themselves, or train its successor"
        )
    numbers = np.empty((len(found.as_of), len(schema.numeric)), np.float32)
    for place, name in enumerate(schema.numeric):
        numbers[:, place] = np.array(found.columns[name], np.float32)
    return Inputs(numbers, tuple(found.columns[name] for name in schema.categorical))


def _stale(found: LookedUp) -> list[FieldProblem]:
    """Return the views whose value of some row is older than their ttl."""
    return [
        FieldProblem(
            f"entities[{row}].{view.label}",
            f"{view.ages[row] or 0:.0f} s old, so that it counts as missing",
            "a value within the view's ttl",
        )
        for view in found.views
        for row, status in enumerate(view.statuses)
        if status is Status.expired
    ]


def _freshness(found: LookedUp) -> Sequence[Mapping[str, Any]]:
    """Return, for each row, how old each view's values are and which table version they are of."""
    return [
        {
            view.label: {
                "table_version": view.version,
                "status": str(view.statuses[row]),
                "event_time": _text(view.event_times[row]),
                "available_at": _text(view.available_ats[row]),
                "age_seconds": view.ages[row],
                "from": "offline" if row in view.from_lake else "online",
            }
            for view in found.views
        }
        for row in range(len(found.as_of))
    ]


def _text(moment: int | None) -> str | None:
    return None if moment is None else instant(moment).isoformat()
