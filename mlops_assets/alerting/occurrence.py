"""What alerts are about: one thing that somebody noticed, in words that need no further look-up."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from mlops_assets.declaration import without_secrets

_LONGEST_TEXT = 2_000


class AlertKind(StrEnum):
    """What kind of thing happened."""

    failed_check = "failed_check"
    stale_asset = "stale_asset"
    drift = "drift"
    performance = "performance"
    service_health = "service_health"
    failed_run = "failed_run"
    failed_sensor = "failed_sensor"
    incident = "incident"
    inference_log = "inference_log"


class Severity(StrEnum):
    """How bad it is, from the mildest to the worst."""

    info = "info"
    warning = "warning"
    error = "error"
    critical = "critical"

    @property
    def rank(self) -> int:
        """What to compare by: texts compare by the alphabet."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Occurrence:
    """One thing that was noticed.

    Attributes
    ----------
    kind
        What kind of thing.
    subject
        What it happened to, by a name that stays: an asset and its check, a job, a sensor. While an
        alert about a subject is open, more of the same is counted there and raises no other.
    key
        Which time it is: a run id, the id of an evaluation, the day that was looked at. The same
        key again is the same occurrence, and counted once.
    what
        What happened, in one or two sentences for people.
    severity
        How bad it is. A rule may say otherwise.
    asset
        The asset it concerns, such as ``raw/flights``.
    family
        The model family it concerns.
    day
        The day of data it concerns.
    value, threshold
        What was measured and what is allowed, as people write it, with the unit.
    since
        When it began, where that is not when it was noticed.
    next_step
        What to do.
    link
        Page of Dagster's UI that shows it, from its root: ``runs/<id>``. Default: the asset's.
    lasting
        Whether it lasts until it ends, as a failing check does. What is over when it is noticed,
        such as a rollback, does not: acknowledging the alert closes it.
    """

    kind: AlertKind
    subject: str
    key: str
    what: str
    severity: Severity = Severity.error
    asset: str | None = None
    family: str | None = None
    day: date | None = None
    value: str | None = None
    threshold: str | None = None
    since: datetime | None = None
    next_step: str | None = None
    link: str | None = None
    lasting: bool = True

    def cleaned(self, secrets: Mapping[str, Any] | None = None) -> "Occurrence":
        """Return it as it may be kept and sent: no secret in it, and no text without end.

        Parameters
        ----------
        secrets
            A declaration whose secret values must not be shown either.
        """
        texts = {
            field.name: shortened(without_secrets(value, secrets))
            for field in fields(self)
            if field.name not in {"kind", "severity"}
            and isinstance(value := getattr(self, field.name), str)
        }
        return Occurrence(
            **{field.name: getattr(self, field.name) for field in fields(self)} | texts
        )


def shortened(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Cut a text that is longer than people read."""
    return text if len(text) <= longest else f"{text[:longest]}…"
