"""Events of serving: what happened to models and to the log itself, for people and for alerts.

They travel in the inference log and become the table ``inference/events``.
"""

from dataclasses import dataclass
from enum import StrEnum


class EventKind(StrEnum):
    """What happened."""

    model_loaded = "model_loaded"
    model_refused = "model_refused"
    model_failed = "model_failed"
    canary_started = "canary_started"
    canary_stopped = "canary_stopped"
    canary_done = "canary_done"
    canary_not_counted = "canary_not_counted"
    tokens_unreadable = "tokens_unreadable"
    tokens_readable = "tokens_readable"
    traffic_unreadable = "traffic_unreadable"
    traffic_readable = "traffic_readable"
    log_full = "log_full"
    log_recovered = "log_recovered"
    log_gap = "log_gap"
    log_damaged = "log_damaged"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened while serving.

    Attributes
    ----------
    kind
        What.
    message
        For people: what, where, and what to do if anything.
    family, version
        The model it concerns; None where it concerns no single one.
    at
        When, in microseconds since 1970 in UTC; None for now.
    since
        When it began, where it took time, in the same unit.
    rows
        How many predictions it concerns, where that is known.
    """

    kind: EventKind
    message: str
    family: str | None = None
    version: int | None = None
    at: int | None = None
    since: int | None = None
    rows: int | None = None
