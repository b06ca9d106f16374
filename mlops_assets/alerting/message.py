"""What a message says: plain text. What a sink shows specially is escaped for it by Apprise."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from mlops_assets.alerting.alert import Alert
from mlops_assets.alerting.log import Message
from mlops_assets.alerting.occurrence import Occurrence, Severity, shortened

_LONGEST_TITLE = 150
_LONGEST_ENTRY = 300
_LISTED = 20


@dataclass(frozen=True)
class Text:
    """One message.

    Attributes
    ----------
    title
        One line.
    body
        Several lines.
    severity
        Sinks that have colours or icons choose by it; None where something has ended.
    """

    title: str
    body: str
    severity: Severity | None

    @classmethod
    def of(cls, alert: Alert, message: Message, ui_url: str = "") -> Self:
        """Write the message about an alert.

        Parameters
        ----------
        alert
            As it is now.
        message
            What to say of it.
        ui_url
            Where people reach Dagster's UI; empty for no link.
        """
        found = alert.occurrence
        title = _line(f"{_prefix(message, found.severity)}: {_about(found)}")
        lines = [_line(found.what), ""]
        lines += [f"{name}: {_line(value)}" for name, value in _facts(alert, message) if value]
        if ui_url:
            lines.append(f"Look: {_link(ui_url, found)}")
        lines += ["", f"Alert {alert.alert_id}, by the rule {alert.rule}."]
        if message is not Message.resolved:
            lines[-1] += f" To silence it: mlops alerts acknowledge {alert.alert_id}"
        return cls(
            title=title if len(title) <= _LONGEST_TITLE else f"{title[:_LONGEST_TITLE]}…",
            body="\n".join(lines),
            severity=None if message is Message.resolved else found.severity,
        )

    @classmethod
    def digest(cls, alerts: Sequence[Alert], message: Message, ui_url: str = "") -> Self:
        """Write one message about several alerts of a rule.

        Parameters
        ----------
        alerts
            As they are now; at least one.
        message, ui_url
            As in `of`.
        """
        worst = max((alert.occurrence.severity for alert in alerts), key=lambda one: one.rank)
        lines = [
            _line(
                f"- {alert.alert_id} {alert.occurrence.severity}: {_about(alert.occurrence)}: "
                f"{shortened(alert.occurrence.what, _LONGEST_ENTRY)}"
            )
            for alert in alerts[:_LISTED]
        ]
        if len(alerts) > _LISTED:
            lines.append(f"… and {len(alerts) - _LISTED} more.")
        if ui_url:
            lines += ["", f"Look: {ui_url.rstrip('/')}"]
        lines += ["", f"{len(alerts)} alerts by the rule {alerts[0].rule}. All: mlops alerts list"]
        return cls(
            title=f"{_prefix(message, worst)}: {len(alerts)} alerts of {alerts[0].rule}",
            body="\n".join(lines),
            severity=None if message is Message.resolved else worst,
        )


TEST_TEXT = Text(
    "TEST: alerts of mlops reach this place",
    "Nothing happened. Somebody ran `mlops alerts test` to see whether messages arrive here.",
    Severity.info,
)


def _prefix(message: Message, severity: Severity) -> str:
    return {
        Message.raised: severity.upper(),
        Message.reminder: f"STILL {severity.upper()}",
        Message.resolved: "RESOLVED",
    }[message]


def _about(found: Occurrence) -> str:
    return f"{found.kind.replace('_', ' ')}: {found.subject}"


def _facts(alert: Alert, message: Message) -> list[tuple[str, str | None]]:
    found = alert.occurrence
    where = [
        f"asset {found.asset}" if found.asset else "",
        f"family {found.family}" if found.family else "",
        f"day {found.day:%Y-%m-%d}" if found.day else "",
    ]
    measured = found.value
    if found.threshold:
        measured = f"{found.value or 'not measured'}; allowed: {found.threshold}"
    times = len(alert.keys)
    facts = [
        ("Where", ", ".join(filter(None, where))),
        ("Value", measured),
        ("Since", _instant(found.since or alert.raised_at)),
        ("Seen", f"{times} times, last {_instant(alert.seen_at)}" if times > 1 else None),
    ]
    if message is Message.resolved:
        ended = alert.resolved_at
        said = f"{_instant(ended)}: {alert.resolved_because}" if ended else None
        return [*facts, ("Ended", said)]
    return [*facts, ("Next step", found.next_step)]


def _link(ui_url: str, found: Occurrence) -> str:
    from urllib.parse import quote

    page = found.link or (f"assets/{found.asset}" if found.asset else "")
    return f"{ui_url.rstrip('/')}/{quote(page, safe='/?=&')}"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}Z"


def _line(text: str) -> str:
    """Return a text as one line: what it quotes must not add lines, or headers to an e-mail."""
    return re.sub(r"[\s\x00-\x1f\x7f\u2028\u2029]+", " ", text).strip()
