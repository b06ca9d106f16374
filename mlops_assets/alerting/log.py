"""The log of alerts: one append-only Delta table of everything that ever happened to any of them.

A change is decided from all rows there are, and is one commit under the next number of one Delta
application id. Who loses the race for a number reads what the other one wrote and decides again, so
no lock is needed, on however many machines the callers are.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mlops_assets.alerting.occurrence import AlertKind, Occurrence, Severity
from mlops_assets.lake import Lake, TableName

LOG = TableName("alerts", "log")
_APPLICATION = "alerts"
_FILES = 200
_DESCRIPTION = "Alerts: raised, repeated, sent or not, acknowledged, resolved. Rows are only added."


class Change(StrEnum):
    """What happened to an alert."""

    raised = "raised"
    repeated = "repeated"
    sending = "sending"
    sent = "sent"
    failed = "failed"
    acknowledged = "acknowledged"
    resolved = "resolved"


class Message(StrEnum):
    """What is said of an alert: that it began, that it goes on, that it ended."""

    raised = "raised"
    reminder = "reminder"
    resolved = "resolved"


@dataclass(frozen=True)
class Transition:
    """One thing that happened to one alert.

    Attributes
    ----------
    at
        When, in UTC.
    alert_id, rule
        Which alert, and the rule by which it was raised.
    change
        What happened.
    occurrence
        What was noticed, where something was raised or repeated.
    sinks
        Where messages about it go, where it was raised.
    sink, message
        What was sent where, or was not.
    until
        Until when nobody else sends that message, where somebody has begun to.
    by, reason
        Who did it and why: an acknowledgement's note, a failure's cause, how it ended.
    """

    at: datetime
    alert_id: str
    rule: str
    change: Change
    occurrence: Occurrence | None = None
    sinks: tuple[str, ...] = ()
    sink: str | None = None
    message: Message | None = None
    until: datetime | None = None
    by: str | None = None
    reason: str | None = None


_COLUMNS = (
    ("commit_number", "int64", "Number of the change that the row is part of; they rise by one."),
    ("place", "int64", "Place of the row within that change."),
    ("at", "timestamp", "When it happened."),
    ("alert_id", "string", "Alert that it happened to."),
    ("rule", "string", "Rule by which the alert was raised."),
    ("change", "string", "raised, repeated, sending, sent, failed, acknowledged or resolved."),
    ("kind", "string", "Kind of what was noticed; null unless raised or repeated, as all below."),
    ("subject", "string", "What it happened to, by a name that stays."),
    ("key", "string", "Which time it was; the same key is the same occurrence."),
    ("what", "string", "What was noticed, for people."),
    ("severity", "string", "info, warning, error or critical."),
    ("asset", "string", "Asset it concerns."),
    ("family", "string", "Model family it concerns."),
    ("day", "date", "Day of data it concerns."),
    ("value", "string", "What was measured."),
    ("threshold", "string", "What is allowed."),
    ("since", "timestamp", "When it began."),
    ("next_step", "string", "What to do."),
    ("link", "string", "Page of Dagster's UI that shows it, from its root."),
    ("lasting", "bool", "Whether it lasts until it ends; false for what is over when noticed."),
    ("sinks", "strings", "Where messages about the alert go; null unless raised."),
    ("sink", "string", "Where a message was sent, or was not."),
    ("message", "string", "Which message: raised, reminder or resolved."),
    ("until", "timestamp", "Until when nobody else sends it; null unless sending."),
    ("by", "string", "Who acknowledged it."),
    ("reason", "string", "Why it was not sent, how it ended, or the note of who acknowledged it."),
)
_OCCURRENCE = (
    *("kind", "subject", "key", "what", "severity", "asset", "family", "day", "value"),
    *("threshold", "since", "next_step", "link", "lasting"),
)


class AlertLog:
    """The rows of the log, read again only when somebody else has added some.

    Parameters
    ----------
    lake
        That holds it.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._version = -1
        self._commit_number = 0
        self._read: tuple[Transition, ...] = ()

    def transitions(self) -> tuple[Transition, ...]:
        """Return everything that happened, in its order."""
        if not self._lake.exists(LOG):
            return ()
        version = self._lake.version(LOG)
        if version != self._version:
            rows = self._lake.read(LOG, version).read_all()
            rows = rows.sort_by([("commit_number", "ascending"), ("place", "ascending")])
            listed = rows.to_pylist()
            self._read = tuple(map(_transition, listed))
            self._commit_number = listed[-1]["commit_number"] if listed else 0
            self._version = version
        return self._read

    def change(
        self, decide: Callable[[Sequence[Transition]], Sequence[Transition]]
    ) -> tuple[Transition, ...]:
        """Add what is decided, as one commit, if nobody else has changed anything meanwhile.

        Parameters
        ----------
        decide
            Is given all there is, and returns what to add; nothing, to leave it as it is. It is
            asked again when somebody else was faster, so it must change nothing itself.

        Returns
        -------
        tuple of Transition
            What was added.

        Raises
        ------
        LakeError
            When the lake cannot be read or written.
        """
        while True:
            known = self.transitions()
            added = tuple(decide(known))
            if not added:
                return ()
            number = self._commit_number + 1
            commit = self._lake.append(
                LOG,
                _table(added, number),
                transaction=(_APPLICATION, number),
                description=_DESCRIPTION,
            )
            if commit is None:
                continue
            if commit.version == self._version + 1:
                self._read, self._commit_number = (*known, *added), number
                self._version = commit.version
            return added

    def compact(self) -> None:
        """Join the small files that every change leaves, once there are many."""
        if self._lake.exists(LOG) and self._lake.describe(LOG).files > _FILES:
            self._lake.compact(LOG)


def _table(transitions: Sequence[Transition], number: int) -> Any:
    import pyarrow as pa

    kinds = {
        "timestamp": pa.timestamp("us", "UTC"),
        "date": pa.date32(),
        "string": pa.string(),
        "strings": pa.list_(pa.string()),
        "int64": pa.int64(),
        "bool": pa.bool_(),
    }
    schema = pa.schema(
        [pa.field(name, kinds[kind], metadata={"comment": text}) for name, kind, text in _COLUMNS]
    )
    rows = []
    for place, transition in enumerate(transitions):
        noticed = asdict(transition.occurrence) if transition.occurrence else {}
        rows.append(
            {
                **asdict(transition),
                **noticed,
                "sinks": list(transition.sinks) if transition.change is Change.raised else None,
                "commit_number": number,
                "place": place,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)


def _transition(row: dict[str, Any]) -> Transition:
    occurrence = None
    if row["kind"] is not None:
        noticed = {name: row[name] for name in _OCCURRENCE}
        occurrence = Occurrence(
            **{**noticed, "kind": AlertKind(row["kind"]), "severity": Severity(row["severity"])}
        )
    return Transition(
        at=row["at"],
        alert_id=row["alert_id"],
        rule=row["rule"],
        change=Change(row["change"]),
        occurrence=occurrence,
        sinks=tuple(row["sinks"] or ()),
        sink=row["sink"],
        message=Message(row["message"]) if row["message"] else None,
        until=row["until"],
        by=row["by"],
        reason=row["reason"],
    )
