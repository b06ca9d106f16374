"""Permutation importance: how much worse the model gets when a feature's values are shuffled.

Breiman 2001 (Machine Learning 45, section 10), on rows the model has not seen. Where features say
nearly the same, shuffling one of them alone shows little, because the others stand in for it; so
whole feature views are shuffled as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator
from mlops_assets.training.metrics import Metric, MetricError, Scored

if TYPE_CHECKING:
    import pandas as pd

_ROWS_AT_ONCE = 50_000  # rows of one call of predict; many small calls cost more than they compute


@dataclass(frozen=True)
class PermutationImportance:
    """What shuffling costs.

    Attributes
    ----------
    name
        Of the feature, or of the feature view.
    features
        Those that were shuffled together; one, or a view's.
    loss
        How much worse the metric gets, positive when the model needs them whatever the metric's
        direction. The interval is Student's over the repeats, each on rows of its own.
    """

    name: str
    features: tuple[str, ...]
    loss: Estimate


def permutation_importance(
    estimator: Estimator,
    part: Part,
    metric: Metric,
    groups: Mapping[str, Sequence[str]],
    *,
    rows: int,
    repeats: int,
    confidence: float,
    seed: int,
) -> tuple[PermutationImportance, ...]:
    """Shuffle groups of features, one group at a time.

    Parameters
    ----------
    estimator
        The model.
    part
        Rows it did not learn from.
    metric
        What is to get worse.
    groups
        Name to features; a group may hold one.
    rows
        Rows of each repeat, drawn anew, so that the interval covers which rows they were.
    repeats
        How often.
    confidence
        Level of the interval.
    seed
        Decides rows and shuffles.

    Returns
    -------
    tuple of PermutationImportance
        Largest loss first; one that cannot be computed last, with the reason.

    Raises
    ------
    MetricError
        When the metric has no direction.
    """
    generator, sign = np.random.default_rng(seed), metric.sign
    losses: dict[str, list[float]] = {name: [] for name in groups}
    reasons: dict[str, str] = {}
    for _ in range(repeats):
        chosen = np.sort(generator.permutation(len(part))[:rows])
        features = part.features.iloc[chosen]
        try:
            whole = _measured(metric, part, chosen, estimator.predict(features))
            for name, answers in _shuffled(estimator, features, groups, generator):
                losses[name].append(sign * (whole - _measured(metric, part, chosen, answers)))
        except MetricError as error:
            reasons = dict.fromkeys(groups, str(error))
            break
    found = [
        PermutationImportance(
            name,
            tuple(features),
            Estimate(None, reason=reasons[name])
            if name in reasons
            else _over_repeats(losses[name], confidence),
        )
        for name, features in groups.items()
    ]
    return tuple(
        sorted(found, key=lambda one: -np.inf if one.loss.value is None else -one.loss.value)
    )


def _measured(
    metric: Metric, part: Part, chosen: NDArray[np.intp], answers: NDArray[np.float64]
) -> float:
    scored = Scored.of(part.task, part.label[chosen], answers, part.days[chosen])
    value = metric.value(scored)
    if not np.isfinite(value):
        raise MetricError(f"{metric.name} is undefined on {len(chosen)} rows")
    return value


def _shuffled(
    estimator: Estimator,
    features: "pd.DataFrame",
    groups: Mapping[str, Sequence[str]],
    generator: np.random.Generator,
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Give each group's answers when its columns are shuffled by one order for all of them."""
    import pandas as pd

    count = len(features)
    at_once = max(1, _ROWS_AT_ONCE // count)
    names = list(groups)
    for first in range(0, len(names), at_once):
        batch = names[first : first + at_once]
        orders = {name: generator.permutation(count) for name in batch}
        straight = np.tile(np.arange(count), len(batch))
        columns = {}
        for column in features.columns:
            order = straight
            for place, name in enumerate(batch):
                if column in groups[name]:
                    order = straight.copy() if order is straight else order
                    order[place * count : (place + 1) * count] = orders[name]
            columns[column] = features[column].array.take(order)
        answers = estimator.predict(pd.DataFrame(columns, copy=False))
        for place, name in enumerate(batch):
            yield name, answers[place * count : (place + 1) * count]


def _over_repeats(losses: Sequence[float], confidence: float) -> Estimate:
    from scipy.stats import t

    mean = float(np.mean(losses))
    if len(losses) < 2:
        return Estimate(mean, reason="one repeat; two are needed for an interval")
    error = float(np.std(losses, ddof=1)) / np.sqrt(len(losses))
    reach = float(t.ppf((1 + confidence) / 2, len(losses) - 1)) * error
    return Estimate(mean, mean - reach, mean + reach)
