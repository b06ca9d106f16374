"""Messages about what cannot be written down: the disk is full, or the lake cannot be reached.

An alert is kept first and sent then. When it cannot be kept, that itself is worth a message, which
goes out at once. What was told is remembered by this process alone, so that another one, or this
one after a restart, may tell it again.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from mlops_assets.alerting.alert import after
from mlops_assets.alerting.book import Clock, utc_now
from mlops_assets.alerting.declared import AlertRule, AlertsDeclaration
from mlops_assets.alerting.delivering import Sent
from mlops_assets.alerting.log import Change, Message, Transition
from mlops_assets.alerting.message import Text
from mlops_assets.alerting.occurrence import Occurrence
from mlops_assets.alerting.sinks import Sink

UNRECORDED = "unrecorded"
"""Stands for the id of an alert that has none."""


class Unrecorded:
    """Tells sinks of an occurrence without keeping it, at most once in each rule's cooldown.

    Parameters
    ----------
    declaration
        What is worth a message, and to whom.
    clock
        What time it is, in UTC.
    """

    def __init__(self, declaration: AlertsDeclaration, clock: Clock = utc_now) -> None:
        self._declaration = declaration
        self._clock = clock
        self._told: dict[tuple[str, str, str], datetime] = {}

    def tell(
        self, occurrence: Occurrence, sinks: Mapping[str, Sink], *, ui_url: str = ""
    ) -> tuple[Sent, ...]:
        """Send it to the sinks of every rule that matches; what fails is tried by the next call.

        Parameters
        ----------
        occurrence
            What happened.
        sinks
            By name, from `open_sinks`.
        ui_url
            Where people reach Dagster's UI, for links.
        """
        found = occurrence.cleaned()
        outcome = []
        for rule in self._declaration.alerts:
            if not rule.matches(found):
                continue
            for name in self._declaration.sinks_of(rule):
                about = (rule.name, name, found.subject)
                told = self._told.get(about)
                if name not in sinks or (told and self._clock() < told + rule.cooldown):
                    continue
                problem = sinks[name].send(self._text(rule, found, ui_url))
                outcome.append(Sent(UNRECORDED, name, Message.raised, problem))
                if problem is None:
                    self._told[about] = self._clock()
        return tuple(outcome)

    def _text(self, rule: AlertRule, found: Occurrence, ui_url: str) -> Text:
        worst = replace(found, severity=rule.severity or found.severity)
        raised = Transition(self._clock(), UNRECORDED, rule.name, Change.raised, worst)
        return Text.of(after(None, raised), Message.raised, ui_url)
