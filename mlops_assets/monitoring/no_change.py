"""How large each drift statistic gets when nothing has changed: thresholds that know sample sizes.

Under no change the population stability index is about ``(1/n + 1/m) X`` with ``X`` chi-square of
one degree of freedom fewer than bins, for n current and m reference rows (Yurdakul & Naranjo 2020,
Journal of Risk Model Validation 14(4), 89-100). The Jensen-Shannon divergence in nats is, near no
change, an eighth of that (both are f-divergences: Csiszar & Shields 2004, Foundations and Trends
in Communications and Information Theory 1, section 4). The Kolmogorov-Smirnov distance has
Smirnov's limit (1948, Annals of Mathematical Statistics 19, 279-281).

All of them take rows as independent. Rows of one day are not: they share weather, holidays,
campaigns. So the reference's own days tell how much a day's shares vary beyond what independent
rows would, and this covariance is added to that of the rows: a design effect in the sense of Rao &
Scott 1981 (Journal of the American Statistical Association 76, 221-230), with their second-order
correction of the degrees of freedom (Satterthwaite's). Different days are taken as independent,
which a season is not: that is what the practical bounds are for.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DayEffects:
    """How much days of the reference differ beyond what independent rows would.

    Attributes
    ----------
    days
        Days the reference has; 0 where it was not told by day, and no effect is known.
    trace, squares
        Trace of the between-day covariance of the bins' shares, each bin divided by its share, and
        of that matrix squared.
    cumulative
        Largest between-day variance of a cumulative share.
    missing
        Between-day variance of the share of missing values.
    """

    days: int = 0
    trace: float = 0.0
    squares: float = 0.0
    cumulative: float = 0.0
    missing: float = 0.0


def day_effects(counts: Floats, missing: Floats) -> DayEffects:
    """Estimate day effects by moments.

    Parameters
    ----------
    counts
        Rows of each day and bin, shape (days, bins).
    missing
        Rows of each day without a value, shape (days,).
    """
    days = len(counts)
    present = counts.sum(axis=1)
    rows = present + missing
    found = _between(missing / rows, rows) if days > 1 else 0.0
    used = present > 0
    if used.sum() < 2 or counts.shape[1] < 2:
        return DayEffects(days, missing=found)
    size = present[used]
    weight = size / size.sum()
    shares = counts[used] / size[:, None]
    mean = weight @ shares
    off = shares - mean
    between = (off * weight[:, None]).T @ off
    between -= (weight / size).sum() * (np.diag(mean) - np.outer(mean, mean))
    root = np.sqrt(np.maximum(mean, np.finfo(float).tiny))
    standard = between / np.outer(root, root)
    trace = max(0.0, float(np.trace(standard)))
    cumulative = [_between(share, size) for share in np.cumsum(shares, axis=1)[:, :-1].T]
    return DayEffects(
        days,
        trace=trace,
        squares=min(float((standard**2).sum()), trace**2),
        cumulative=max(cumulative),
        missing=found,
    )


def _between(share: Floats, rows: Floats) -> float:
    """Return the variance of a share between days, beyond what rows of that number have."""
    weight = rows / rows.sum()
    mean = float(weight @ share)
    variance = float(weight @ (share - mean) ** 2)
    return max(0.0, variance - float((weight / rows).sum()) * mean * (1 - mean))


@dataclass(frozen=True)
class NoChange:
    """What is to be expected of two samples of one distribution.

    Attributes
    ----------
    current, reference
        Rows of each.
    days
        Days that the current rows are of.
    effects
        Of the reference's days.
    alpha
        Probability with which a statistic exceeds its threshold although nothing has changed.
    """

    current: int
    reference: int
    days: int
    effects: DayEffects
    alpha: float

    @property
    def _rows(self) -> float:
        return 1 / self.current + 1 / self.reference

    @property
    def _days(self) -> float:
        return 1 / max(self.days, 1) + 1 / max(self.effects.days, 1)

    def psi(self, bins: int) -> float:
        """Return the threshold of the population stability index over so many bins."""
        from scipy.stats import chi2

        freedom, rows, days = bins - 1, self._rows, self._days
        mean = rows * freedom + days * self.effects.trace
        squares = (
            rows**2 * freedom
            + 2 * rows * days * self.effects.trace
            + days**2 * self.effects.squares
        )
        return float(squares / mean * chi2.ppf(1 - self.alpha, mean**2 / squares))

    def jensen_shannon(self, bins: int) -> float:
        """Return the threshold of the Jensen-Shannon distance over so many bins."""
        return min(1.0, math.sqrt(self.psi(bins) / (8 * math.log(2))))

    def kolmogorov_smirnov(self) -> float:
        """Return the threshold of the Kolmogorov-Smirnov distance; too high where values repeat."""
        spread = self._rows + 4 * self._days * self.effects.cumulative
        return min(1.0, math.sqrt(-math.log(self.alpha / 2) / 2 * spread))

    def missing(self, missing: int) -> float:
        """Return the threshold of a change of the share of missing values.

        Parameters
        ----------
        missing
            Rows of the reference without a value.
        """
        from scipy.stats import norm

        share = (missing + 0.5) / (self.reference + 1)
        variance = self._rows * share * (1 - share) + self._days * self.effects.missing
        return float(norm.ppf(1 - self.alpha / 2) * math.sqrt(variance))

    def unseen(self, once: int) -> float:
        """Return the threshold of the share of rows with a level that the reference has not.

        The chance that a row is of an unseen level is about the share of levels seen once (Good
        1953, Biometrika 40, 237-264).

        Parameters
        ----------
        once
            Levels that the reference has exactly once.
        """
        from scipy.stats import binom

        chance = min(1.0, max(once, 1) / self.reference)
        return float(binom.ppf(1 - self.alpha, self.current, chance)) / self.current
