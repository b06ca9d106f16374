"""The test that watches a canary: valid however often it is looked at, whenever it is stopped.

Each arm has seen so many requests, and the sum of something between 0 and 1 over them: failures, or
bounded losses. The null hypothesis is that the canary's mean is at most the champion's plus a
margin. The test statistic is a mixture likelihood ratio (Robbins 1970, Annals of Mathematical
Statistics 41, 1397-1409; the mixture SPRT of Johari, Koomen, Pekelis & Walsh 2022, Operations
Research 70, 1806-1821): Bernoulli likelihoods averaged over a Beta(1/2, 1/2) prior of either mean,
over the greatest likelihood that the null hypothesis allows (universal inference: Wasserman, Ramdas
& Balakrishnan 2020, PNAS 117, 16880-16890).

Under the null hypothesis that ratio is never above a nonnegative supermartingale that begins at 1,
so that by Ville's inequality it ever exceeds 1/alpha with a probability of at most alpha. For
values between 0 and 1 that are no counts the same holds, because the Bernoulli likelihood ratio is
convex in the value (Howard, Ramdas, McAuliffe & Sekhon 2021, Annals of Statistics 49, 1055-1080:
the sub-Bernoulli case). It depends on counts and sums alone, so that those of several processes add
up and a restart forgets nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

_PRIOR = 0.5
_HALVINGS = 60  # of an interval between 0 and 1, down to the precision of a float


@dataclass(frozen=True)
class Tally:
    """What one arm has seen.

    Attributes
    ----------
    count
        Observations.
    total
        Their sum; each lies between 0 and 1.
    """

    count: int = 0
    total: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.total <= self.count:
            raise ValueError(
                f"{self.count} observations between 0 and 1 cannot add up to {self.total}"
            )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.count + other.count, self.total + other.total)

    @property
    def mean(self) -> float | None:
        """Their mean; None without any."""
        return self.total / self.count if self.count else None


NOTHING_SEEN = Tally()


class Verdict(StrEnum):
    """What the test says."""

    go_on = "continue"
    stop_worse = "stop_worse"
    done = "done"


@dataclass(frozen=True)
class Judgement:
    """What the test says at one look.

    Attributes
    ----------
    verdict
        `stop_worse`: the canary's mean is greater than the champion's by more than the margin;
        `done`: it is shown not to be; `continue`: neither is shown.
    difference
        The canary's mean less the champion's; None before both have seen anything.
    p_value
        Of the verdict that the difference points to, valid at this and every other look.
    """

    verdict: Verdict
    difference: float | None
    p_value: float


@dataclass(frozen=True)
class SequentialTest:
    """Compares two arms by what they have seen so far.

    Attributes
    ----------
    margin
        By how much the canary's mean may be greater.
    alpha
        Probability of ever saying `stop_worse` while it is not, and of ever saying `done` while it
        is.
    minimum
        Observations of the canary before there is a verdict.
    """

    margin: float
    alpha: float
    minimum: int = 1

    def judge(self, champion: Tally, canary: Tally) -> Judgement:
        """Look once. Looking more often costs nothing."""
        if champion.mean is None or canary.mean is None:
            return Judgement(Verdict.go_on, None, 1.0)
        difference = canary.mean - champion.mean
        p_value = math.exp(min(0.0, -_log_evidence(champion, canary, self.margin)))
        verdict = Verdict.go_on
        if p_value <= self.alpha and canary.count >= self.minimum:
            verdict = Verdict.stop_worse if difference > self.margin else Verdict.done
        return Judgement(verdict, difference, p_value)


def confidence_sequence(seen: Tally, alpha: float) -> tuple[float, float]:
    """Return an interval that holds the mean at every look at once, with probability 1 - alpha.

    Parameters
    ----------
    seen
        What was observed so far.
    alpha
        Probability with which it ever misses the mean.

    Returns
    -------
    tuple of float
        Lower and upper end, from the same mixture as the test.
    """
    threshold = _log_mixture(seen) + math.log(alpha)
    middle = seen.mean

    def is_inside(mean: float) -> bool:
        return _log_likelihood(mean, seen) >= threshold

    if middle is None:
        return 0.0, 1.0
    return _last_inside(is_inside, middle, 0.0), _last_inside(is_inside, middle, 1.0)


def _log_evidence(champion: Tally, canary: Tally, margin: float) -> float:
    """Return the logarithm of the evidence against the means being just the margin apart.

    Where the observed difference lies beyond the margin this is the evidence against every smaller
    difference, and the other way round: the likelihood is concave, so greatest at the border.
    """
    mixture = _log_mixture(champion) + _log_mixture(canary)
    low, high = 0.0, 1.0 - margin
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _slope(middle, champion) + _slope(middle + margin, canary) > 0:
            low = middle
        else:
            high = middle
    mean = (low + high) / 2
    return mixture - _log_likelihood(mean, champion) - _log_likelihood(mean + margin, canary)


def _log_mixture(seen: Tally) -> float:
    """Return the logarithm of the likelihood averaged over the prior."""
    return _log_beta(seen.total + _PRIOR, seen.count - seen.total + _PRIOR) - _log_beta(
        _PRIOR, _PRIOR
    )


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_likelihood(mean: float, seen: Tally) -> float:
    rest = seen.count - seen.total
    if (seen.total > 0 and mean <= 0) or (rest > 0 and mean >= 1):
        return -math.inf
    return (seen.total * math.log(mean) if seen.total > 0 else 0.0) + (
        rest * math.log1p(-mean) if rest > 0 else 0.0
    )


def _slope(mean: float, seen: Tally) -> float:
    """Return the derivative of the log likelihood, of which the sign is what matters."""
    rest = seen.count - seen.total
    if rest > 0 and mean >= 1:  # a total of losses may lack the last digit of a whole number
        return -math.inf
    return (seen.total / mean if seen.total > 0 else 0.0) - (rest / (1 - mean) if rest > 0 else 0.0)


def _last_inside(is_inside: Callable[[float], bool], inside: float, end: float) -> float:
    """Return how far towards an end the interval reaches."""
    if is_inside(end):
        return end
    for _ in range(_HALVINGS):
        middle = (inside + end) / 2
        if is_inside(middle):
            inside = middle
        else:
            end = middle
    return end
