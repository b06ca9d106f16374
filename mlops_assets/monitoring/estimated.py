"""Performance before labels are in, estimated from the model's own calibrated probabilities.

Confidence-based performance estimation, CBPE: a row with calibrated probability p is a yes in p of
its cases, so metrics are computed with p in the place of the label (Kivimäki, Białek, Kuberski &
Nurminen 2025, arXiv:2505.05295; NannyML's documentation, "How it works: performance estimation").
It holds while P(label | answer) is as on validation; when that changes (concept drift), only
realised labels tell. It is for binary tasks. Regressions and multiclass tasks have no estimate
here: NannyML's direct loss estimation needs a second model, of the errors, which nothing keeps.

An interval has two parts: that labels are drawn, p or not, which is simulated, and that a day's
labels are off together, for example by weather that no feature knew. How much is learnt from
validation, where both estimate and truth are known. Validation is a sample as well, which counts.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mlops_assets.monitoring.calibration import Calibration, Method, fit_calibration
from mlops_assets.monitoring.errors import MonitoringError
from mlops_assets.monitoring.no_change import Floats
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.tasks import Binary, Task

ESTIMATED = ("roc_auc", "average_precision", "log_loss", "brier")
"""Metrics there is an estimate of, beside those at a threshold."""

AT_THRESHOLD = ("accuracy", "error_rate", "precision", "recall", "f1")

_DRAWS = 200
_SIMULATED_ROWS = 4_000  # the spread for more rows follows from that of these
_FEWEST_ROWS = 30  # of a day that says how far an estimate may be off
_CLIP = 1e-15


@dataclass(frozen=True)
class PerformanceEstimator:
    """What estimates performance of one model version without labels.

    Attributes
    ----------
    calibration
        From answers to probabilities.
    threshold
        Probability at and above which the answer is yes; None where the family has none.
    day_variance
        Metric to how much a day's truth varies about its estimate beyond the draw of its labels.
    rows, days
        What it was made on.
    source
        For people: which model, which part.
    """

    calibration: Calibration
    threshold: float | None
    day_variance: Mapping[str, float]
    rows: int
    days: int
    source: str

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "PerformanceEstimator":
        """Read what `to_json` wrote.

        Raises
        ------
        MonitoringError
            When it is none.
        """
        try:
            raw = json.loads(text)
            method: Method = raw["calibration"]["method"]
            points = (tuple(raw["calibration"]["x"]), tuple(raw["calibration"]["y"]))
            return cls(**{**raw, "calibration": Calibration(method, *points)})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise MonitoringError(f"this is no performance estimator: {error!r}") from error

    def estimate(
        self,
        answers: Floats,
        days: NDArray[np.generic],
        *,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> dict[str, Estimate]:
        """Estimate every metric, with the interval in which the truth is expected.

        Parameters
        ----------
        answers, days
            The model's probability and the day of each row, shape (rows,).
        confidence
            Level of the intervals.
        seed
            Of the simulated labels.

        Returns
        -------
        dict
            Metric to its estimate; without rows, each says so.
        """
        from scipy.stats import norm

        if not len(answers):
            nothing = Estimate(None, reason="there is no prediction")
            names = ESTIMATED + (AT_THRESHOLD if self.threshold is not None else ())
            return dict.fromkeys(names, nothing)
        expected, spread = self._expected(answers, seed)
        number = len(np.unique(days))
        reach = float(norm.ppf((1 + confidence) / 2))
        found = {}
        for name, value in expected.items():
            if not np.isfinite(value):
                found[name] = Estimate(None, reason=f"it is {value} on these answers")
                continue
            # The calibration was learnt from a sample too, of its own rows and days.
            by_rows = spread[name] * (1 + len(answers) / self.rows)
            by_days = self.day_variance.get(name, 0.0) * (1 / number + 1 / max(self.days, 1))
            off = reach * np.sqrt(by_rows + by_days)
            top = np.inf if name == "log_loss" else 1.0
            found[name] = Estimate(
                value, max(0.0, float(value - off)), min(top, float(value + off))
            )
        return found

    def _expected(self, answers: Floats, seed: int) -> tuple[dict[str, float], dict[str, float]]:
        """Return each metric's expectation, and its variance by the draw of the labels."""
        p = self.calibration(answers)
        expected = {
            k: float(v[0]) for k, v in soft_metrics(answers, p[None], self.threshold).items()
        }
        chosen = np.arange(0, len(answers), max(1, -(-len(answers) // _SIMULATED_ROWS)))
        random = np.random.default_rng(seed)
        drawn = (random.random((_DRAWS, len(chosen))) < p[chosen]).astype(np.float64)
        simulated = soft_metrics(answers[chosen], drawn, self.threshold)
        share = len(chosen) / len(answers)
        spread = {
            name: float(np.nanvar(values)) * share if np.isfinite(values).any() else 0.0
            for name, values in simulated.items()
        }
        return expected, spread


def fit_estimator(
    task: Task,
    label: Floats,
    answers: Floats,
    days: NDArray[np.generic],
    *,
    threshold: float | None = None,
    source: str = "",
    seed: int = 0,
) -> PerformanceEstimator:
    """Make the estimator of a model, from rows of validation.

    Parameters
    ----------
    task
        Of the family; it must be binary.
    label, answers, days
        Truth, the model's probability and the day of each row, shape (rows,). The model must not
        have learnt from them.
    threshold
        Probability at and above which the answer is yes.
    source
        Which model and part, for people.
    seed
        Of the simulated labels.

    Raises
    ------
    MonitoringError
        When the task is not binary, or there are too few labels of a class.
    """
    if not isinstance(task, Binary):
        raise MonitoringError(
            f"a {task.name} task has no performance estimate without labels; only binary ones "
            "have. Its realised performance and its drift are watched"
        )
    calibration = fit_calibration(label, answers, days)
    bare = PerformanceEstimator(calibration, threshold, {}, len(label), 0, source)
    off: dict[str, list[float]] = {}
    names = np.unique(days)
    for day in names:
        inside = days == day
        if inside.sum() < _FEWEST_ROWS or len(np.unique(label[inside])) < 2:
            continue
        truth = soft_metrics(answers[inside], label[inside][None], threshold)
        expected, spread = bare._expected(answers[inside], seed)  # noqa: SLF001 - its own maker
        for name, value in expected.items():
            gap = (float(truth[name][0]) - value) ** 2 - spread[name]
            if np.isfinite(gap):
                off.setdefault(name, []).append(gap)
    variance = {name: max(0.0, float(np.mean(gaps))) for name, gaps in off.items()}
    return PerformanceEstimator(calibration, threshold, variance, len(label), len(names), source)


def soft_metrics(answers: Floats, label: Floats, threshold: float | None) -> dict[str, Floats]:
    """Compute metrics with labels that may lie between 0 and 1.

    With labels of 0 and 1 they are the ordinary metrics.

    Parameters
    ----------
    answers
        Shape (rows,).
    label
        Shape (draws, rows).
    threshold
        For those that depend on one.

    Returns
    -------
    dict
        Metric to values of shape (draws,); NaN where a draw leaves it undefined.
    """
    order = np.argsort(answers, kind="stable")
    score, label = answers[order], label[:, order]
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    yes = np.add.reduceat(label, starts, axis=1)
    size = np.diff(np.r_[starts, len(score)]).astype(np.float64)
    no = size - yes
    all_yes, all_no = yes.sum(axis=1), no.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.cumsum(no, axis=1) - no / 2
        auc = (yes * below).sum(axis=1) / (all_yes * all_no)
        above_yes = np.cumsum(yes[:, ::-1], axis=1)[:, ::-1]
        above = np.cumsum(size[::-1])[::-1]
        average_precision = (yes * above_yes / above).sum(axis=1) / all_yes
        p = np.clip(score, _CLIP, 1 - _CLIP)
        rows = len(score)
        found: dict[str, Floats] = {
            "roc_auc": auc,
            "average_precision": average_precision,
            "log_loss": -(label @ np.log(p) + (1 - label) @ np.log1p(-p)) / rows,
            "brier": (label @ (1 - score) ** 2 + (1 - label) @ score**2) / rows,
        }
        if threshold is not None:
            flagged = (score >= threshold).astype(np.float64)
            hits = label @ flagged
            accuracy = (hits + (1 - label) @ (1 - flagged)) / rows
            found |= {
                "accuracy": accuracy,
                "error_rate": 1 - accuracy,
                "precision": hits / flagged.sum(),
                "recall": hits / all_yes,
                "f1": 2 * hits / (flagged.sum() + all_yes),
            }
    return found
