"""What a replay has seen, day by day, and what came of each fault; as values, and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

from mlops_assets.training.bootstrap import Estimate


@dataclass(frozen=True)
class Training:
    """A training that was decided, and what came of it.

    Attributes
    ----------
    challenger
        The version that was made; None where none could be.
    promoted
        Whether it serves from the next day on.
    said
        What the gate said, or why there was no challenger.
    seconds
        Wall-clock seconds it took.
    """

    challenger: int | None
    promoted: bool
    said: str
    seconds: float


@dataclass(frozen=True)
class ReplayedDay:
    """One day, as it was in the evening.

    Attributes
    ----------
    day
        By the family's split column.
    champion
        Version that answered that day.
    predictions
        How many there were.
    realised, estimated
        The primary metric over the longest window; None where it was not looked at.
    reference
        The primary metric when the champion was chosen; None where not known.
    features, drifted
        How many features were judged, and which drifted.
    predictions_drifted
        Whether the predictions did.
    retrain, reasons_for, reasons_against
        The decision of that evening.
    training
        The training that followed; None where there was none.
    rolled_back_to
        Version that serves again from the next day on; None where nobody was taken back.
    alerts
        What was raised that evening, in a line each.
    notes
        What an injected fault did that day.
    """

    day: date
    champion: int
    predictions: int
    realised: Estimate | None
    estimated: Estimate | None
    reference: float | None
    features: int
    drifted: tuple[str, ...]
    predictions_drifted: bool
    retrain: bool
    reasons_for: tuple[str, ...]
    reasons_against: tuple[str, ...]
    training: Training | None = None
    rolled_back_to: int | None = None
    alerts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Say for people what was not ordinary, a line for each thing."""
        yield from self.notes
        if self.training is not None:
            yield f"trained again, because {'; '.join(self.reasons_for)}: {self.training.said}"
        if self.rolled_back_to is not None:
            yield f"version {self.champion} was rolled back; {self.rolled_back_to} serves again"
        yield from (f"alert: {alert}" for alert in self.alerts)


@dataclass(frozen=True)
class FaultOutcome:
    """What came of an injected fault.

    Attributes
    ----------
    fault
        As it was asked for.
    handled
        Whether the platform did what it promises.
    said
        What it did, with days and numbers.
    delay_days
        Days until it was noticed or taken back; None where it was not.
    """

    fault: str
    handled: bool
    said: str
    delay_days: int | None = None


@dataclass(frozen=True)
class Replayed:
    """A stretch of history that was lived again.

    Attributes
    ----------
    family, metric
        Whose, and its primary metric.
    champion
        Version that served on the first day.
    days
        Each of them, in order.
    faults
        What came of each injected fault.
    home
        Where everything was written; an ordinary home, to look into.
    seconds, cpu_seconds
        What it took, trainings included.
    """

    family: str
    metric: str
    champion: int
    days: tuple[ReplayedDay, ...]
    faults: tuple[FaultOutcome, ...]
    home: Path
    seconds: float
    cpu_seconds: float

    @property
    def trainings(self) -> tuple[tuple[date, Training], ...]:
        """Trainings with their days."""
        return tuple((day.day, day.training) for day in self.days if day.training is not None)

    @property
    def rollbacks(self) -> tuple[date, ...]:
        """Days on which the champion was taken back."""
        return tuple(day.day for day in self.days if day.rolled_back_to is not None)

    @property
    def alerts(self) -> tuple[tuple[date, str], ...]:
        """Alerts with their days."""
        return tuple((day.day, alert) for day in self.days for alert in day.alerts)

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), default=_jsonable, indent=1, allow_nan=False)


def _jsonable(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
