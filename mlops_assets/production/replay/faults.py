"""Which faults a replay can be given, as a user writes them: ``KIND[:WHAT]@DAY``."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from mlops_assets.declaration import did_you_mean
from mlops_assets.production.replay.errors import ReplayError


class FaultKind(StrEnum):
    """What goes wrong."""

    drift = "drift"
    """A feature, or every feature of a view, is shifted from that day on."""
    broken_file = "broken-file"
    """The day's raw file breaks its contract; a mended one comes the day after."""
    late_correction = "late-correction"
    """A third of the day's raw rows are missing at first; the whole file comes days later."""
    bad_model = "bad-model"
    """A version with upside-down answers is promoted by hand in the evening of that day."""


@dataclass(frozen=True)
class Fault:
    """A fault and its day.

    Attributes
    ----------
    kind
        What goes wrong.
    day
        When it begins.
    what
        Of `drift`: the feature or the view; empty for all others.
    """

    kind: FaultKind
    day: date
    what: str = ""

    def __str__(self) -> str:
        what = f":{self.what}" if self.what else ""
        return f"{self.kind}{what}@{self.day}"


def parse_fault(text: str) -> Fault:
    """Read a fault as it is written on the command line.

    Raises
    ------
    ReplayError
        Saying what is wrong with it, and how it is written.
    """
    named, _, when = text.rpartition("@")
    kind, _, what = named.partition(":")
    kinds = [str(known) for known in FaultKind]
    written = (
        "write drift:FEATURE@DAY, broken-file@DAY, late-correction@DAY or bad-model@DAY, such as "
        "bad-model@2013-11-05"
    )
    if kind not in kinds:
        hint = did_you_mean(kind, kinds) or "."
        raise ReplayError(f"{text!r}: {kind!r} is no kind of fault{hint} {written}")
    if (kind == FaultKind.drift) != bool(what):
        said = "names no feature" if kind == FaultKind.drift else f"takes nothing, not {what!r}"
        raise ReplayError(f"{text!r}: {kind} {said}; {written}")
    try:
        return Fault(FaultKind(kind), date.fromisoformat(when), what)
    except ValueError as error:
        raise ReplayError(f"{text!r}: {when!r} is no day ({error}); {written}") from error
