"""``mlops restore``: bring an earlier version of a table back, and tell Dagster."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_assets.cli.asking import ActorOption, ReasonOption, reason_given, user

if TYPE_CHECKING:
    from mlops_assets.lake import Lake, TableName
    from mlops_assets.orchestration.published_tables import PublishedTable
    from mlops_assets.production.table_restore import RestoredTable

TableArgument = Annotated[str, typer.Argument(help="A table, such as raw/flights.")]


class VersionGivenError(ValueError):
    """A version was named where a command takes a table."""


def table_named(text: str) -> "TableName":
    """Read the name of a table, and say what to do where a version is named instead."""
    from mlops_assets.lake import TableName

    table, at, version = text.partition("@")
    if at:
        raise VersionGivenError(
            f"{text!r} names a version, and this command takes a table: {table}. "
            f"`mlops tables show {text}` shows one version; "
            f"`mlops restore {table} --version {version}` brings it back."
        )
    return TableName.parse(text)


def restore(
    table: TableArgument,
    *,
    version: Annotated[
        int | None,
        typer.Option(
            min=0, help="The version to bring back. Default: the last that keeps the table's rules."
        ),
    ] = None,
    reason: ReasonOption = None,
    actor: ActorOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an earlier version of a table current. It is a new commit, so it can be undone."""
    from dataclasses import asdict

    from mlops_assets.cli.output import print_json, print_text
    from mlops_assets.lake import Lake
    from mlops_assets.production.table_restore import restore_table
    from mlops_assets.settings import current_settings

    name = table_named(table)
    settings = current_settings()
    lake = Lake.from_settings(settings)
    published = published_table(name)
    restored = restore_table(
        lake,
        name,
        version=version,
        rules=None if published is None else published.rules,
        reason=reason_given(reason),
        actor=actor or user(),
    )
    days = () if published is None else tell(lake, restored, published)
    if as_json:
        print_json({**asdict(restored), "incident": restored.incident.incident_id, "days": days})
        return
    print_text(
        f"{name} is now version {restored.now}, with the {restored.rows:,} rows of version "
        f"{restored.good}"
    )
    if days:
        print_text(f"{len(days)} days have other rows than before: {days[0]} to {days[-1]}")
    print_text(
        f"What was made of {name} since then is to be made again; Dagster's UI shows it as stale.\n"
        f"Incident {restored.incident.incident_id}. "
        f"Undo: mlops restore {name} --version {restored.before}"
    )


def published_table(name: "TableName") -> "PublishedTable | None":
    """Return a table as this project publishes it; None where it does not."""
    from mlops_assets.orchestration.published_tables import published_tables
    from mlops_assets.settings import current_settings

    return published_tables(current_settings().project_root).get(name)


def tell(lake: "Lake", restored: "RestoredTable", published: "PublishedTable") -> tuple[date, ...]:
    """Tell this deployment's Dagster of a restore, and return the days that changed."""
    from mlops_assets.orchestration.instance import open_instance, quiet_about_beta
    from mlops_assets.orchestration.published_tables import tell_dagster
    from mlops_assets.settings import current_settings

    with quiet_about_beta(), open_instance(current_settings()) as instance:
        return tell_dagster(instance, lake, restored, published)
