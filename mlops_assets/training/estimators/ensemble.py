"""A weighted pool of fitted models, which is one more model.

Classes are pooled on the scale of log-probabilities (a log-linear pool: Genest & Zidek 1986,
Statistical Science 1), quantiles by their mean. Both are linear in what the members' SHAP values
add up to, so those of the ensemble are the weighted sum of its members'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features.errors import nearest
from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators.frame_json import frame_from, frame_values
from mlops_assets.training.estimators.permutation_shap import permutation_shap
from mlops_assets.training.estimators.protocol import (
    LOG_ODDS,
    MIDDLE_QUANTILE,
    PREDICTED_CLASS,
    Estimator,
    EstimatorError,
    Explanation,
    FitOptions,
    LearningCurve,
    Manifest,
)
from mlops_assets.training.metrics import Metric, Scored
from mlops_assets.training.tasks import Multiclass, Regression, Task

if TYPE_CHECKING:
    import pandas as pd

DEFAULTS: Mapping[str, Any] = {"members": [], "steps": 40, "bags": 20}
"""Names of the members, all that there are where it is empty; members picked in a bag, with
replacement, so that a weight is a multiple of one in `steps`; and resamples of the days."""

_SURE = 1e-6  # a probability nearer to 0 or 1 counts as this near, so that no member has a veto
_BACKGROUND_ROWS = 8  # rows that explanations of classes are counted from


@dataclass(frozen=True)
class Ensemble:
    """A weighted pool; see `mlops_assets.training.estimators.protocol.Estimator`.

    Attributes
    ----------
    members
        The fitted models that have a weight, by name.
    weights
        Of every model that was considered, by name; they add up to 1.
    background
        Rows from which contributions to classes are counted.
    """

    flavor: ClassVar[str] = "mlops_assets"
    requirements: ClassVar[tuple[str, ...]] = ()  # beside those of its members

    schema: FeatureSchema
    task: Task
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    members: Mapping[str, Estimator]
    weights: Mapping[str, float]
    background: "pd.DataFrame"

    @property
    def native(self) -> Mapping[str, Any]:
        """The members' models by name."""
        return {name: member.native for name, member in self.members.items()}

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Refuse: an ensemble is made of fitted models, by `combine`."""
        del train, validation, parameters, options
        raise EstimatorError(
            "an ensemble learns from the answers of fitted members; declare at least two other "
            "candidates in its family, or call Ensemble.combine"
        )

    @classmethod
    def combine(
        cls,
        members: Mapping[str, Estimator],
        validation: Part,
        answers: Mapping[str, NDArray[np.float64]],
        parameters: Mapping[str, Any],
        options: FitOptions,
    ) -> Self:
        """Find the weights with which fitted models together answer the validation part best.

        Greedy selection with replacement, by the task's loss, averaged over bootstrap resamples of
        whole days (Caruana, Niculescu-Mizil, Crew & Ksikes 2004, ICML): weights that one stormy day
        would move are averaged out. Where that is worse on all the days than the best member alone,
        the selection on all days, which starts from that member, is taken.

        Parameters
        ----------
        members
            Fitted models of one task and of the same features, by name.
        validation
            The part that decides.
        answers
            What each member answers there *when trained without it*; by name.
        parameters
            See `DEFAULTS`.
        options
            The seed decides the resamples.

        Raises
        ------
        EstimatorError
            When a parameter or a member is unknown, there are fewer than two members, or they
            differ in task or features.
        """
        if unknown := [name for name in parameters if name not in DEFAULTS]:
            raise EstimatorError(
                f"ensemble takes no parameter {unknown[0]!r}; {nearest(unknown[0], DEFAULTS)}"
            )
        chosen = {**DEFAULTS, **parameters}
        for name in ("steps", "bags"):
            if not isinstance(chosen[name], int) or chosen[name] < 1:
                raise EstimatorError(f"ensemble parameter {name}: {chosen[name]!r} is not above 0")
        names = _chosen_members(chosen["members"] or list(members), members, answers, validation)
        raw = [_pooled(validation.task, answers[name]) for name in names]
        metric = validation.task.metric(validation.task.loss)
        found = _weights(raw, validation, metric, chosen, options.seed)
        weights = dict(zip(names, found, strict=True))
        rows = np.random.default_rng(options.seed).choice(
            len(validation), min(_BACKGROUND_ROWS, len(validation)), replace=False
        )
        return cls(
            validation.schema,
            validation.task,
            {**chosen, "members": names},
            LearningCurve(),
            {name: members[name] for name in names if weights[name] > 0},
            weights,
            validation.features.iloc[np.sort(rows)].reset_index(drop=True),
        )

    def refit(self, part: Part, options: FitOptions) -> Self:
        """Refit every member; the weights stay."""
        again = {name: member.refit(part, options) for name, member in self.members.items()}
        return replace(self, members=again)

    def pool(self, answers: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the ensemble's answers where its members gave these, by name."""
        pooled = [_pooled(self.task, answers[name]) for name in self.members]
        return _answers(self.task, _mean(pooled, [self.weights[name] for name in self.members]))

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the pooled answers."""
        return _answers(self.task, self._raw(features))

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's raw output: the members' SHAP values, weighted.

        Where a member is surer than the pool lets it be, its contributions shrink in proportion.
        Among several classes members may predict different ones; there the pool itself is explained
        by sampled SHAP values, see `mlops_assets.training.estimators.permutation_shap`.
        """
        from scipy.special import logit

        raw = self._raw(features)
        if isinstance(self.task, Multiclass):
            return self._explain_classes(features, raw)
        middle = self.task.middle if isinstance(self.task, Regression) else 0
        contributions = np.zeros((len(features), len(self.schema.names)))
        expected = np.zeros(len(features))
        for name, member in self.members.items():
            found = member.explain(features)
            allowed = found.score
            if not isinstance(self.task, Regression):
                allowed = np.clip(allowed, logit(_SURE), -logit(_SURE))
            way, there = allowed - found.expected, found.score - found.expected
            share = np.divide(way, there, out=np.ones_like(way), where=allowed != found.score)
            contributions += self.weights[name] * share[:, None] * found.contributions
            expected += self.weights[name] * found.expected
        of = MIDDLE_QUANTILE if isinstance(self.task, Regression) else LOG_ODDS
        return Explanation(self.schema.names, contributions, expected, raw[:, middle], of)

    def _explain_classes(self, features: "pd.DataFrame", raw: NDArray[np.float64]) -> Explanation:
        wanted = raw.argmax(axis=1)

        def score(frame: "pd.DataFrame", rows: NDArray[np.intp]) -> NDArray[np.float64]:
            found: NDArray[np.float64] = self._raw(frame)[np.arange(len(rows)), wanted[rows]]
            return found

        contributions, expected = permutation_shap(score, features, self.background, self.schema)
        own = raw[np.arange(len(raw)), wanted]
        return Explanation(self.schema.names, contributions, expected, own, PREDICTED_CLASS)

    def _raw(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the weighted mean of the members' pooled outputs, shape (rows, outputs)."""
        return _mean(
            [_pooled(self.task, member.predict(features)) for member in self.members.values()],
            [self.weights[name] for name in self.members],
        )

    def save(self, folder: Path) -> None:
        """Write each member into a folder of its own, and the manifest."""
        places = {name: f"member_{number}" for number, name in enumerate(self.members, start=1)}
        for name, member in self.members.items():
            (folder / places[name]).mkdir()
            member.save(folder / places[name])
        Manifest(
            f"{__name__}:{type(self).__name__}",
            self.schema,
            self.task,
            self.parameters,
            self.learning_curve,
            state={
                "weights": dict(self.weights),
                "members": places,
                "background": frame_values(self.background, self.schema),
            },
        ).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, each member by its own class."""
        from mlops_assets.training.estimators import load_estimator

        manifest = Manifest.read(folder)
        places = manifest.state["members"]
        return cls(
            manifest.schema,
            manifest.task,
            manifest.parameters,
            manifest.learning_curve,
            {name: load_estimator(folder / place) for name, place in places.items()},
            manifest.state["weights"],
            frame_from(manifest.state["background"], manifest.schema),
        )


def _chosen_members(
    names: Sequence[str],
    members: Mapping[str, Estimator],
    answers: Mapping[str, NDArray[np.float64]],
    validation: Part,
) -> list[str]:
    """Check the members by name, and return the names."""
    for name in names:
        if name not in members or name not in answers:
            known = [each for each in members if each in answers]
            raise EstimatorError(f"ensemble: there is no member {name!r}; {nearest(name, known)}")
        member = members[name]
        if member.task != validation.task or set(member.schema.names) != set(
            validation.schema.names
        ):
            raise EstimatorError(
                f"ensemble: member {name!r} was trained for another task or other features than "
                "the validation part has; train all members from one training-set version"
            )
        validation.task.check_answers(answers[name], len(validation))
    if len(set(names)) < 2:
        raise EstimatorError(
            f"ensemble: it needs at least two members, and has {', '.join(names) or 'none'}"
        )
    return list(dict.fromkeys(names))


def _pooled(task: Task, answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring answers to the scale on which they are averaged, shape (rows, outputs)."""
    from scipy.special import logit

    if isinstance(task, Regression):
        return task.table(answers)
    if isinstance(task, Multiclass):
        logarithms: NDArray[np.float64] = np.log(np.clip(answers, _SURE, 1.0))
        return logarithms
    log_odds: NDArray[np.float64] = logit(np.clip(answers, _SURE, 1 - _SURE))
    return task.table(log_odds)


def _answers(task: Task, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring pooled outputs back to answers."""
    from scipy.special import expit, softmax

    found: NDArray[np.float64] = raw
    if isinstance(task, Multiclass):
        found = softmax(raw, axis=1)
    elif not isinstance(task, Regression):
        found = expit(raw)
    return found[:, 0] if found.shape[1] == 1 else found


def _mean(raw: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    total = np.zeros_like(raw[0])
    for one, weight in zip(raw, weights, strict=True):
        total += weight * one
    return total


class _Bag:
    """Days with how often each counts, on which pools are judged; smaller is better."""

    def __init__(
        self, validation: Part, metric: Metric, times: NDArray[np.float64] | None = None
    ) -> None:
        self._part, self._metric = validation, metric
        days = len(np.unique(validation.days))
        self._times = np.ones((1, days)) if times is None else times[None, :]

    def loss(self, raw: NDArray[np.float64]) -> float:
        answers = _answers(self._part.task, raw)
        scored = Scored.of(self._part.task, self._part.label, answers, self._part.days)
        return -self._metric.sign * float(self._metric.reduce(scored)(self._times)[0])


def _weights(
    raw: Sequence[NDArray[np.float64]],
    validation: Part,
    metric: Metric,
    chosen: Mapping[str, Any],
    seed: int,
) -> list[float]:
    every_day = _Bag(validation, metric)
    alone = [every_day.loss(one) for one in raw]
    random = np.random.default_rng(seed)
    days = len(np.unique(validation.days))
    draws = random.multinomial(days, np.full(days, 1 / days), size=chosen["bags"])
    bags = [_Bag(validation, metric, times.astype(np.float64)) for times in draws]
    found = np.mean([_selection(raw, bag, chosen["steps"]) for bag in bags], axis=0)
    if every_day.loss(_mean(raw, found)) > min(alone):
        found = _selection(raw, every_day, chosen["steps"])
    return [float(weight) for weight in found]


def _selection(raw: Sequence[NDArray[np.float64]], bag: _Bag, steps: int) -> NDArray[np.float64]:
    """Pick members one after another, each time the one that helps most; return their shares.

    Of two that help equally the first is picked, so that a copy of a member changes nothing.
    """
    counts = np.zeros(len(raw))
    total = np.zeros_like(raw[0])
    best, best_loss = counts, np.inf
    for step in range(1, steps + 1):
        losses = [bag.loss((total + one) / step) for one in raw]
        picked = int(np.argmin(losses))
        counts, total = counts.copy(), total + raw[picked]
        counts[picked] += 1
        if losses[picked] < best_loss:
            best, best_loss = counts / step, losses[picked]
    return best
