"""``mlops status``: champions, metrics, tables, checks and freshness, at a glance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlops_assets.orchestration.health import AssetHealth
    from mlops_assets.registry import Registry
    from mlops_assets.settings import Settings

_SHOWN_METRICS = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}


@dataclass(frozen=True)
class FamilyStatus:
    """The state of one model family.

    Attributes
    ----------
    champion, algorithm, training_set
        Who serves, and what it is; ``None`` while nobody does.
    last_decision
        The ledger's newest line.
    candidates
        Newest run of each candidate: its metrics and the ends of their intervals, by flat name.
    report
        The evaluation report, if there is one.
    """

    family: str
    champion: str | None
    algorithm: str | None
    training_set: str | None
    last_decision: str | None
    candidates: Mapping[str, Mapping[str, float]]
    report: Path | None


@dataclass(frozen=True)
class Status:
    """Everything that `mlops status` shows.

    Attributes
    ----------
    tables
        Name, version, rows and size of each lake table.
    families
        State of each model family.
    assets
        State of each asset.
    """

    tables: Sequence[Mapping[str, Any]]
    families: Sequence[FamilyStatus]
    assets: "Sequence[AssetHealth]"


def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show champions, metrics, table versions, freshness and failing checks."""
    from mlops_assets.settings import current_settings

    print_status(read_status(current_settings()), as_json=as_json)


def read_status(settings: "Settings") -> Status:
    """Gather the state of this deployment from the lake, the registry and Dagster."""
    from mlops_assets.definitions import build_defs
    from mlops_assets.lake import Lake
    from mlops_assets.orchestration.health import assets_health
    from mlops_assets.registry import Registry

    lake = Lake.from_settings(settings)
    tables = [
        {"table": str(i.name), "version": i.version, "rows": i.rows, "MB": i.bytes / 1e6}
        for i in map(lake.describe, lake.tables())
    ]
    registry = Registry.from_settings(settings, lake)
    families = [_family_status(registry, family, settings) for family in registry.families()]
    return Status(tables, families, assets_health(build_defs(settings), settings))


def _family_status(registry: "Registry", family: str, settings: "Settings") -> FamilyStatus:
    from mlops_assets.registry import Alias, ModelReference, ledger

    champion = registry.find_or_none(ModelReference(family, alias=Alias.champion))
    entries = ledger.read(registry.lake, family)
    report = settings.home / "reports" / f"{family}.html"
    return FamilyStatus(
        family=family,
        champion=str(champion) if champion else None,
        algorithm=champion.algorithm if champion else None,
        training_set=str(champion.training_set) if champion else None,
        last_decision=entries[-1].reason if entries else None,
        candidates={run.name: run.metrics for run in registry.candidates(family)},
        report=report if report.exists() else None,
    )


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
    for family in found.families:
        _print_family(family)
    made = [asset for asset in found.assets if asset.materialised_at]
    stale = [asset.asset for asset in found.assets if asset.freshness == "FAIL"]
    checks = sum(asset.checks for asset in found.assets)
    unevaluated = sum(asset.unevaluated_checks for asset in found.assets)
    failing = [f"{asset.asset}: {name}" for asset in found.assets for name in asset.failing_checks]
    console.print(f"\nAssets: {len(made)} of {len(found.assets)} materialised, {len(stale)} stale")
    console.print(f"Checks: {checks - unevaluated} of {checks} evaluated, {len(failing)} failing")
    for line in failing:
        console.print(f"  [yellow]![/yellow] {line}", highlight=False)
    for name in stale:
        console.print(f"  [yellow]stale[/yellow] {name}", highlight=False)
    console.print("\nWhere to look next:")
    console.print("  `mlops up`                      lineage in Dagster's UI, runs in MLflow's")
    console.print('  `mlops sql "from raw.flights"`  the lake in SQL')


def _print_family(family: FamilyStatus) -> None:
    from mlops_assets.cli.output import console, print_table

    print_table(
        f"{family.family} on untouched rows, with 95 % intervals",
        [
            {"metric": title}
            | {run: _interval(numbers, f"test_{m}") for run, numbers in family.candidates.items()}
            for m, title in _SHOWN_METRICS.items()
        ],
        empty="no candidate yet",
    )
    if family.champion:
        console.print(
            f"Champion: [bold]{family.champion}[/bold] ({family.algorithm}, trained on "
            f"{family.training_set})",
            highlight=False,
        )
    else:
        console.print("Champion: nobody yet")
    if family.last_decision:
        console.print(f"Last decision: {family.last_decision}", highlight=False)
    if family.report:
        console.print(f"Report: {family.report}", highlight=False, soft_wrap=True)
