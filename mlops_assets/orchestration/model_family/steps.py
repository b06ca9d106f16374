"""What the steps of a family share: keys, specs, checks, and the platform they run on."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from mlops_assets.lake import TableVersion
from mlops_assets.orchestration import metadata as asset_metadata
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.training.family import ModelFamily

Checks = Mapping[str, tuple[str, bool]]
"""Name of a check to what it says and whether it blocks what comes after."""


def training_set_key(family: ModelFamily) -> dg.AssetKey:
    """Return the asset of a family's training set."""
    return asset_metadata.asset_key(family.training_set)


def key_of(family: ModelFamily, name: str) -> dg.AssetKey:
    """Return the asset of a family by its own name: a candidate, `evaluation`, `champion`."""
    return dg.AssetKey([family.name, name])


def search_key(family: ModelFamily, candidate: str) -> dg.AssetKey:
    """Return the asset of the search of a candidate's parameters."""
    return key_of(family, f"{candidate}_search")


def spec_of(
    family: ModelFamily,
    key: dg.AssetKey,
    description: str,
    *,
    fail_after: timedelta | None = None,
    **attributes: Any,
) -> dg.AssetSpec:
    """Describe one asset of a family, with what all of them share.

    Parameters
    ----------
    family, key, description
        What it is.
    fail_after
        Age at which it is stale. Default: that at which the champion is.
    attributes
        Further ones of `dagster.AssetSpec`.
    """
    return dg.AssetSpec(
        key=key,
        description=description,
        group_name=family.name,
        owners=list(family.owners),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=fail_after or family.retraining.max_age
        ),
        **attributes,
    )


def family_step(
    family: ModelFamily, specs: Sequence[dg.AssetSpec], checks: Mapping[dg.AssetKey, Checks]
) -> Callable[[Callable[..., Iterator[Any]]], dg.AssetsDefinition]:
    """Define a step that makes one or more assets of a family, with their checks.

    Any range of days of partitioned ones is made by one run.
    """
    return dg.multi_asset(
        name="__".join(specs[0].key.path),
        specs=list(specs),
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, description=description, blocking=blocking)
            for key, named in checks.items()
            for name, (description, blocking) in named.items()
        ],
        backfill_policy=dg.BackfillPolicy.single_run() if specs[0].partitions_def else None,
        required_resource_keys={RESOURCE_KEY},
        op_tags={"mlops/family": family.name},
    )


def platform_of(context: dg.AssetExecutionContext) -> Platform:
    """Return the platform that a step runs on."""
    platform: Platform = getattr(context.resources, RESOURCE_KEY)
    return platform


def newest_training_set(platform: Platform, family: ModelFamily) -> TableVersion:
    """Return the version of the training set that is the latest now."""
    table = family.training_set
    return TableVersion(table, platform.lake.version(table))


def hash_of(family: ModelFamily, *keys: str) -> str:
    """Hash the part of a declaration that an asset depends on."""
    return hash_text(family.model_dump_json(include=set(keys)))


def hash_text(text: str) -> str:
    """Hash a text into a short code version."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
