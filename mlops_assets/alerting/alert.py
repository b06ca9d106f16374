"""An alert as it stands now: what its transitions, one after the other, have made of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from mlops_assets.alerting.log import Change, Message, Transition
from mlops_assets.alerting.occurrence import AlertKind, Occurrence, Severity

Identity = tuple[str, AlertKind, str]
"""What an alert is about: the rule, the kind, and the subject."""


class AlertState(StrEnum):
    """How an alert stands."""

    open = "open"
    acknowledged = "acknowledged"
    resolved = "resolved"


@dataclass(frozen=True)
class Delivery:
    """What one sink has been told of an alert.

    Attributes
    ----------
    sink
        Which.
    message
        What it was told last; None for nothing yet.
    told_at, told_severity
        When it was last told that something is wrong, and how bad it was then.
    failures
        How often sending has failed since.
    failed_at, reason
        When and why it failed last.
    claimed_until
        Until when somebody who began to send something has it to themselves.
    """

    sink: str
    message: Message | None = None
    told_at: datetime | None = None
    told_severity: Severity | None = None
    failures: int = 0
    failed_at: datetime | None = None
    reason: str | None = None
    claimed_until: datetime | None = None


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes
    ----------
    alert_id
        Unique, and the same whenever the same rule sees the same occurrence.
    rule
        By which it was raised.
    state
        How it stands.
    occurrence
        The newest of what was noticed; its severity is the worst so far.
    keys
        Every occurrence that was counted here.
    raised_at, seen_at
        When it was noticed first, and last.
    deliveries
        What each sink that messages go to has been told.
    acknowledged_by, acknowledged_at, note
        Who has it in hand, since when, and what they said.
    resolved_at, resolved_because
        When it ended, and how that is known.
    """

    alert_id: str
    rule: str
    state: AlertState
    occurrence: Occurrence
    keys: frozenset[str]
    raised_at: datetime
    seen_at: datetime
    deliveries: Mapping[str, Delivery] = field(default_factory=lambda: MappingProxyType({}))
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    note: str | None = None
    resolved_at: datetime | None = None
    resolved_because: str | None = None

    @property
    def identity(self) -> Identity:
        """What it is about."""
        return self.rule, self.occurrence.kind, self.occurrence.subject

    @property
    def is_open(self) -> bool:
        """Whether it has not ended; an acknowledged one has not."""
        return self.state is not AlertState.resolved

    @property
    def undelivered(self) -> tuple[str, ...]:
        """Sinks that should know of it and have not been told anything."""
        if self.state is not AlertState.open:
            return ()
        return tuple(name for name, told in self.deliveries.items() if told.message is None)


def fold(transitions: Iterable[Transition]) -> dict[str, Alert]:
    """Return every alert by its id, the oldest first.

    Parameters
    ----------
    transitions
        In the order in which they happened.
    """
    alerts: dict[str, Alert] = {}
    for transition in transitions:
        alerts[transition.alert_id] = after(alerts.get(transition.alert_id), transition)
    return alerts


def after(alert: Alert | None, transition: Transition) -> Alert:
    """Return what an alert is after one more transition; None before its first."""
    return _raised(transition) if alert is None else _changed(alert, transition)


def _raised(transition: Transition) -> Alert:
    occurrence = _of(transition)
    return Alert(
        alert_id=transition.alert_id,
        rule=transition.rule,
        state=AlertState.open,
        occurrence=occurrence,
        keys=frozenset({occurrence.key}),
        raised_at=transition.at,
        seen_at=transition.at,
        deliveries=MappingProxyType({name: Delivery(name) for name in transition.sinks}),
    )


def _changed(alert: Alert, transition: Transition) -> Alert:
    match transition.change:
        case Change.repeated:
            return _repeated(alert, transition)
        case Change.acknowledged:
            return replace(
                alert,
                state=AlertState.acknowledged,
                acknowledged_by=transition.by,
                acknowledged_at=transition.at,
                note=transition.reason,
            )
        case Change.resolved:
            return replace(
                alert,
                state=AlertState.resolved,
                resolved_at=transition.at,
                resolved_because=transition.reason,
            )
        case Change.sending | Change.sent | Change.failed:
            return _told(alert, transition)
        case Change.raised:
            raise ValueError(f"alert {alert.alert_id} is raised a second time, at {transition.at}")


def _repeated(alert: Alert, transition: Transition) -> Alert:
    newest = _of(transition)
    worst = max(alert.occurrence.severity, newest.severity, key=lambda severity: severity.rank)
    # Whoever acknowledged the milder one has not seen this.
    state = AlertState.open if worst is not alert.occurrence.severity else alert.state
    return replace(
        alert,
        state=state,
        occurrence=replace(newest, severity=worst, since=alert.occurrence.since or newest.since),
        keys=alert.keys | {newest.key},
        seen_at=transition.at,
    )


def _told(alert: Alert, transition: Transition) -> Alert:
    sink = str(transition.sink)
    before = alert.deliveries[sink]
    match transition.change:
        case Change.sending:
            told = replace(before, claimed_until=transition.until)
        case Change.sent:
            told = Delivery(sink, transition.message, transition.at, alert.occurrence.severity)
            if transition.message is Message.resolved:
                told = replace(told, told_at=before.told_at, told_severity=before.told_severity)
        case _:
            told = replace(
                before,
                failures=before.failures + 1,
                failed_at=transition.at,
                reason=transition.reason,
                claimed_until=None,
            )
    return replace(alert, deliveries=MappingProxyType({**alert.deliveries, sink: told}))


def _of(transition: Transition) -> Occurrence:
    if transition.occurrence is None:
        raise ValueError(f"alert {transition.alert_id}: {transition.change} without an occurrence")
    return transition.occurrence
