"""What is known about the assets: last materialisations, freshness, checks, days that are missing.

Runs, events and checks are Dagster's to tell. What the tables hold is the lake's, which may be
older or younger than Dagster's memory; where the two differ, it is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from mlops_assets.ingestion import Loads, table_loads
from mlops_assets.lake import Lake, TableName
from mlops_assets.orchestration.instance import open_instance
from mlops_assets.orchestration.loop import ON_DEMAND
from mlops_assets.settings import Settings


@dataclass(frozen=True)
class FailingCheck:
    """A check whose last evaluation failed, or never came because its run failed first.

    Attributes
    ----------
    name
        The check.
    severity
        ``ERROR``, or ``WARN`` where the asset was made all the same.
    reason
        What it said; empty where it said nothing.
    """

    name: str
    severity: str
    reason: str


@dataclass(frozen=True)
class AssetHealth:
    """The state of one asset.

    Attributes
    ----------
    materialised_at
        When it was last made; ``None``: never, as far as Dagster knows.
    freshness
        ``PASS``, ``WARN``, ``FAIL``; ``UNKNOWN`` while the daemon has not evaluated it;
        ``NOT_APPLICABLE`` without a policy.
    checks
        How many checks it has; those that are run on demand count once they have been.
    failing_checks
        Those whose last evaluation failed, or was prevented by the failure of its run.
    unevaluated_checks
        How many have never run.
    unrecorded
        Whether its table is in the lake while Dagster knows of no run that made it: the lake was
        brought here from elsewhere, or Dagster's own storage was lost.
    """

    asset: str
    group: str
    materialised_at: datetime | None
    freshness: str
    checks: int
    failing_checks: tuple[FailingCheck, ...]
    unevaluated_checks: int
    unrecorded: bool


def assets_health(defs: dg.Definitions, settings: Settings, lake: Lake) -> Sequence[AssetHealth]:
    """Read the state of every asset that the definitions declare, by group and name."""
    with open_instance(settings) as instance:
        return graph_health(defs.resolve_asset_graph(), instance, lake)


def graph_health(
    graph: BaseAssetGraph[Any], instance: dg.DagsterInstance, lake: Lake
) -> Sequence[AssetHealth]:
    """Read the state of every asset of a graph, by group and name."""
    keys = sorted(graph.materializable_asset_keys, key=lambda k: (graph.get(k).group_name, k.path))
    check_keys = list(graph.asset_check_keys)
    records = {r.asset_entry.asset_key: r.asset_entry for r in instance.get_asset_records(keys)}
    freshness = instance.get_freshness_state_records(keys)
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(check_keys)
    failing = _failing(instance, checks)
    in_lake = {str(name) for name in lake.tables()}
    health = []
    for key in keys:
        entry = records.get(key)
        made = entry.last_materialization if entry else None
        own = [
            check
            for check in check_keys
            if check.asset_key == key and (check in checks or check.name not in ON_DEMAND)
        ]
        state = freshness.get(key)
        health.append(
            AssetHealth(
                asset=key.to_user_string(),
                group=graph.get(key).group_name or "",
                materialised_at=datetime.fromtimestamp(made.timestamp, UTC) if made else None,
                freshness=state.freshness_state.value if state else "UNKNOWN",
                checks=len(own),
                failing_checks=tuple(failing[check] for check in own if check in failing),
                unevaluated_checks=sum(check not in checks for check in own),
                unrecorded=made is None and key.to_user_string() in in_lake,
            )
        )
    return health


def raw_table_loads(defs: dg.Definitions, lake: Lake) -> Sequence[Loads]:
    """Tell how complete each raw table is that the definitions declare, by name."""
    tables = sorted(
        TableName(*spec.key.path) for spec in defs.resolve_all_asset_specs() if _is_raw(spec)
    )
    return [table_loads(lake, table) for table in tables]


def _is_raw(spec: dg.AssetSpec) -> bool:
    return "contract" in spec.metadata


def _failing(
    instance: dg.DagsterInstance,
    checks: Mapping[dg.AssetCheckKey, AssetCheckExecutionRecord],
) -> dict[dg.AssetCheckKey, FailingCheck]:
    """Return the checks that failed, or that a run planned and ended without evaluating."""
    planned = [
        record
        for record in checks.values()
        if record.status is AssetCheckExecutionRecordStatus.PLANNED
    ]
    runs = (
        {
            run.run_id: run
            for run in instance.get_runs(
                filters=dg.RunsFilter(run_ids=[record.run_id for record in planned])
            )
        }
        if planned
        else {}
    )
    found = {}
    for key, record in checks.items():
        evaluation = record.evaluation
        if record.status is AssetCheckExecutionRecordStatus.FAILED and evaluation is not None:
            found[key] = FailingCheck(
                key.name, evaluation.severity.value, evaluation.description or ""
            )
        elif record in planned and (run := runs.get(record.run_id)) and run.is_finished:
            reason = f"not evaluated: run {run.run_id[:8]} ended as {run.status.value}"
            found[key] = FailingCheck(key.name, dg.AssetCheckSeverity.ERROR.value, reason)
    return found
