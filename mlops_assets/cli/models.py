"""``mlops models``: list, show, promote, rollback, reproduce, card."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_assets.cli.asking import (
    ActorOption,
    ReasonOption,
    YesOption,
    confirm,
    reason_given,
    user,
)

if TYPE_CHECKING:
    from mlops_assets.registry import LedgerEntry, ModelVersion, Registry
    from mlops_assets.registry.reproduce import Reproduction

app = typer.Typer(help="The registered models, and who serves.", no_args_is_help=True)

ModelArgument = Annotated[
    str, typer.Argument(help="A version, such as flight_delay/3, or flight_delay@champion.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_ENDS = 5  # slices shown from either end


class Start(StrEnum):
    """From where a model is made again."""

    inputs = "inputs"
    training_set = "training-set"


def _registry() -> "Registry":
    from mlops_assets.registry import Registry
    from mlops_assets.settings import current_settings

    return Registry.from_settings(current_settings())


# Looking ------------------------------------------------------------------------------------------


@app.command("list")
def list_models(
    family: Annotated[
        str | None, typer.Argument(help="Only this family, such as flight_delay.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Versions to print; JSON has all.")] = 40,
    as_json: JsonOption = False,
) -> None:
    """List the versions of all families, the newest first: role, metric, age, gate."""
    from mlops_assets.cli.output import console, print_json, print_table
    from mlops_assets.registry import ledger

    registry = _registry()
    if family is not None:
        registry.require_family(family)
    versions = [v for v in registry.all_versions() if family in {None, v.family}]
    said = _gate_said(ledger.read(registry.lake))
    if as_json:
        print_json([{**_facts(v), "gate": said.get(str(v))} for v in versions])
        return
    rows = [
        {
            "model": str(version),
            "role": ", ".join(version.aliases) or None,
            "candidate": version.candidate,
            "metric": version.primary_metric,
            "on test": _measured(version.metrics, f"test_{version.primary_metric}"),
            "age": _age(version.created_at),
            "training set": str(version.training_set),
            "gate": said.get(str(version)),
        }
        for version in versions[:limit]
    ]
    print_table("Models", rows, empty="none yet; materialise a family's challenger")
    if len(versions) > limit:
        console.print(f"… {len(versions) - limit} more; --limit shows more than {limit}")


@app.command()
def show(model: ModelArgument, *, as_json: JsonOption = False) -> None:
    """Show what a version learnt from and how, how it does, what the gate said, when it served."""
    from mlops_assets.cli.output import print_json
    from mlops_assets.registry import ledger

    registry = _registry()
    version = registry.find(model)
    entries = ledger.read(registry.lake, version.family)
    run = registry.client.get_run(version.run_id).data
    facts = {
        **_facts(version),
        "inputs": [str(table) for table in version.inputs],
        "learnt_from": {"first_day": version.first_day, "last_day": version.last_day},
        "parameters": dict(run.params),
        "code": {
            name.removeprefix("mlops."): run.tags[name]
            for name in (
                "mlops.git_commit",
                "mlops.lockfile_sha256",
                "mlops.dbt_manifest_sha256",
            )
        },
        "metrics": dict(version.metrics),
        "slices": _slices(registry, version),
        "decision": _decision(version, entries),
        "served": _served(version, entries),
        "mlflow_run": version.run_id,
    }
    if as_json:
        print_json(facts)
    else:
        _print_version(facts)


@app.command()
def card(
    model: ModelArgument,
    *,
    html: Annotated[
        Path | None, typer.Option(help="Write the card as one HTML file that works offline.")
    ] = None,
    browse: Annotated[
        bool, typer.Option("--open", help="Open the HTML card in the browser.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a version's model card, or write or open it as HTML."""
    from mlops_assets.cli.output import console
    from mlops_assets.registry.card import read_card
    from mlops_assets.settings import current_settings

    registry = _registry()
    version = registry.find(model)
    found = read_card(registry, version)
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    if browse and html is None:
        html = current_settings().home / "cards" / f"{version.family}-{version.version}.html"
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(found.to_html(), encoding="utf-8")
        console.print(f"{version}: card written to {html}", highlight=False, soft_wrap=True)
        if browse:
            typer.launch(html.resolve().as_uri())
    elif console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(found.to_markdown()))
    else:
        print(found.to_markdown())


# Switching ----------------------------------------------------------------------------------------


@app.command()
def promote(
    model: ModelArgument,
    *,
    reason: ReasonOption = None,
    actor: ActorOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a version champion on your word, whatever the gate said; the ledger keeps it."""
    from mlops_assets.registry import ModelReference, ledger, promotion

    registry = _registry()
    version = registry.find(model)
    champion = promotion.serving(registry, version.family)
    said = _gate_said(ledger.read(registry.lake, version.family)).get(str(version))
    reason = reason_given(reason)
    confirm(
        f"Make {version} ({version.candidate}) champion instead of {_named(champion)}? "
        f"The gate {'has ' + said + ' it' if said else 'has not judged it'}",
        yes=yes,
    )
    entry = promotion.promote_by_hand(
        registry,
        ModelReference(version.family, version.version),
        actor=actor or user(),
        reason=reason,
        instead_of=champion,
    )
    _print_switch(entry, as_json=as_json)


@app.command()
def rollback(
    family: Annotated[str, typer.Argument(help="A model family, such as flight_delay.")],
    *,
    to: Annotated[
        int | None, typer.Option(min=1, help="Version to go back to. Default: who served before.")
    ] = None,
    reason: ReasonOption = None,
    actor: ActorOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the version that served before champion again; doing it twice undoes it."""
    from mlops_assets.cli.output import console
    from mlops_assets.production.rollback import roll_back_by_hand
    from mlops_assets.registry import promotion

    registry = _registry()
    registry.require_family(family)
    champion = promotion.serving(registry, family)
    reason = reason_given(reason)
    target = f"{family}/{to}" if to else f"who served before {_named(champion)}"
    confirm(f"Make {target} champion of {family} instead of {_named(champion)}?", yes=yes)
    entry, incident = roll_back_by_hand(
        registry.lake,
        registry,
        family,
        actor=actor or user(),
        reason=reason,
        to=to,
        instead_of=champion,
    )
    _print_switch(entry, as_json=as_json)
    if not as_json:
        console.print(f"Incident {incident.incident_id}: mlops incidents show", highlight=False)


# Making again -------------------------------------------------------------------------------------


@app.command()
def reproduce(
    model: ModelArgument,
    *,
    start: Annotated[
        Start,
        typer.Option("--from", help="Build the training set again too, or take it as recorded."),
    ] = Start.inputs,
    as_json: JsonOption = False,
) -> None:
    """Make a version again from its recorded data, parameters, seed and threads, and compare."""
    from mlops_assets.cli.output import console, print_json
    from mlops_assets.features import FeatureRegistry
    from mlops_assets.registry.provenance import collect_provenance
    from mlops_assets.registry.reproduce import reproduce as make_again
    from mlops_assets.settings import current_settings
    from mlops_assets.transform.project import project_at

    settings = current_settings()
    manifest = project_at(settings.dbt_project_dir)
    found = make_again(
        _registry(),
        model,
        FeatureRegistry.from_manifest(manifest.manifest),
        collect_provenance(settings.project_root, manifest.manifest_path),
        from_training_set=start is Start.training_set,
        say=lambda text: None if as_json else console.print(f"… {text}", highlight=False),
    )
    if as_json:
        print_json({**asdict(found), "reproduced": found.reproduced})
    else:
        _print_reproduction(found)
    if not found.reproduced:
        raise typer.Exit(1)


# What is said -------------------------------------------------------------------------------------


def _facts(version: "ModelVersion") -> dict[str, Any]:
    name = f"test_{version.primary_metric}"
    return {
        "model": str(version),
        "family": version.family,
        "version": version.version,
        "aliases": [str(alias) for alias in version.aliases],
        "candidate": version.candidate,
        "algorithm": version.algorithm,
        "created_at": version.created_at,
        "training_set": str(version.training_set),
        "primary_metric": version.primary_metric,
        "value": version.metrics.get(name),
        "low": version.metrics.get(f"{name}_low"),
        "high": version.metrics.get(f"{name}_high"),
    }


def _gate_said(entries: "Sequence[LedgerEntry]") -> dict[str, str]:
    """Return, by version, what the gate's last decision on it was."""
    return {
        f"{entry.family}/{entry.challenger}": (
            "refused" if entry.event.value == "refused" else "passed"
        )
        for entry in entries
        if entry.challenger is not None
    }


def _decision(version: "ModelVersion", entries: "Sequence[LedgerEntry]") -> dict[str, Any] | None:
    """Return the gate's last decision on a version, as it was recorded."""
    import json

    judged = [e for e in entries if e.challenger == version.version and e.decision]
    return json.loads(judged[-1].decision) if judged else None


def _slices(registry: "Registry", version: "ModelVersion") -> list[dict[str, Any]]:
    """Return how a version does on each slice of the test part, the worst first."""
    from mlops_assets.registry.evaluations import evaluations_of

    test = evaluations_of(registry.client, version.run_id)["test"]
    metric = test.task.metric(version.primary_metric)
    found = [(s, s.metrics[metric.name]) for s in test.slices]
    return [
        {
            "slice": f"{slice_.column} {slice_.value}",
            "rows": slice_.rows,
            "small": slice_.small,
            metric.name: measured.value,
            "low": measured.low,
            "high": measured.high,
        }
        for slice_, measured in sorted(
            (pair for pair in found if pair[1].value is not None),
            key=lambda pair: metric.sign * float(pair[1].value or 0),
        )
    ]


def _served(version: "ModelVersion", entries: "Sequence[LedgerEntry]") -> list[dict[str, Any]]:
    """Return the times for which a version was champion, and what began and ended each."""
    periods: list[dict[str, Any]] = []
    for entry in entries:
        if entry.from_version == entry.to_version:
            continue
        if periods and periods[-1]["until"] is None:
            periods[-1]["until"] = entry.at
        if entry.to_version == version.version:
            periods.append(
                {
                    "since": entry.at,
                    "until": None,
                    "event": str(entry.event),
                    "actor": entry.actor,
                    "reason": entry.reason,
                }
            )
    return periods


def _measured(metrics: Mapping[str, float], name: str) -> str | None:
    """Give a metric with the interval it was logged with."""
    if name not in metrics:
        return None
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{metrics[name]:.3f}{interval}"


def _age(since: datetime) -> str:
    age = datetime.now(UTC) - since
    for unit, size in (("d", timedelta(days=1)), ("h", timedelta(hours=1))):
        if age >= 2 * size:
            return f"{age // size} {unit}"
    return f"{age // timedelta(minutes=1)} min"


def _named(champion: str) -> str:
    from mlops_assets.registry.promotion import BASELINE

    return "nobody" if champion == BASELINE else champion


def _print_version(facts: Mapping[str, Any]) -> None:
    from mlops_assets.cli.output import console, print_table

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    roles = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    line(f"{facts['model']}{roles}: {facts['candidate']}, registered {facts['created_at']:%F %R}Z")
    learnt = facts["learnt_from"]
    line(f"Learnt from {facts['training_set']}, {learnt['first_day']} to {learnt['last_day']}")
    for table in facts["inputs"]:
        line(f"  made of {table}")
    for name, value in facts["code"].items():
        line(f"  {name.replace('_', ' ')} {value}")
    line(f"MLflow run {facts['mlflow_run']}")
    print_table(
        "Parameters",
        [
            {"parameter": name, "value": value}
            for name, value in sorted(facts["parameters"].items())
        ],
        empty="none",
    )
    metrics = facts["metrics"]
    names = [n.removeprefix("test_") for n in metrics if n.startswith("test_")]
    ends = ("_low", "_high")
    print_table(
        "Metrics, with intervals where there are any",
        [
            {
                "metric": name,
                **{part: _measured(metrics, f"{part}_{name}") for part in ("validation", "test")},
            }
            for name in names
            if not name.endswith(ends)
        ],
        empty="none",
    )
    print_table(
        f"Slices on test with the worst and the best {facts['primary_metric']}, of "
        f"{len(facts['slices'])}",
        _ends([found for found in facts["slices"] if not found["small"]]),
        empty="none with enough rows",
    )
    _print_decision(facts["decision"])
    print_table("Served", facts["served"], empty="never")


def _print_decision(decision: Mapping[str, Any] | None) -> None:
    from mlops_assets.cli.output import print_table

    if decision is None:
        print_table("Gate", [], empty="has not judged it")
        return
    print_table(
        f"Gate against {decision['opponent']}: {'passed' if decision['promote'] else 'refused'}",
        [
            {"condition": c["name"], "met": c["met"], "numbers": c["reason"]}
            for c in decision["conditions"]
        ],
        empty="no condition",
    )
    compared = sorted(
        (found for found in decision["slices"] if found["gain"] is not None),
        key=lambda found: float(found["gain"]),
    )
    if compared:
        print_table(
            f"Slices with the least and the greatest gain, of {len(compared)}",
            [
                {
                    "slice": f"{found['column']} {found['value']}",
                    "rows": found["rows"],
                    decision["metric"]: found["challenger"],
                    "gain": found["gain"],
                    "low": found["low"],
                    "high": found["high"],
                    "verdict": found["verdict"],
                }
                for found in _ends(compared)
            ],
            empty="none",
        )


def _ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first and the last few."""
    return rows if len(rows) <= 2 * _ENDS else rows[:_ENDS] + rows[-_ENDS:]


def _print_switch(entry: "LedgerEntry", *, as_json: bool) -> None:
    from mlops_assets.cli.output import console, print_json

    if as_json:
        print_json(asdict(entry))
        return
    before = f"{entry.family}/{entry.from_version}" if entry.from_version else "nobody"
    console.print(
        f"{entry.family}/{entry.to_version} is champion, instead of {before}", highlight=False
    )
    if entry.from_version:
        console.print(f"Undo: mlops models rollback {entry.family}", highlight=False)


def _print_reproduction(found: "Reproduction") -> None:
    from mlops_assets.cli.output import console

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for change in found.changes:
        line(f"differs now: {change}")
    if not found.changes:
        line("code and environment are as they were")
    table = found.training_set
    data = [f"{table} was taken as recorded"] if found.data is None else found.data.lines(table)
    for text in (*data, *found.answers.lines()):
        line(text)
    moved = next((change for change in found.changes if change.what == "git commit"), None)
    if moved is not None and not found.reproduced:
        commit = moved.then.removesuffix("+changes")
        line(
            f"With the code of then: git worktree add ../then {commit}, install it there, and run "
            "this again with MLOPS_HOME set to this home"
        )
    verdict = "reproduced" if found.reproduced else "NOT reproduced"
    line(f"{found.version} is {verdict} ({found.seconds:.0f} s)")
