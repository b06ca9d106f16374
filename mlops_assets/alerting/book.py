"""`AlertBook`: what becomes of what is noticed. It decides and writes down; it sends nothing."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlops_assets.alerting.alert import Alert, AlertState, Identity, after, fold
from mlops_assets.alerting.declared import AlertRule, AlertsDeclaration
from mlops_assets.alerting.errors import AlertError, AlertNotFoundError
from mlops_assets.alerting.log import AlertLog, Change, Transition
from mlops_assets.alerting.occurrence import AlertKind, Occurrence, shortened
from mlops_assets.declaration import did_you_mean, without_secrets
from mlops_assets.lake import Lake

Clock = Callable[[], datetime]

_ID_LENGTH = 12


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class AlertBook:
    """Every alert there ever was, and what to do with what is noticed next.

    Any number of processes may use one book at the same time: the lake keeps them apart.

    Parameters
    ----------
    lake
        Keeps the alerts, in the table ``alerts/log``.
    declaration
        What is worth an alert.
    clock
        What time it is, in UTC.
    """

    def __init__(self, lake: Lake, declaration: AlertsDeclaration, clock: Clock = utc_now) -> None:
        self.declaration = declaration
        self.clock = clock
        self.log = AlertLog(lake)

    # Looking

    def alerts(self) -> tuple[Alert, ...]:
        """Return every alert, the oldest first."""
        return tuple(fold(self.log.transitions()).values())

    def open_alerts(self, kind: AlertKind | None = None) -> tuple[Alert, ...]:
        """Return the alerts that have not ended, the acknowledged ones included, the oldest first.

        Parameters
        ----------
        kind
            Only those about this kind of thing.
        """
        return tuple(
            alert
            for alert in self.alerts()
            if alert.is_open and kind in {None, alert.occurrence.kind}
        )

    def find(self, start: str) -> Alert:
        """Return the alert whose id begins like this.

        Raises
        ------
        AlertNotFoundError
            When there is none, or more than one.
        """
        return _find(fold(self.log.transitions()), start)

    def history(self, alert_id: str) -> tuple[Transition, ...]:
        """Return everything that happened to one alert, in its order."""
        return tuple(t for t in self.log.transitions() if t.alert_id == alert_id)

    # Changing

    def record(self, occurrences: Iterable[Occurrence]) -> tuple[Alert, ...]:
        """Raise alerts about what was noticed, or count it where one is open already.

        The same rule counts the same occurrence of the same subject once, for ever; so whoever does
        not know whether something was recorded can record it again. What no rule matches is left.

        Parameters
        ----------
        occurrences
            In the order in which they were noticed.

        Returns
        -------
        tuple of Alert
            Those that were raised or repeated, as they are now.

        Raises
        ------
        LakeError
            When the lake cannot be read or written.
        """
        now = self.clock()
        noticed = [
            (rule, replace(found, severity=rule.severity or found.severity))
            for found in (occurrence.cleaned() for occurrence in occurrences)
            for rule in self.declaration.alerts
            if rule.matches(found)
        ]

        def decide(known: Sequence[Transition]) -> list[Transition]:
            latest: dict[Identity, Alert] = {}
            counted: dict[Identity, frozenset[str]] = {}
            for alert in fold(known).values():
                latest[alert.identity] = alert
                counted[alert.identity] = counted.get(alert.identity, frozenset()) | alert.keys
            added: list[Transition] = []
            for rule, occurrence in noticed:
                identity = (rule.name, occurrence.kind, occurrence.subject)
                keys = counted.get(identity, frozenset())
                newest = latest.get(identity)
                known_alert = newest if newest is not None and newest.is_open else None
                transition = self._noticed(rule, occurrence, known_alert, keys, now)
                if transition is not None:
                    added.append(transition)
                    latest[identity] = after(known_alert, transition)
                    counted[identity] = keys | {occurrence.key}
            return added

        return self._changed(self.log.change(decide)) if noticed else ()

    def resolve(self, kind: AlertKind, subjects: Iterable[str], because: str) -> tuple[Alert, ...]:
        """Close the open alerts about subjects whose trouble has ended.

        Parameters
        ----------
        kind
            Of the trouble.
        subjects
            Which; those without an open alert are left.
        because
            How that is known, for people: ``a later run succeeded``.

        Returns
        -------
        tuple of Alert
            Those that were closed.

        Raises
        ------
        LakeError
            When the lake cannot be read or written.
        """
        now, ended = self.clock(), frozenset(subjects)
        reason = shortened(without_secrets(because))

        def decide(known: Sequence[Transition]) -> list[Transition]:
            return [
                Transition(now, alert.alert_id, alert.rule, Change.resolved, reason=reason)
                for alert in fold(known).values()
                if alert.is_open
                and alert.occurrence.kind is kind
                and alert.occurrence.subject in ended
            ]

        return self._changed(self.log.change(decide)) if ended else ()

    def acknowledge(self, start: str, *, by: str, note: str = "") -> Alert:
        """Note that somebody has an alert in hand: nothing more is sent until it ends or is worse.

        An alert about what was over when it was noticed, such as a rollback, is closed by this.

        Parameters
        ----------
        start
            How the alert's id begins.
        by
            Who.
        note
            What they have to say about it.

        Raises
        ------
        AlertNotFoundError
            When there is no such alert, or more than one.
        AlertError
            When it has ended already, or somebody else has acknowledged it.
        """
        now = self.clock()

        def decide(known: Sequence[Transition]) -> Iterator[Transition]:
            alert = _find(fold(known), start)
            if alert.state is AlertState.resolved:
                raise AlertError(
                    f"alert {alert.alert_id} ended at {alert.resolved_at:%F %R}Z "
                    f"({alert.resolved_because}); there is nothing to acknowledge"
                )
            if alert.state is AlertState.acknowledged:
                raise AlertError(
                    f"alert {alert.alert_id} was acknowledged by {alert.acknowledged_by} at "
                    f"{alert.acknowledged_at:%F %R}Z"
                )
            reason = shortened(without_secrets(note)) or None
            about = (now, alert.alert_id, alert.rule)
            yield Transition(*about, Change.acknowledged, by=by, reason=reason)
            if not alert.occurrence.lasting:
                yield Transition(*about, Change.resolved, reason=f"acknowledged by {by}")

        [alert] = self._changed(self.log.change(lambda known: list(decide(known))))
        return alert

    def _noticed(
        self,
        rule: AlertRule,
        occurrence: Occurrence,
        alert: Alert | None,
        counted: frozenset[str],
        now: datetime,
    ) -> Transition | None:
        """Decide what something that was noticed is: new, more of the same, or nothing new."""
        is_counted = occurrence.key in counted
        if alert is None:
            if is_counted:
                return None
            alert_id = _alert_id(rule.name, occurrence.kind, occurrence.subject, occurrence.key)
            sinks = self.declaration.sinks_of(rule)
            return Transition(now, alert_id, rule.name, Change.raised, occurrence, sinks)
        goes_on = (
            occurrence.key in alert.keys
            and occurrence.lasting
            and now - alert.seen_at >= rule.cooldown
        )
        worse = occurrence.severity.rank > alert.occurrence.severity.rank
        if is_counted and not goes_on and not worse:
            return None
        return Transition(now, alert.alert_id, rule.name, Change.repeated, occurrence)

    def _changed(self, added: Sequence[Transition]) -> tuple[Alert, ...]:
        alerts = fold(self.log.transitions())
        return tuple(alerts[name] for name in dict.fromkeys(t.alert_id for t in added))


def _alert_id(*parts: Any) -> str:
    text = "\x1f".join(map(str, parts))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]


def _find(alerts: dict[str, Alert], start: str) -> Alert:
    found = [alert for name, alert in alerts.items() if start and name.startswith(start)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(alert.alert_id for alert in found[:5])
        raise AlertNotFoundError(f"{start!r} begins several alerts: {names}; write more of it")
    raise AlertNotFoundError(
        f"there is no alert {start!r}{did_you_mean(start, alerts)}; `mlops alerts list --all` "
        "lists them"
    )
