"""The rollback decision: a pure function of what is known, with every reason for and against.

It switches nothing and asks no clock. Three things can take a version out of service: its metric,
its errors, its latency; each only where a limit is declared, and only beyond what chance explains.
None of them does if going back would not help: if the version before broke the same limit.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import NormalDist

from mlops_assets.production.errors import ProductionError
from mlops_assets.training.family_monitoring import RollbackPolicy

SLOW_SHARE = 0.01
"""Share of the requests that may take longer than the limit of the 99th percentile."""


@dataclass(frozen=True)
class Comparison:
    """The champion beside the version it would give way to, on the same labelled rows.

    Attributes
    ----------
    metric
        By which.
    champion, other
        Each one's metric on all rows.
    gain
        Improvement of the champion over the other, negative where it is worse.
    at_most
        Upper end of the one-sided interval of the gain, at `level`.
    level
        Of that interval; it rises with every look.
    rows, days
        Rows, and days they are of.
    looks
        How often such a comparison may have been made of this champion by now.
    """

    metric: str
    champion: float
    other: float
    gain: float
    at_most: float
    level: float
    rows: int
    days: int
    looks: int

    def __str__(self) -> str:
        return (
            f"{self.metric} is {self.champion:.4f}, and the version before would have "
            f"{self.other:.4f} on the same {self.rows:,} rows of {self.days} days: gain "
            f"{self.gain:+.4f}, at most {self.at_most:+.4f} (level {self.level:.4g}, look "
            f"{self.looks})"
        )


@dataclass(frozen=True)
class ServiceRecord:
    """What a version's requests were like.

    Attributes
    ----------
    requests
        Answered ones.
    slow
        Those that took longer than the declared limit; None where there is no limit.
    predictions
        Asked for: answered or not.
    failed
        Those that got no answer, or one that is no number.
    """

    requests: int = 0
    slow: int | None = None
    predictions: int = 0
    failed: int = 0


@dataclass(frozen=True)
class RollbackSituation:
    """All that a decision depends on.

    Attributes
    ----------
    family
        Whose.
    at
        The instant of the evaluation, with a zone.
    champion
        Version that serves; None where there is none.
    target
        The last version that served before it and may come back; None where there is none.
    barred
        Versions that a rollback took out of service: none of them comes back by another one.
    comparison
        Champion beside target; None where there is none.
    no_comparison
        Why; empty where there is one, or none was wanted.
    labelled
        Labelled predictions of the champion that could be compared.
    service, service_before
        What the requests of the champion, and of the target while it served, were like; None where
        nothing of them is known.
    last_rollback
        When the last rollback was; None where there was none.
    """

    family: str
    at: datetime
    champion: int | None
    target: int | None = None
    barred: tuple[int, ...] = ()
    comparison: Comparison | None = None
    no_comparison: str = ""
    labelled: int = 0
    service: ServiceRecord | None = None
    service_before: ServiceRecord | None = None
    last_rollback: datetime | None = None


@dataclass(frozen=True)
class RollbackDecision:
    """Whether to take the champion back, and why.

    Attributes
    ----------
    family, at
        Whose, and when.
    roll_back
        The decision.
    champion, target
        Who serves, and who would; None where there is none.
    breaches
        Limits that the champion breaks, in words, with the numbers, whatever was decided.
    reasons_against
        What holds a rollback back, and what could not be judged, in words.
    comparison
        Champion beside target, where it was made.
    error_rate, slow_share
        Of the champion's predictions and requests; None where not known.
    """

    family: str
    at: datetime
    roll_back: bool
    champion: int | None
    target: int | None
    breaches: tuple[str, ...]
    reasons_against: tuple[str, ...]
    comparison: Comparison | None = None
    error_rate: float | None = None
    slow_share: float | None = None

    @property
    def summary(self) -> str:
        """The decision in one line."""
        to = f" to {self.family}/{self.target}" if self.roll_back else ""
        said = "; ".join(self.breaches) or "no limit is broken"
        held = f"; against it: {'; '.join(self.reasons_against)}" if self.reasons_against else ""
        verb = "roll back" if self.roll_back else "do not roll back"
        return f"{self.family}: {verb}{to}: {said}{held}"


def judge_rollback(situation: RollbackSituation, policy: RollbackPolicy) -> RollbackDecision:
    """Decide whether the champion gives way to the version before.

    Parameters
    ----------
    situation
        What is known.
    policy
        What the family declares.

    Returns
    -------
    RollbackDecision
        Also where the answer is no.

    Raises
    ------
    ProductionError
        When an instant has no time zone.
    """
    _check_zones(situation)
    by_metric, no_metric = _metric(situation, policy)
    by_service, no_service = _service(situation, policy)
    holds = _holds(situation, policy)
    breaches = (*by_metric, *by_service)
    service = situation.service
    return RollbackDecision(
        family=situation.family,
        at=situation.at,
        roll_back=bool(breaches) and not holds,
        champion=situation.champion,
        target=situation.target,
        breaches=breaches,
        reasons_against=(*holds, *no_metric, *no_service),
        comparison=situation.comparison,
        error_rate=_share(service.failed, service.predictions) if service else None,
        slow_share=_share(service.slow, service.requests) if service else None,
    )


def _holds(situation: RollbackSituation, policy: RollbackPolicy) -> tuple[str, ...]:
    """Return what forbids a rollback, whatever limit is broken."""
    found = []
    if not policy.is_automatic:
        found.append("no limit is declared, so nothing is rolled back by itself")
    if situation.champion is None:
        found.append("there is no champion")
    elif situation.target is None:
        barred = ", ".join(f"{situation.family}/{version}" for version in situation.barred)
        said = f"; {barred} came out of service by a rollback" if barred else ""
        found.append(f"there is no version to go back to{said}")
    last = situation.last_rollback
    if last is not None and situation.at - last < policy.cooldown:
        found.append(
            f"the last rollback was {_hours(situation.at - last):.1f} hours ago, within "
            f"the cooldown of {_hours(policy.cooldown):g}"
        )
    return tuple(found)


def _metric(
    situation: RollbackSituation, policy: RollbackPolicy
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the metric says for a rollback, and what it does not."""
    limit, found = policy.metric_drop, situation.comparison
    if limit is None or situation.target is None:
        return (), ()
    if situation.labelled < policy.min_rows:
        few = (
            f"{situation.labelled:,} of its predictions have a label and can be compared, fewer "
            f"than {policy.min_rows:,}"
        )
        return (), (few,)
    if found is None:
        return (), (f"its metric cannot be judged: {situation.no_comparison}",)
    if found.at_most < -limit:
        return (f"{found}: worse by more than {limit:g}",), ()
    return (), (f"{found}: not worse by more than {limit:g} beyond chance",)


def _service(
    situation: RollbackSituation, policy: RollbackPolicy
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which limits on errors and latency are broken, and what could not be judged."""
    record, before = situation.service, situation.service_before or ServiceRecord()
    if not policy.watches_service or record is None:
        return (), ()
    breaches, against = [], []
    for title, limit, allowed, now, then in (
        (
            "predictions failed",
            policy.error_rate,
            policy.error_rate,
            (record.failed, record.predictions),
            (before.failed, before.predictions),
        ),
        (
            f"requests took longer than {policy.p99_seconds} s",
            policy.p99_seconds,
            SLOW_SHARE,
            (record.slow or 0, record.requests),
            (before.slow or 0, before.requests),
        ),
    ):
        if limit is None or allowed is None or not now[1]:
            continue
        count, total = now
        said = f"{count:,} of {total:,} {title}"
        if total < policy.min_requests:
            against.append(f"{said}; {policy.min_requests:,} are needed to judge")
        elif not _exceeds(now, allowed, policy.confidence):
            against.append(f"{said}: not more than {allowed:.2%} beyond chance")
        elif then[1] and _exceeds(then, allowed, policy.confidence):
            against.append(
                f"{said}, more than {allowed:.2%}, but so did {then[0]:,} of {then[1]:,} of the "
                "version before: it would not help"
            )
        else:
            breaches.append(f"{said}, more than {allowed:.2%}")
    return tuple(breaches), tuple(against)


def _exceeds(seen: tuple[int, int], allowed: float, confidence: float) -> bool:
    """Tell whether the lower end of Wilson's score interval of a share is above what is allowed.

    Wilson 1927, Journal of the American Statistical Association 22, 209-212.
    """
    count, total = seen
    z = NormalDist().inv_cdf(confidence)
    share = count / total
    centre = share + z**2 / (2 * total)
    spread = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5
    low: float = (centre - spread) / (1 + z**2 / total)
    return low > allowed


def _share(count: int | None, total: int) -> float | None:
    return None if count is None or not total else count / total


def _hours(span: timedelta) -> float:
    return span / timedelta(hours=1)


def _check_zones(situation: RollbackSituation) -> None:
    for name in ("at", "last_rollback"):
        instant: datetime | None = getattr(situation, name)
        if instant is not None and instant.tzinfo is None:
            raise ProductionError(
                f"{situation.family}: {name} {instant.isoformat()} has no time zone; give one, "
                f"such as {instant.replace(tzinfo=UTC).isoformat()}"
            )
