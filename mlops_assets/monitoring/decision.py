"""The retraining decision: a pure function of what is known, with every reason for and against.

It launches nothing and asks no clock. Whoever acts on a decision does so once, by its id.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlops_assets.monitoring.errors import MonitoringError
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.family_monitoring import RetrainingPolicy


@dataclass(frozen=True)
class Champion:
    """What is known of the model that serves.

    Attributes
    ----------
    version
        In the registry.
    trained_at
        When its training ended.
    newest_row
        Newest instant among the rows it learnt from; None where not known.
    training_took
        How long its training took; None where not known.
    """

    version: int
    trained_at: datetime
    newest_row: datetime | None = None
    training_took: timedelta | None = None


@dataclass(frozen=True)
class DriftEvidence:
    """What drift there is in one evaluation.

    Attributes
    ----------
    features, drifted
        How many features were judged, and the names of those that drifted.
    predictions_drifted
        Whether the predictions themselves did.
    """

    features: int
    drifted: tuple[str, ...]
    predictions_drifted: bool = False

    @property
    def share(self) -> float:
        """Share of the features that drifted; 0 where none was judged."""
        return len(self.drifted) / self.features if self.features else 0.0

    def counts(self, policy: RetrainingPolicy) -> bool:
        """Tell whether it is enough."""
        return self.predictions_drifted or self.share >= policy.drifted_features


@dataclass(frozen=True)
class MetricEvidence:
    """A metric now, and what it was when the champion was judged.

    Attributes
    ----------
    metric, greater_is_better
        Which one.
    reference
        On the test part, when the champion was chosen.
    now
        Over the longest window.
    """

    metric: str
    greater_is_better: bool
    reference: float
    now: Estimate

    @property
    def drop(self) -> float | None:
        """How much worse it is, positive when worse; None where it cannot be computed."""
        if self.now.value is None:
            return None
        return self._worse(self.now.value)

    @property
    def certain_drop(self) -> float | None:
        """How much worse it is at least, by its interval; None without an interval."""
        best = self.now.high if self.greater_is_better else self.now.low
        return None if best is None else self._worse(best)

    def _worse(self, value: float) -> float:
        return self.reference - value if self.greater_is_better else value - self.reference


@dataclass(frozen=True)
class Situation:
    """All that a decision depends on.

    Attributes
    ----------
    family
        Whose.
    at
        The instant of the evaluation, with a zone.
    champion
        None where there is none.
    newest_label
        Newest instant among labelled rows; None where not known.
    new_rows
        Labelled rows that have come since the training; None where not known.
    drift
        Of the last evaluations, the newest last.
    realised, estimated
        Performance now; None where there is none.
    last_started
        When the last training began, whatever came of it; None where there was none.
    in_progress
        Whether one is running or queued.
    """

    family: str
    at: datetime
    champion: Champion | None
    newest_label: datetime | None = None
    new_rows: int | None = None
    drift: tuple[DriftEvidence, ...] = ()
    realised: MetricEvidence | None = None
    estimated: MetricEvidence | None = None
    last_started: datetime | None = None
    in_progress: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether to train again, and why.

    Attributes
    ----------
    family, at
        Whose, and when.
    retrain
        The decision.
    reasons_for, reasons_against
        In words, with the numbers; both are complete whatever was decided.
    champion
        Version that serves; None where there is none.
    age_days, data_age_days
        Age of the champion by the clock, and of its newest row by the newest label; None where not
        known.
    new_rows
        Labelled rows since its training; None where not known.
    drifted_share
        Share of the features that drifted in the newest evaluation; None without one.
    realised_drop, estimated_drop
        How much worse the primary metric is than its reference; None where not known.
    training_minutes
        What the last training took; None where not known.
    """

    family: str
    at: datetime
    retrain: bool
    reasons_for: tuple[str, ...]
    reasons_against: tuple[str, ...]
    champion: int | None
    age_days: float | None
    data_age_days: float | None
    new_rows: int | None
    drifted_share: float | None
    realised_drop: float | None
    estimated_drop: float | None
    training_minutes: float | None

    @property
    def summary(self) -> str:
        """The decision in one line."""
        said = "; ".join(self.reasons_for) or "nothing asks for it"
        held = f"; against it: {'; '.join(self.reasons_against)}" if self.reasons_against else ""
        return f"{self.family}: {'retrain' if self.retrain else 'do not retrain'}: {said}{held}"


def decide(situation: Situation, policy: RetrainingPolicy) -> Decision:
    """Decide whether a family is to be trained again.

    Parameters
    ----------
    situation
        What is known.
    policy
        What the family declares.

    Returns
    -------
    Decision
        Also where the answer is no.

    Raises
    ------
    MonitoringError
        When an instant has no time zone.
    """
    _check_zones(situation)
    overruling, reasons = _reasons_for(situation, policy)
    waits, too_few = _reasons_against(situation, policy)
    drift, too_dear = _drift_reason(situation, policy)
    if drift and not too_dear:
        reasons = (*reasons, drift)
    holds = bool(waits) or (bool(too_few) and not overruling)
    champion = situation.champion
    newest = situation.drift[-1] if situation.drift else None
    return Decision(
        family=situation.family,
        at=situation.at,
        retrain=bool(overruling or reasons) and not holds,
        reasons_for=(*overruling, *reasons),
        reasons_against=(*waits, *too_few, *([f"{drift}, but {too_dear}"] if too_dear else ())),
        champion=None if champion is None else champion.version,
        age_days=None if champion is None else _days(situation.at - champion.trained_at),
        data_age_days=_data_age(situation),
        new_rows=situation.new_rows,
        drifted_share=None if newest is None else newest.share,
        realised_drop=None if situation.realised is None else situation.realised.drop,
        estimated_drop=None if situation.estimated is None else situation.estimated.drop,
        training_minutes=None
        if champion is None or champion.training_took is None
        else champion.training_took.total_seconds() / 60,
    )


def _reasons_for(
    situation: Situation, policy: RetrainingPolicy
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the reasons that overrule too few new rows, and the others."""
    champion = situation.champion
    if champion is None:
        return ("there is no champion",), ()
    overruling, found = [], []
    age = situation.at - champion.trained_at
    if age > policy.max_age:
        overruling.append(
            f"version {champion.version} is {_days(age):.1f} days old, more than "
            f"{_days(policy.max_age):g}"
        )
    data_age = _data_age(situation)
    if policy.max_data_age is not None and data_age is not None:
        limit = _days(policy.max_data_age)
        if data_age > limit:
            found.append(f"its newest row is {data_age:.1f} days behind the labels, over {limit:g}")
    for title, evidence, allowed in (
        ("realised", situation.realised, policy.metric_drop),
        ("estimated", situation.estimated, policy.estimated_drop),
    ):
        if evidence is None or allowed is None or evidence.certain_drop is None:
            continue
        if evidence.certain_drop > allowed:
            found.append(
                f"{title} {evidence.metric} is {evidence.now}, against {evidence.reference:.4f} "
                f"when it was chosen: worse by more than {allowed:g}"
            )
    return tuple(overruling), tuple(found)


def _drift_reason(situation: Situation, policy: RetrainingPolicy) -> tuple[str, str]:
    """Say that drift has lasted, and that a training costs too much for it; empty where not so."""
    wanted = policy.drifted_windows
    recent = situation.drift[-wanted:]
    if len(recent) < wanted or not all(evidence.counts(policy) for evidence in recent):
        return "", ""
    newest = recent[-1]
    what = f"{len(newest.drifted)} of {newest.features} features drifted"
    if newest.predictions_drifted:
        what += " and so did the predictions"
    said = f"{what}, enough in {wanted} evaluations in a row"
    took = None if situation.champion is None else situation.champion.training_took
    if policy.max_cost is not None and took is not None and took > policy.max_cost:
        return said, f"the last training took {took}, more than {policy.max_cost}"
    return said, ""


def _reasons_against(
    situation: Situation, policy: RetrainingPolicy
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what holds back any training, and what holds one back that is not overdue."""
    waits, too_few = [], []
    if situation.in_progress:
        waits.append("a training is in progress")
    if situation.last_started is not None:
        since = situation.at - situation.last_started
        if since < policy.cooldown:
            waits.append(
                f"one began {_days(since):.1f} days ago, within the cooldown of "
                f"{_days(policy.cooldown):g}"
            )
    if situation.new_rows is not None and situation.new_rows < policy.min_new_rows:
        too_few.append(
            f"{situation.new_rows:,} labelled rows have come since, fewer than "
            f"{policy.min_new_rows:,}"
        )
    return tuple(waits), tuple(too_few)


def _data_age(situation: Situation) -> float | None:
    champion, newest = situation.champion, situation.newest_label
    if champion is None or champion.newest_row is None or newest is None:
        return None
    return max(0.0, _days(newest - champion.newest_row))


def _days(span: timedelta) -> float:
    return span / timedelta(days=1)


def _check_zones(situation: Situation) -> None:
    champion = situation.champion
    instants = {
        "at": situation.at,
        "newest_label": situation.newest_label,
        "last_started": situation.last_started,
        "champion.trained_at": None if champion is None else champion.trained_at,
        "champion.newest_row": None if champion is None else champion.newest_row,
    }
    for name, instant in instants.items():
        if instant is not None and instant.tzinfo is None:
            raise MonitoringError(
                f"{situation.family}: {name} {instant.isoformat()} has no time zone; ages cannot "
                f"be told. Give one, such as {instant.replace(tzinfo=UTC).isoformat()}"
            )
