"""``mlops alerts``: list, show, acknowledge, test, retry."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_assets.cli.asking import user

if TYPE_CHECKING:
    from mlops_assets.alerting import Alert, AlertBook, AlertsDeclaration, Sink

app = typer.Typer(help="What went wrong, and who was told.", no_args_is_help=True)

AlertArgument = Annotated[str, typer.Argument(help="An alert, by its id or how that begins.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_alerts(
    *,
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Alerts to print; JSON has all.")] = 40,
    as_json: JsonOption = False,
) -> None:
    """List the alerts that are open, the newest first."""
    from mlops_assets.cli.output import console, print_json, print_table

    alerts = [alert for alert in reversed(_book().alerts()) if every or alert.is_open]
    if as_json:
        print_json([_facts(alert) for alert in alerts])
        return
    rows = [
        {
            "alert": alert.alert_id,
            "severity": str(alert.occurrence.severity),
            "state": str(alert.state),
            "about": f"{alert.occurrence.kind}: {alert.occurrence.subject}",
            "raised": alert.raised_at,
            "times": len(alert.keys),
            "not told": ", ".join(alert.undelivered) or None,
        }
        for alert in alerts[:limit]
    ]
    print_table("Alerts", rows, empty="none" if every else "none is open")
    if len(alerts) > limit:
        console.print(f"… {len(alerts) - limit} more; --limit shows more than {limit}")


@app.command()
def show(alert: AlertArgument, *, as_json: JsonOption = False) -> None:
    """Show an alert: what was noticed, who was told, and everything that happened to it."""
    from mlops_assets.alerting import Message, Text
    from mlops_assets.cli.output import print_json, print_table, print_text

    book = _book()
    found = book.find(alert)
    history = [
        {
            "at": transition.at,
            "change": str(transition.change),
            "sink": transition.sink,
            "message": str(transition.message) if transition.message else None,
            "by": transition.by,
            "reason": transition.reason,
        }
        for transition in book.history(found.alert_id)
    ]
    if as_json:
        print_json({**_facts(found), "history": history})
        return
    message = Message.raised if found.is_open else Message.resolved
    text = Text.of(found, message, _ui_url())
    print_text(f"{text.title}\n\n{text.body}\n")
    print_table("What happened", history, empty="nothing")


@app.command()
def acknowledge(
    alert: AlertArgument,
    *,
    note: Annotated[str, typer.Option(help="What you have to say about it; it is kept.")] = "",
    by: Annotated[str | None, typer.Option(help="Who. Default: the user.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say that somebody has an alert in hand: no more messages until it ends or becomes worse."""
    from mlops_assets.cli.output import print_json, print_text

    done = _book().acknowledge(alert, by=by or user(), note=note)
    if as_json:
        print_json(_facts(done))
        return
    said = "" if done.is_open else ", and closed, for it was over when it was noticed"
    print_text(f"alert {done.alert_id} is acknowledged by {done.acknowledged_by}{said}")


@app.command("test")
def send_test(
    sink: Annotated[str | None, typer.Argument(help="Only this sink. Default: every one.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Send a test message to every sink; exit code 1 if one of them did not take it."""
    from mlops_assets.alerting import TEST_TEXT
    from mlops_assets.cli.output import print_json, print_table, print_text

    sinks = _sinks(_declaration())
    outcome = [
        {"sink": name, "problem": found.send(TEST_TEXT)}
        for name, found in sinks.items()
        if sink in {None, name}
    ]
    if not outcome:
        _refuse_sink(sink, sinks)
    if as_json:
        print_json(outcome)
    else:
        rows = [{"sink": one["sink"], "outcome": one["problem"] or "sent"} for one in outcome]
        print_table("Test message", rows, empty="no sink")
        if not any(one["problem"] for one in outcome):
            print_text("Look whether it has arrived: a sink may take a message and drop it.")
    if any(one["problem"] for one in outcome):
        raise typer.Exit(1)


@app.command()
def retry(*, as_json: JsonOption = False) -> None:
    """Send now what could not be sent before; exit code 1 if that failed again."""
    from mlops_assets.alerting import deliver
    from mlops_assets.cli.output import print_json, print_text

    book = _book()
    done = deliver(book, _sinks(book.declaration), ui_url=_ui_url(), at_once=True)
    if as_json:
        print_json(asdict(done))
    else:
        print_text(str(done))
    if done.failed:
        raise typer.Exit(1)


# What is declared, and what is known --------------------------------------------------------------


def _declaration() -> "AlertsDeclaration":
    from mlops_assets.alerting import AlertError, declared_alerts
    from mlops_assets.settings import current_settings

    defs = current_settings().project_root / "mlops_assets" / "defs"
    declared = declared_alerts(defs)
    if declared is None:
        raise AlertError(
            f"no defs.yaml below {defs} declares alerts; docs/how-to/alerts.md shows how"
        )
    return declared


def _book() -> "AlertBook":
    from mlops_assets.alerting import AlertBook
    from mlops_assets.lake import Lake
    from mlops_assets.settings import current_settings

    return AlertBook(Lake.from_settings(current_settings()), _declaration())


def _sinks(declaration: "AlertsDeclaration") -> "dict[str, Sink]":
    from mlops_assets.alerting import open_sinks

    return open_sinks(declaration.sinks)


def _ui_url() -> str:
    from mlops_assets.settings import current_settings

    return current_settings().ui_url


def _refuse_sink(sink: str | None, sinks: "dict[str, Sink]") -> None:
    from mlops_assets.alerting import AlertError
    from mlops_assets.declaration import unknown_name

    if sink is None:
        raise AlertError("no sink is declared, so nobody is told; docs/how-to/alerts.md shows how")
    raise AlertError(unknown_name(sink, "declared sink", sinks))


_OWN_FORM = {"keys", "deliveries"}  # of an alert in JSON


def _facts(alert: "Alert") -> dict[str, Any]:
    return {
        **{name: told for name, told in vars(alert).items() if name not in _OWN_FORM},
        "occurrence": asdict(alert.occurrence),
        "times": len(alert.keys),
        "deliveries": [asdict(delivery) for delivery in alert.deliveries.values()],
        "undelivered": list(alert.undelivered),
    }
