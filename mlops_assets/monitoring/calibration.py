"""Calibration: a map from what a model answers to how often that came true, made once and kept.

Isotonic regression (Zadrozny & Elkan 2002, KDD, 694-699) or a logistic curve of the log-odds
(Platt 1999, Advances in Large Margin Classifiers), or no change; whichever predicts days that it
has not seen best. Made on validation, which the model has not learnt from.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlops_assets.monitoring.errors import MonitoringError
from mlops_assets.monitoring.no_change import Floats

Method = Literal["isotonic", "platt", "none"]
METHODS: tuple[Method, ...] = ("none", "platt", "isotonic")

FEWEST_OF_A_CLASS = 20
"""Labels of the rarer class that a calibration needs."""

_FOLDS = 5
_CLIP = 1e-9


@dataclass(frozen=True)
class Calibration:
    """A map from answers to probabilities.

    Attributes
    ----------
    method
        What kind.
    x, y
        Of `isotonic` the points between which it is linear; of `platt` the slope and the intercept
        of the log-odds, in `y`.
    """

    method: Method
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __call__(self, answers: Floats) -> Floats:
        """Return calibrated probabilities of answers of shape (rows,)."""
        if self.method == "isotonic":
            return np.interp(answers, self.x, self.y).astype(np.float64)
        if self.method == "platt":
            slope, intercept = self.y
            odds = np.clip(slope * _log_odds(answers) + intercept, -500, 500)
            found: Floats = 1 / (1 + np.exp(-odds))
            return found
        return answers


def fit_calibration(
    label: Floats,
    answers: Floats,
    days: NDArray[np.generic],
    method: Method | Literal["best"] = "best",
) -> Calibration:
    """Make the calibration of a model's answers.

    Parameters
    ----------
    label, answers, days
        Truth (0 or 1), the model's probability and the day of each row of validation, of shape
        (rows,).
    method
        `best` chooses by the log loss on days left out, in five folds of days.

    Raises
    ------
    MonitoringError
        When one class has too few labels.
    """
    fewest = int(min(label.sum(), (1 - label).sum()))
    if fewest < FEWEST_OF_A_CLASS:
        raise MonitoringError(
            f"{fewest} labels of one class are too few to calibrate by; at least "
            f"{FEWEST_OF_A_CLASS} are needed. Make the validation part longer"
        )
    if method != "best":
        return _fit(method, label, answers)
    fold = np.unique(days, return_inverse=True)[1].reshape(-1) % _FOLDS
    losses: dict[Method, float] = dict.fromkeys(METHODS, 0.0)
    for left_out in np.unique(fold):
        inside, outside = fold != left_out, fold == left_out
        if len(np.unique(label[inside])) < 2:
            continue
        for name in METHODS:
            p = _fit(name, label[inside], answers[inside])(answers[outside])
            p = np.clip(p, _CLIP, 1 - _CLIP)
            losses[name] -= float(np.log(np.where(label[outside] == 1, p, 1 - p)).sum())
    return _fit(min(METHODS, key=lambda name: losses[name]), label, answers)


def _fit(method: Method, label: Floats, answers: Floats) -> Calibration:
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        # A plateau of one class only says "rarely", not "never": half a label of the other class.
        least = 0.5 / len(label)
        fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        fitted.fit(answers, label)
        return Calibration(
            method, tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist())
        )
    if method == "platt":
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=1e6).fit(_log_odds(answers).reshape(-1, 1), label)
        return Calibration(method, (), (float(fitted.coef_[0, 0]), float(fitted.intercept_[0])))
    return Calibration("none")


def _log_odds(answers: Floats) -> Floats:
    p = np.clip(answers, _CLIP, 1 - _CLIP)
    found: Floats = np.log(p) - np.log1p(-p)
    return found
