"""Champion and the version before it on the same labelled rows, however often one looks.

The rows are those that the champion answered, after the last day that either of the two learnt
from. What the other would have answered is computed from the features that the champion saw, as
they were logged: drift, a broken feature or a hard month are then the same for both, and what
remains is what going back would change.

*The interval.* Days are the clusters, as everywhere. A champion is to be judged after few of them,
where percentiles of a bootstrap are too narrow, so the variance is the jackknife's over days, with
Student's t of one degree of freedom less than days (CV3: MacKinnon, Nielsen & Webb 2023, Journal of
Applied Econometrics 38, 671-694).

*Every look costs.* Who looks every day at a level of 95% takes back an equally good model sooner or
later. Look k gets the share 1/(k(k+1)) of the probability of a false rollback; the shares of all
looks there will ever be add up to one.
"""

import numpy as np
from numpy.typing import NDArray

from mlops_assets.production.rollback.deciding import Comparison
from mlops_assets.training.bootstrap import MINIMUM_BLOCKS
from mlops_assets.training.metrics import MetricError, Scored
from mlops_assets.training.tasks import Task


def look_level(looks: int, confidence: float) -> float:
    """Return the one-sided level of a look, so that all of them together keep the confidence.

    Parameters
    ----------
    looks
        Which look it is, from 1.
    confidence
        One minus the probability that any look ever is wrong.
    """
    return 1 - (1 - confidence) / (looks * (looks + 1))


def compare(
    metric: str,
    task: Task,
    label: NDArray[np.generic],
    champion: NDArray[np.generic],
    other: NDArray[np.generic],
    days: NDArray[np.generic],
    *,
    looks: int,
    confidence: float,
) -> Comparison:
    """Compare the champion with another version on the same rows.

    Parameters
    ----------
    metric
        Name of a metric that has a direction.
    task
        What kind of label and answers they are.
    label, champion, other, days
        Arrays, row by row the same: label and days of shape (rows,), answers as the task says.
    looks
        Which look it is, from 1.
    confidence
        As in `look_level`.

    Raises
    ------
    MetricError
        When the metric has no direction or cannot be computed on these rows, or there are fewer
        than `MINIMUM_BLOCKS` days.
    """
    from scipy.stats import t

    chosen = task.metric(metric)
    sign = chosen.sign
    ours, theirs = (Scored.of(task, label, given, days) for given in (champion, other))
    if ours.blocks < MINIMUM_BLOCKS:
        raise MetricError(
            f"{ours.blocks} days are too few to compare two versions; at least {MINIMUM_BLOCKS} "
            "are needed"
        )
    weighted_ours, weighted_theirs = chosen.reduce(ours), chosen.reduce(theirs)
    every = np.ones((1, ours.blocks))
    value_ours, value_theirs = float(weighted_ours(every)[0]), float(weighted_theirs(every)[0])
    without_one = np.ones((ours.blocks, ours.blocks)) - np.eye(ours.blocks)
    gains = sign * (weighted_ours(without_one) - weighted_theirs(without_one))
    if not np.isfinite(gains).all():
        raise MetricError(f"without one of the {ours.blocks} days, {metric} cannot be computed")
    deviations = gains - gains.mean()
    error = float(np.sqrt((ours.blocks - 1) / ours.blocks * (deviations @ deviations)))
    level = look_level(looks, confidence)
    gain = sign * (value_ours - value_theirs)
    return Comparison(
        metric=metric,
        champion=value_ours,
        other=value_theirs,
        gain=gain,
        at_most=gain + float(t.ppf(level, ours.blocks - 1)) * error,
        level=level,
        rows=len(ours),
        days=ours.blocks,
        looks=looks,
    )
