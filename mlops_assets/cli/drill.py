"""``mlops drill``: exercises that show that what is for bad days works."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_assets.cli.asking import ActorOption, YesOption, confirm, user
from mlops_assets.cli.restore import TableArgument, published_table, table_named, tell

if TYPE_CHECKING:
    from mlops_assets.production.table_restore import DrillStep

app = typer.Typer(help="Exercises for bad days.", no_args_is_help=True)


@app.callback()
def drill() -> None:
    """Exercises for bad days."""


@app.command()
def data(
    table: TableArgument,
    *,
    for_real: Annotated[
        bool,
        typer.Option(help="On the table itself, not on a copy: readers see the corruption."),
    ] = False,
    actor: ActorOption = None,
    yes: YesOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Corrupt a table, see its rules fail, bring it back, compare; exit code 1 if a step fails."""
    from mlops_assets.cli.output import print_json, print_text
    from mlops_assets.lake import Lake
    from mlops_assets.production.errors import RestoreError
    from mlops_assets.production.table_restore import drill_table
    from mlops_assets.settings import current_settings

    name = table_named(table)
    lake = Lake.from_settings(current_settings())
    published = published_table(name)
    if published is None:
        lake.version(name)  # a table that is not there is told first
        raise RestoreError(
            f"{name}: no contract and no dbt test says what is right of it, so no drill can tell "
            "whether its corruption is noticed"
        )
    if for_real:
        confirm(f"Corrupt {name} for some seconds?", yes=yes)

    def say(step: "DrillStep") -> None:
        if not as_json:
            verdict = "ok" if step.passed else "FAILED"
            print_text(f"{verdict:>6}  {step.seconds:6.1f} s  {step.name}: {step.outcome}")

    done = drill_table(
        lake, name, published.rules, actor=actor or user(), on_copy=not for_real, say=say
    )
    if done.restored is not None and for_real:
        tell(lake, done.restored, published)
    if as_json:
        print_json(
            {
                "table": str(name),
                "on_copy": done.on_copy,
                "passed": done.passed,
                "steps": [asdict(step) for step in done.steps],
                "incident": done.incident.incident_id,
            }
        )
    else:
        print_text(
            f"The drill {'passed' if done.passed else 'FAILED'}. Incident "
            f"{done.incident.incident_id}."
        )
    if not done.passed:
        raise typer.Exit(1)
