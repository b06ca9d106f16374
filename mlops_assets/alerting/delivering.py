"""Sending what is due: new messages and those that could not be sent before.

Every message is claimed in the log before it is sent and noted there afterwards, so no two callers
send the same one. Who is killed between the two leaves a claim that lapses, and then it is sent
again: a message arrives at least once, and more than once only then, or when a sink took it and did
not say so in time. Each sink is on its own: what one has got is not sent to it again because
another one has not.

When more than `STORM` messages of a rule are due for a sink at once, they are sent as one.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import repeat

from mlops_assets.alerting.alert import Alert, AlertState, Delivery, Identity, fold
from mlops_assets.alerting.book import AlertBook
from mlops_assets.alerting.log import Change, Message, Transition
from mlops_assets.alerting.message import Text
from mlops_assets.alerting.sinks import Sink

STORM = 5
"""More messages of one rule than this, due for a sink at the same time, are sent as one."""

_FIRST_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(hours=1)
_CLAIM_SLACK = timedelta(seconds=30)


@dataclass(frozen=True)
class Sent:
    """What became of the message about one alert; several may have been told by one.

    Attributes
    ----------
    alert_id, sink, message
        Which one.
    problem
        Why it was not sent; None if it was.
    """

    alert_id: str
    sink: str
    message: Message
    problem: str | None


@dataclass(frozen=True)
class Deliveries:
    """What one call has sent.

    Attributes
    ----------
    sent, failed
        What was sent, and what was not, one for each alert.
    unusable
        Sinks that are not set up, each with why; nothing was tried there.
    waiting
        Messages that are due and were not tried: their sink has just failed, or time was up.
    """

    sent: tuple[Sent, ...] = ()
    failed: tuple[Sent, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0

    def __str__(self) -> str:
        """Say it in a line, for a log or a sensor's tick."""
        said = [f"{len(self.sent)} sent", f"{len(self.failed)} failed", f"{self.waiting} waiting"]
        why = {sent.sink: sent.problem for sent in self.failed} | dict(self.unusable)
        return "; ".join([", ".join(said), *(f"{name}: {text}" for name, text in why.items())])


@dataclass(frozen=True)
class _Due:
    """One message that is due: about one alert, or about several of a rule that say the same."""

    alerts: tuple[Alert, ...]
    sink: str
    message: Message

    def text(self, ui_url: str) -> Text:
        """Write it."""
        if len(self.alerts) == 1:
            return Text.of(self.alerts[0], self.message, ui_url)
        return Text.digest(self.alerts, self.message, ui_url)


def deliver(
    book: AlertBook,
    sinks: Mapping[str, Sink],
    *,
    ui_url: str = "",
    within: timedelta = timedelta(seconds=30),
    at_once: bool = False,
) -> Deliveries:
    """Send what is due; nothing that goes wrong at a sink is an error here.

    A sink that fails is left alone for the rest of the call, and a message that failed for half a
    minute, then twice as long each time, up to an hour.

    Parameters
    ----------
    book
        Whose alerts.
    sinks
        By name, from `open_sinks`.
    ui_url
        Where people reach Dagster's UI, for links.
    within
        Longest that sending may take. What is left then is sent by the next call.
    at_once
        Also try what failed a moment ago.

    Raises
    ------
    LakeError
        When the lake cannot be read or written.
    """
    deadline = time.monotonic() + within.total_seconds()
    usable = {name: sink for name, sink in sinks.items() if sink.problem is None}
    down: set[str] = set()
    done: list[Sent] = []
    with ThreadPoolExecutor(max(len(usable), 1), thread_name_prefix="alerts") as pool:
        while (left := deadline - time.monotonic()) > 0:
            asked = {name: sink for name, sink in usable.items() if name not in down}
            claimed = _claim(book, asked, at_once=at_once)
            if not claimed:
                break
            to = [usable[due.sink] for due in claimed]
            answers = pool.map(_send, claimed, to, repeat(ui_url), repeat(left))
            outcome = [sent for answer in answers for sent in answer]
            _note(book, outcome)
            done += outcome
            down |= {sent.sink for sent in outcome if sent.problem is not None}
    book.log.compact()
    left_over = _due(book, fold(book.log.transitions()), usable, book.clock(), at_once=at_once)
    return Deliveries(
        sent=tuple(sent for sent in done if sent.problem is None),
        failed=tuple(sent for sent in done if sent.problem is not None),
        unusable={name: sink.problem for name, sink in sinks.items() if sink.problem is not None},
        waiting=len(list(left_over)),
    )


def _claim(book: AlertBook, sinks: Mapping[str, Sink], *, at_once: bool) -> list[_Due]:
    """Take the first message that is due for each sink, so that nobody else sends it."""
    taken: dict[str, _Due] = {}

    def decide(known: Sequence[Transition]) -> list[Transition]:
        now = book.clock()
        taken.clear()
        for due in _due(book, fold(known), sinks, now, at_once=at_once):
            first = taken.setdefault(due.sink, due)
            if due is not first and _say_the_same(due, first):
                taken[due.sink] = replace(first, alerts=(*first.alerts, *due.alerts))
        for name, due in taken.items():
            if len(due.alerts) <= STORM:
                taken[name] = replace(due, alerts=due.alerts[:1])
        return [
            Transition(
                now,
                alert.alert_id,
                alert.rule,
                Change.sending,
                sink=due.sink,
                message=due.message,
                until=now + sinks[due.sink].timeout + _CLAIM_SLACK,
            )
            for due in taken.values()
            for alert in due.alerts
        ]

    book.log.change(decide)
    return list(taken.values())


def _say_the_same(one: _Due, other: _Due) -> bool:
    return (one.alerts[0].rule, one.message) == (other.alerts[0].rule, other.message)


def _send(due: _Due, sink: Sink, ui_url: str, within: float) -> tuple[Sent, ...]:
    """Send one message, and say what became of it for each alert that it is about."""
    problem = sink.send(due.text(ui_url), within)
    return tuple(Sent(alert.alert_id, due.sink, due.message, problem) for alert in due.alerts)


def _note(book: AlertBook, outcome: Sequence[Sent]) -> None:
    now = book.clock()

    def decide(known: Sequence[Transition]) -> list[Transition]:
        alerts = fold(known)
        return [
            Transition(
                now,
                sent.alert_id,
                alerts[sent.alert_id].rule,
                Change.sent if sent.problem is None else Change.failed,
                sink=sent.sink,
                message=sent.message,
                reason=sent.problem,
            )
            for sent in outcome
        ]

    book.log.change(decide)


def _due(
    book: AlertBook,
    alerts: Mapping[str, Alert],
    sinks: Mapping[str, Sink],
    now: datetime,
    *,
    at_once: bool,
) -> Iterator[_Due]:
    """Yield what is to be sent now, the oldest alert first."""
    told_at: dict[tuple[Identity, str], Delivery] = {}
    for alert in alerts.values():
        for name, delivery in alert.deliveries.items():
            if delivery.told_at is not None:
                told_at[alert.identity, name] = delivery
    for alert in alerts.values():
        for name, delivery in alert.deliveries.items():
            if name not in sinks or not _is_free(delivery, now, at_once=at_once):
                continue
            message = _message(book, alert, delivery, told_at.get((alert.identity, name)), now)
            if message is not None:
                yield _Due((alert,), name, message)


def _is_free(delivery: Delivery, now: datetime, *, at_once: bool) -> bool:
    """Tell whether it may be tried now: nobody is at it, and it did not fail a moment ago."""
    if delivery.claimed_until is not None and delivery.claimed_until > now:
        return False
    if delivery.failed_at is None or at_once:
        return True
    pause: timedelta = _FIRST_PAUSE * 2 ** min(delivery.failures - 1, 16)
    return now >= delivery.failed_at + min(pause, _LONGEST_PAUSE)


def _message(
    book: AlertBook, alert: Alert, delivery: Delivery, told: Delivery | None, now: datetime
) -> Message | None:
    """Say what a sink is to be told of an alert now, if anything.

    Parameters
    ----------
    told
        What this sink was told last about the same subject, be it by this alert or one before.
    """
    if alert.state is AlertState.resolved:
        is_told = delivery.message not in {None, Message.resolved}
        return Message.resolved if is_told else None
    if alert.state is AlertState.acknowledged:
        return None
    message = Message.raised if delivery.message is None else Message.reminder
    if told is None or told.told_at is None or told.told_severity is None:
        return message
    if alert.occurrence.severity.rank > told.told_severity.rank:
        return message
    rule = book.declaration.rule(alert.rule)
    is_cooling = rule is not None and now < told.told_at + rule.cooldown
    nothing_new = message is Message.reminder and alert.seen_at <= told.told_at
    return None if is_cooling or nothing_new else message
