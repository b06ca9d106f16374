"""``mlops doctor``: whether this machine, and this deployment, are in order."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlops_assets.settings import Settings

_NEEDED = ("dagster", "dbt-duckdb", "duckdb", "deltalake", "pandera", "mlflow", "catboost")
_SPACE_WANTED_GIB = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    advice
        What to do if it is not in order.
    """

    subject: str
    ok: bool
    found: str
    advice: str = ""


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check Python, packages, settings, folders, the dbt project and the definitions."""
    from mlops_assets.cli.output import console, print_json, print_text
    from mlops_assets.settings import current_settings

    findings = list(examine(current_settings()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "[green]✓[/green]" if finding.ok else "[red]✗[/red]"
            console.print(mark, end=" ")
            print_text(f"{finding.subject}: {finding.found}")
            if not finding.ok:
                print_text(f"  → {finding.advice}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def examine(settings: "Settings") -> Iterator[Finding]:
    """Look at one thing after the other; none depends on an earlier one being in order."""
    found = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")
    yield from _packages()
    yield _unknown_variables(settings)
    yield _home(settings)
    yield _space(settings)
    yield _dagster_home(settings)
    yield _definitions(settings)


def _packages() -> Iterator[Finding]:
    for name in _NEEDED:
        try:
            yield Finding(name, ok=True, found=version(name))
        except PackageNotFoundError:
            yield Finding(name, ok=False, found="not installed", advice="run `make install`")


def _unknown_variables(settings: "Settings") -> Finding:
    from mlops_assets.settings import PREFIX, Settings, unknown_variables

    unknown = unknown_variables(settings.project_root)
    known = ", ".join(f"{PREFIX}{name.upper()}" for name in sorted(Settings.model_fields))
    return Finding(
        "settings",
        not unknown,
        "; ".join(f"nothing reads {name}, {where}" for name, where in unknown.items())
        or f"every {PREFIX} variable is known, in the environment and in .env",
        f"known are {known}",
    )


def _home(settings: "Settings") -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    return Finding(
        "state folder",
        os.access(folder, os.W_OK),
        str(settings.home),
        f"{folder} is not writable; set MLOPS_HOME to a folder that is",
    )


def _space(settings: "Settings") -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    return Finding(
        "disk space",
        free >= _SPACE_WANTED_GIB,
        f"{free:.1f} GiB free",
        f"free at least {_SPACE_WANTED_GIB:.0f} GiB, or set MLOPS_HOME elsewhere",
    )


def _dagster_home(settings: "Settings") -> Finding:
    """Make what Dagster's own commands need, so that they share runs with `mlops`."""
    from mlops_assets.orchestration.instance import prepare_dagster_home

    try:
        home = prepare_dagster_home(settings)
    except OSError as error:
        return Finding(
            "Dagster's home",
            ok=False,
            found=f"{settings.dagster_home}: {error.strerror}",
            advice="set MLOPS_HOME to a folder that can be written",
        )
    found = f"{home}; for Dagster's own commands: export DAGSTER_HOME={home}"
    return Finding("Dagster's home", ok=True, found=found)


def _definitions(settings: "Settings") -> Finding:
    """Load what this deployment declares; anything wrong in it is the finding."""
    from mlops_assets.definitions import build_defs
    from mlops_assets.orchestration.instance import quiet_about_beta
    from mlops_assets.orchestration.raw_table import import_contract
    from mlops_assets.quality import check_contract

    try:
        with quiet_about_beta():
            specs = list(build_defs(settings).resolve_all_asset_specs())
        for spec in specs:
            if contract := spec.metadata.get("contract"):
                check_contract(import_contract(contract))
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what the user wants to know
        # Dagster wraps what is wrong in a tree of all it loaded; the first cause says it in a line.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return Finding("definitions", ok=False, found=str(cause), advice="mend the file it names")
    return Finding("definitions", ok=True, found=f"{len(specs)} assets, contracts sound")
