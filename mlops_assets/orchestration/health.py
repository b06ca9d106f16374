"""What the Dagster instance knows about the assets: last materialisations, freshness, checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from mlops_assets.orchestration.instance import open_instance
from mlops_assets.settings import Settings


@dataclass(frozen=True)
class AssetHealth:
    """The state of one asset.

    Attributes
    ----------
    materialised_at
        When it was last made; ``None``: never.
    freshness
        ``PASS``, ``WARN``, ``FAIL``; ``UNKNOWN`` while the daemon has not evaluated it;
        ``NOT_APPLICABLE`` without a policy.
    checks
        How many checks it has.
    failing_checks
        Names of those whose last evaluation failed.
    unevaluated_checks
        How many have never run.
    """

    asset: str
    group: str
    materialised_at: datetime | None
    freshness: str
    checks: int
    failing_checks: tuple[str, ...]
    unevaluated_checks: int


def assets_health(defs: dg.Definitions, settings: Settings) -> Sequence[AssetHealth]:
    """Read the state of every asset that the definitions declare, by group and name."""
    graph = defs.resolve_asset_graph()
    keys = sorted(graph.materializable_asset_keys, key=lambda k: (graph.get(k).group_name, k.path))
    check_keys = list(graph.asset_check_keys)
    with open_instance(settings) as instance:
        records = {r.asset_entry.asset_key: r.asset_entry for r in instance.get_asset_records(keys)}
        freshness = instance.get_freshness_state_records(keys)
        checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(check_keys)
    health = []
    for key in keys:
        entry = records.get(key)
        made = entry.last_materialization if entry else None
        own = [check for check in check_keys if check.asset_key == key]
        failing = [
            check.name
            for check in own
            if check in checks and checks[check].status is AssetCheckExecutionRecordStatus.FAILED
        ]
        state = freshness.get(key)
        health.append(
            AssetHealth(
                asset=key.to_user_string(),
                group=graph.get(key).group_name or "",
                materialised_at=datetime.fromtimestamp(made.timestamp, UTC) if made else None,
                freshness=state.freshness_state.value if state else "UNKNOWN",
                checks=len(own),
                failing_checks=tuple(failing),
                unevaluated_checks=sum(check not in checks for check in own),
            )
        )
    return health
