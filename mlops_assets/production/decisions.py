"""The newest retraining decision of each family, as whoever acts on it finds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from mlops_assets.lake import Lake, TableNotFoundError
from mlops_assets.monitoring.tables import DECISIONS


@dataclass(frozen=True)
class KeptDecision:
    """A decision as it was written.

    Attributes
    ----------
    day
        The day that was evaluated.
    evaluation, evaluated_at
        Under which name, and when.
    retrain
        The decision.
    reasons_for, reasons_against
        In words.
    """

    day: date
    evaluation: str
    evaluated_at: datetime
    retrain: bool
    reasons_for: tuple[str, ...]
    reasons_against: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The decision in one line."""
        said = "; ".join(self.reasons_for) or "nothing asks for it"
        held = f"; against it: {'; '.join(self.reasons_against)}" if self.reasons_against else ""
        return f"{self.day}: {'retrain' if self.retrain else 'do not retrain'}: {said}{held}"


class NewestDecisions:
    """The newest decision of every family, read again only when the table has changed.

    Parameters
    ----------
    lake
        Holds the decisions.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._known: tuple[int, Mapping[str, KeptDecision]] = (-1, {})

    def of(self, family: str) -> KeptDecision | None:
        """Return the decision on a family's newest evaluated day; None where there is none."""
        try:
            version = self._lake.version(DECISIONS)
        except TableNotFoundError:
            return None
        if self._known[0] != version:
            self._known = (version, self._read(version))
        return self._known[1].get(family)

    def _read(self, version: int) -> Mapping[str, KeptDecision]:
        with self._lake.connect(versions={DECISIONS: version}, tables=[DECISIONS]) as con:
            rows = con.execute(
                f"""
                SELECT family, day, evaluation, evaluated_at, retrain, reasons_for, reasons_against
                FROM {DECISIONS.sql}
                QUALIFY row_number() OVER (
                    PARTITION BY family ORDER BY day DESC, evaluated_at DESC
                ) = 1
                """
            ).fetchall()
        return {
            family: KeptDecision(
                day, evaluation, evaluated_at, retrain, tuple(reasons_for), tuple(reasons_against)
            )
            for family, day, evaluation, evaluated_at, retrain, reasons_for, reasons_against in rows
        }
