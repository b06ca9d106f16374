"""What the model server reports, as occurrences: read from the table of its events.

The server writes events into its inference log, which becomes ``inference/events``. While the log
cannot be written, nothing arrives there either; `mlops_assets.serving.metrics` shows that at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlops_assets.alerting.book import AlertBook
from mlops_assets.alerting.occurrence import AlertKind, Occurrence, Severity
from mlops_assets.lake import Lake, TableName

_EVENTS = TableName("inference", "events")


@dataclass(frozen=True)
class _Trouble:
    """A kind of event that is worth an alert: about what, how bad, and what to do."""

    subject: str
    severity: Severity
    next_step: str
    lasting: bool = True
    kind: AlertKind = AlertKind.service_health
    hourly: bool = False
    """Whether it comes with each request, so that an hour of it counts once."""


BEGINS = {
    "log_full": _Trouble(
        "inference_log/full",
        Severity.critical,
        "Free space on the disk of the inference log; answers are refused or not logged meanwhile.",
        kind=AlertKind.inference_log,
    ),
    "log_gap": _Trouble(
        "inference_log/unreported",
        Severity.error,
        "Nothing brings these predictions back; leave them out where performance is measured.",
        lasting=False,
        kind=AlertKind.inference_log,
    ),
    "log_damaged": _Trouble(
        "inference_log/damaged",
        Severity.error,
        "Look at the file that is named; what could be read of it has been kept.",
        lasting=False,
        kind=AlertKind.inference_log,
    ),
    "model_refused": _Trouble(
        "model", Severity.error, "Roll back, or register a version that loads: mlops models list"
    ),
    "model_failed": _Trouble(
        "failing",
        Severity.error,
        "See what it says; if the model is to blame, roll back: mlops models rollback FAMILY",
        lasting=False,
        hourly=True,
    ),
    "canary_stopped": _Trouble(
        "canary",
        Severity.warning,
        "See how it did: mlops canary FAMILY status",
        lasting=False,
    ),
    "canary_not_counted": _Trouble(
        "canary_count", Severity.warning, "Look at the server's log.", lasting=False
    ),
    "tokens_unreadable": _Trouble(
        "tokens", Severity.error, "Mend the file of tokens; the last good ones are valid meanwhile."
    ),
    "traffic_unreadable": _Trouble(
        "traffic", Severity.error, "Mend the file of traffic; the last good one holds meanwhile."
    ),
}
"""Kinds of events by which trouble begins."""

ENDS = {
    "log_recovered": "log_full",
    "model_loaded": "model_refused",
    "tokens_readable": "tokens_unreadable",
    "traffic_readable": "traffic_unreadable",
}
"""Kinds of events by which trouble ends, to that by which it began."""

UNREMARKABLE = frozenset({"canary_started", "canary_done"})
"""Kinds of events that are no trouble."""


def record_serving_events(
    book: AlertBook, lake: Lake, since: datetime | None = None, *, overlap: timedelta = timedelta(0)
) -> datetime | None:
    """Raise and close alerts by what the model server has reported.

    Parameters
    ----------
    book
        Takes the alerts. An event that it knows changes nothing.
    lake
        Holds the events.
    since
        Only later ones: what the call before returned. None for all.
    overlap
        How much further back to look, for events that were shipped out of order.

    Returns
    -------
    datetime or None
        When the newest event happened; ``since`` where there is none.

    Raises
    ------
    LakeError
        When the lake cannot be read or written.
    """
    newest = since
    recorded: set[tuple[str, str]] = set()
    for at, happened in _events(lake, since - overlap if since else None):
        if isinstance(happened, Occurrence):
            # What comes with each request comes by the thousand.
            if (happened.subject, happened.key) not in recorded:
                recorded.add((happened.subject, happened.key))
                book.record([happened])
        else:
            kind, subject, because = happened
            _resolve_older(book, kind, subject, because, at)
        newest = max(newest, at) if newest else at
    return newest


def _resolve_older(
    book: AlertBook, kind: AlertKind, subject: str, because: str, at: datetime
) -> None:
    """Close what was last noticed before that; a second look must not close what came after."""
    if any(
        alert.occurrence.subject == subject and (alert.occurrence.since or alert.seen_at) <= at
        for alert in book.open_alerts(kind)
    ):
        book.resolve(kind, [subject], because)


def _events(
    lake: Lake, since: datetime | None
) -> Iterator[tuple[datetime, Occurrence | tuple[AlertKind, str, str]]]:
    if not lake.exists(_EVENTS):
        return
    with lake.connect(tables=[_EVENTS]) as con:
        rows = con.execute(
            f"""
            SELECT event_id, "at", kind, family, version, message, since FROM {_EVENTS.sql}
            WHERE $since IS NULL OR "at" > $since
            ORDER BY "at", event_id
            """,
            {"since": since},
        ).fetchall()
    for event_id, at, kind, family, version, message, began in rows:
        model = f"{family}/{version}" if version is not None else family
        if trouble := BEGINS.get(kind):
            yield (
                at,
                Occurrence(
                    trouble.kind,
                    _subject(trouble, family),
                    f"{model} {at:%Y-%m-%d %H}" if trouble.hourly else event_id,
                    message,
                    trouble.severity,
                    asset=f"inference/{family}" if family else str(_EVENTS),
                    family=family,
                    since=began or at,
                    value=model,
                    next_step=trouble.next_step,
                    lasting=trouble.lasting,
                ),
            )
        elif begun := ENDS.get(kind):
            yield at, (BEGINS[begun].kind, _subject(BEGINS[begun], family), message)


def _subject(trouble: _Trouble, family: str | None) -> str:
    is_of_family = trouble.kind is AlertKind.service_health and family
    return f"{trouble.subject}/{family}" if is_of_family else trouble.subject
