"""``mlops status``: champions, metrics, tables, checks and freshness, at a glance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlops_assets.ingestion import Loads
    from mlops_assets.orchestration.health import AssetHealth
    from mlops_assets.registry import Registry
    from mlops_assets.settings import Settings

_SHOWN_METRICS = (
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
    "accuracy",
    "pinball_loss",
    "mae",
    "rmse",
    "coverage",
    "calibration_error",
)
"""Shown where a family's candidates have them, in this order."""


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
    report, card
        The evaluation report and the champion's model card, if there are any.
    """

    family: str
    champion: str | None
    algorithm: str | None
    training_set: str | None
    last_decision: str | None
    candidates: Mapping[str, Mapping[str, float]]
    report: Path | None
    card: Path | None


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
    loads
        How complete each declared raw table is.
    """

    tables: Sequence[Mapping[str, Any]]
    families: Sequence[FamilyStatus]
    assets: "Sequence[AssetHealth]"
    loads: "Sequence[Loads]"


def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show champions, metrics, table versions, freshness and failing checks."""
    from mlops_assets.settings import current_settings

    print_status(read_status(current_settings()), as_json=as_json)


def read_status(settings: "Settings") -> Status:
    """Gather the state of this deployment from the lake, the registry and Dagster."""
    from mlops_assets.definitions import build_defs
    from mlops_assets.lake import Lake
    from mlops_assets.orchestration.health import assets_health, raw_table_loads
    from mlops_assets.orchestration.instance import quiet_about_beta
    from mlops_assets.registry import Registry

    lake = Lake.from_settings(settings)
    tables = [
        {"table": str(i.name), "version": i.version, "rows": i.rows, "bytes": i.bytes}
        for i in map(lake.describe, lake.tables())
    ]
    registry = Registry.from_settings(settings, lake)
    families = [_family_status(registry, family, settings) for family in registry.families()]
    defs = build_defs(settings)
    with quiet_about_beta():
        health, loads = assets_health(defs, settings, lake), raw_table_loads(defs, lake)
    return Status(tables, families, health, loads)


def _family_status(registry: "Registry", family: str, settings: "Settings") -> FamilyStatus:
    from mlops_assets.registry import Alias, ModelReference, ledger

    champion = registry.find_or_none(ModelReference(family, alias=Alias.champion))
    entries = ledger.read(registry.lake, family)
    reports = settings.home / "reports"
    report = reports / f"{family}.html"
    card = reports / f"{family}-{champion.version}" / "model_card.html" if champion else None
    return FamilyStatus(
        family=family,
        champion=str(champion) if champion else None,
        algorithm=champion.algorithm if champion else None,
        training_set=str(champion.training_set) if champion else None,
        last_decision=entries[-1].reason if entries else None,
        candidates={run.name: run.metrics for run in registry.candidates(family)},
        report=report if report.exists() else None,
        card=card if card and card.exists() else None,
    )


def _interval(metrics: Mapping[str, float], name: str) -> str | None:
    if name not in metrics:
        return None
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    interval = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    return f"{metrics[name]:.3f}{interval}"


def print_status(found: Status, *, as_json: bool) -> None:
    """Print what was found, for people or as JSON."""
    from mlops_assets.cli.output import console, print_json, print_table

    if as_json:
        told = [
            {**asdict(table), "table": str(table.table), "told": table.lines()}
            for table in found.loads
        ]
        print_json({**asdict(found), "loads": told})
        return
    print_table("Tables", found.tables, empty="none yet; `mlops demo` makes them")
    for family in found.families:
        _print_family(family)
    for loads in found.loads:
        _print_loads(loads)
    _print_assets(found.assets)
    console.print("\nWhere to look next:")
    console.print("  `mlops up`                      lineage in Dagster's UI, runs in MLflow's")
    console.print("  `mlops models list`             versions, who serves, by which decision")
    console.print('  `mlops sql "from raw.flights"`  the lake in SQL')


def _print_loads(loads: "Loads") -> None:
    lines = loads.lines()
    if loads.open_quarantine:
        rows = f"{loads.open_quarantine:,} refused row{'s' * (loads.open_quarantine != 1)}"
        lines.append(f"{loads.table}: {rows} in quarantine that no later load has replaced")
    for line in lines:
        _print_warning(line)


def _print_warning(line: str, mark: str = "!") -> None:
    """Print a line that holds data, in which brackets are no markup."""
    from mlops_assets.cli.output import console, print_text

    console.print(f"  [yellow]{mark}[/yellow]", end=" ")
    print_text(line)


def _print_assets(assets: "Sequence[AssetHealth]") -> None:
    from mlops_assets.cli.output import console

    made = [asset for asset in assets if asset.materialised_at]
    unrecorded = [asset.asset for asset in assets if asset.unrecorded]
    stale = [asset.asset for asset in assets if asset.freshness == "FAIL"]
    checks = sum(asset.checks for asset in assets)
    unevaluated = sum(asset.unevaluated_checks for asset in assets)
    failing = [(asset.asset, check) for asset in assets for check in asset.failing_checks]
    console.print(f"\nAssets: {len(made)} of {len(assets)} materialised, {len(stale)} stale")
    if unrecorded:
        _print_warning(
            f"in the lake, but Dagster knows of no run that made them: {', '.join(unrecorded)}; "
            "their checks and freshness are unknown here until they are materialised"
        )
    console.print(f"Checks: {checks - unevaluated} of {checks} evaluated, {len(failing)} failing")
    for asset, check in failing:
        told = (
            f"{asset}: {check.name}: {check.reason}" if check.reason else f"{asset}: {check.name}"
        )
        _print_warning(told, mark=check.severity)
    for name in stale:
        _print_warning(name, mark="stale")


def _print_family(family: FamilyStatus) -> None:
    from mlops_assets.cli.output import console, print_table
    from mlops_assets.training.tasks import metric_titles

    titles = metric_titles()
    print_table(
        f"{family.family} on untouched rows, with 95% intervals",
        [
            {"metric": titles[m]}
            | {run: _interval(numbers, f"test_{m}") for run, numbers in family.candidates.items()}
            for m in _SHOWN_METRICS
            if any(f"test_{m}" in numbers for numbers in family.candidates.values())
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
    if family.card:
        console.print(f"Model card: {family.card}", highlight=False, soft_wrap=True)
