"""``mlops status``: champions, metrics, tables, checks and freshness, at a glance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlops_assets.orchestration.health import AssetHealth
    from mlops_assets.settings import Settings

_SHOWN_METRICS = ("roc_auc", "average_precision", "log_loss", "brier")


@dataclass(frozen=True)
class Status:
    """Everything that `mlops status` shows.

    Attributes
    ----------
    tables
        Name, version, rows and bytes of each lake table.
    models
        For each family its newest candidates' test metrics with their intervals.
    champions
        Family to version and the ledger's last words on it.
    assets
        State of each asset.
    reports
        Evaluation reports, by family.
    """

    tables: Sequence[Mapping[str, Any]]
    models: Sequence[Mapping[str, Any]]
    champions: Sequence[Mapping[str, Any]]
    assets: "Sequence[AssetHealth]"
    reports: Mapping[str, Path]


def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show champions, metrics, table versions, freshness and failing checks."""
    from mlops_assets.settings import current_settings

    print_status(read_status(current_settings()), as_json=as_json)


def read_status(settings: "Settings") -> Status:
    """Gather the state of this deployment from the lake, the registry and Dagster."""
    from mlops_assets.definitions import build_defs
    from mlops_assets.lake import Lake
    from mlops_assets.orchestration.health import assets_health
    from mlops_assets.registry import ModelReference, Registry
    from mlops_assets.registry.ledger import read as read_ledger
    from mlops_assets.registry.names import Alias

    lake = Lake.from_settings(settings)
    tables = [
        {"table": str(i.name), "version": i.version, "rows": i.rows, "MB": i.bytes / 1e6}
        for i in map(lake.describe, lake.tables())
    ]
    registry = Registry.from_settings(settings, lake)
    families = registry.families()
    models: list[Mapping[str, Any]] = []
    champions: list[Mapping[str, Any]] = []
    for family in families:
        models += [
            {
                "family": family,
                "candidate": candidate.name,
                **{m: _interval(candidate.metrics, f"test_{m}") for m in _SHOWN_METRICS},
            }
            for candidate in registry.candidates(family)
        ]
        champion = registry.find_or_none(ModelReference(family, alias=Alias.champion))
        entries = read_ledger(lake, family)
        champions.append(
            {
                "family": family,
                "champion": str(champion) if champion else "nobody yet",
                "algorithm": champion.algorithm if champion else None,
                "trained on": str(champion.training_set) if champion else None,
                "last decision": entries[-1].reason if entries else None,
            }
        )
    reports = {
        family: path
        for family in families
        if (path := settings.home / "reports" / f"{family}.html").exists()
    }
    return Status(tables, models, champions, assets_health(build_defs(settings), settings), reports)


def _interval(metrics: Mapping[str, float], name: str) -> str | None:
    if name not in metrics:
        return None
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    return f"{metrics[name]:.3f}{interval}"


def print_status(found: Status, *, as_json: bool) -> None:
    """Print what was found, for people or as JSON."""
    from mlops_assets.cli.output import console, print_json, print_table

    if as_json:
        print_json(asdict(found))
        return
    print_table("Tables", found.tables, empty="none yet; `mlops demo` makes them")
    print_table("Models on untouched rows (95 % interval)", found.models, empty="none yet")
    print_table("Champions", found.champions, empty="none yet")
    made = [asset for asset in found.assets if asset.materialised_at]
    stale = [asset.asset for asset in found.assets if asset.freshness == "FAIL"]
    checks = sum(asset.checks for asset in found.assets)
    unevaluated = sum(asset.unevaluated_checks for asset in found.assets)
    failing = [f"{asset.asset}: {name}" for asset in found.assets for name in asset.failing_checks]
    console.print(f"Assets: {len(made)} of {len(found.assets)} materialised, {len(stale)} stale")
    console.print(f"Checks: {checks - unevaluated} of {checks} evaluated, {len(failing)} failing")
    for line in failing:
        console.print(f"  [yellow]![/yellow] {line}", highlight=False)
    for name in stale:
        console.print(f"  [yellow]stale[/yellow] {name}", highlight=False)
    console.print("\nWhere to look next:")
    for family, path in found.reports.items():
        console.print(f"  {family} evaluation report: {path}", highlight=False, soft_wrap=True)
    console.print("  `mlops up`                      lineage in Dagster's UI, runs in MLflow's")
    console.print('  `mlops sql "from raw.flights"`  the lake in SQL')
