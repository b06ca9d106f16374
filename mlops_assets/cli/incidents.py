"""``mlops incidents``: list, show, resolve."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_assets.cli.asking import ActorOption, user

if TYPE_CHECKING:
    from mlops_assets.lake import Lake
    from mlops_assets.production.incidents import Incident

app = typer.Typer(help="What went wrong in production, and what was done.", no_args_is_help=True)

IncidentArgument = Annotated[str, typer.Argument(help="An incident, by its id or how that begins.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_incidents(
    *,
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Incidents to print; JSON has all.")] = 40,
    as_json: JsonOption = False,
) -> None:
    """List the incidents that are open, the newest first."""
    from mlops_assets.cli.output import console, print_json, print_table
    from mlops_assets.production.incidents import incidents

    found = [each for each in reversed(incidents(_lake())) if every or each.is_open]
    if as_json:
        print_json([_facts(each) for each in found])
        return
    rows = [
        {
            "incident": each.incident_id,
            "at": each.at,
            "severity": str(each.severity),
            "about": f"{each.kind}: {each.subject}",
            "what": each.what,
            "resolved": each.resolved_at,
        }
        for each in found[:limit]
    ]
    print_table("Incidents", rows, empty="none" if every else "none is open")
    if len(found) > limit:
        console.print(f"… {len(found) - limit} more; --limit shows more than {limit}")


@app.command()
def show(incident: IncidentArgument, *, as_json: JsonOption = False) -> None:
    """Show an incident: what happened, what was done, and on what evidence."""
    import json

    from mlops_assets.cli.output import print_json, print_text
    from mlops_assets.production.incidents import find_incident

    found = find_incident(_lake(), incident)
    if as_json:
        print_json(_facts(found))
        return
    over = "open"
    if found.resolved_at is not None:
        over = f"resolved {found.resolved_at:%F %R}Z by {found.resolved_by}: {found.resolution}"
    print_text(
        f"{found.incident_id}  {found.severity}  {found.kind}: {found.subject}\n"
        f"at       {found.at:%F %R}Z, by {found.by}\n"
        f"what     {found.what}\n"
        f"done     {found.done}\n"
        f"state    {over}"
    )
    if found.evidence:
        print_text(f"evidence {json.dumps(dict(found.evidence), indent=2, ensure_ascii=False)}")


@app.command()
def resolve(
    incident: IncidentArgument,
    *,
    how: Annotated[str, typer.Option(help="How it is known to be over; it is kept.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that an incident is over."""
    from datetime import UTC, datetime

    from mlops_assets.cli.output import print_json, print_text
    from mlops_assets.production.incidents import resolve_incident

    done = resolve_incident(_lake(), incident, by=actor or user(), how=how, at=datetime.now(UTC))
    if as_json:
        print_json(_facts(done))
        return
    print_text(f"incident {done.incident_id} is resolved by {done.resolved_by}: {done.resolution}")


def _lake() -> "Lake":
    from mlops_assets.lake import Lake
    from mlops_assets.settings import current_settings

    return Lake.from_settings(current_settings())


def _facts(incident: "Incident") -> dict[str, Any]:
    return {
        "incident": incident.incident_id,
        **{name: value for name, value in vars(incident).items() if name != "evidence"},
        "evidence": dict(incident.evidence),
        "open": incident.is_open,
    }
