"""Asking a loaded model, by the cheapest way it has for so many rows.

A frame is what all estimators take, and building one costs more than a tree model needs to answer a
row. A model that also takes plain rows, or arrays, is asked that way: it answers in the thread that
asks, unless there are many rows and more cores than workers.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mlops_assets.serving.inputs import Inputs, joined
from mlops_assets.training.estimators import Estimator, Explanation

_FEW = 100
"""Up to so many rows, plain rows are faster than arrays (measured with CatBoost 1.2)."""

_ENOUGH = 400
"""From so many rows on, more threads than one save more time than they take to be woken."""

_MANY = 1_000
_TIMES = 7


@runtime_checkable
class _TakesArrays(Protocol):
    def predict_objects(self, rows: NDArray[np.object_]) -> NDArray[np.float64]: ...

    def predict_arrays(
        self,
        numbers: NDArray[np.float32],
        categories: Sequence[NDArray[np.object_]],
        threads: int = 1,
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Cost:
    """What a call takes, in seconds: `fixed + per_row * rows`, as measured on this machine."""

    fixed: float
    per_row: float

    def of(self, rows: int) -> float:
        """Seconds that a call with so many rows should take."""
        return self.fixed + self.per_row * rows


@dataclass(frozen=True)
class Scorer:
    """A loaded model, ready to answer.

    Attributes
    ----------
    estimator
        The model.
    threads
        How many a call with many rows may use.
    """

    estimator: Estimator
    threads: int = 1

    def answers(self, inputs: Inputs) -> NDArray[np.float64]:
        """Answer rows: shape (rows,), or (rows, outputs) for a task with several outputs.

        Raises
        ------
        mlops_assets.training.tasks.TaskError
            When what the model says is no answer of its task.
        """
        model = self._taking_arrays
        if model is None:
            answers = self.estimator.predict(inputs.frame(self.estimator.schema))
        elif len(inputs) <= _FEW:
            answers = model.predict_objects(inputs.objects(self.estimator.schema))
        else:
            threads = self.threads if len(inputs) >= _ENOUGH else 1
            answers = model.predict_arrays(inputs.numbers, inputs.encoded(), threads)
        self.estimator.task.check_answers(answers, len(inputs))
        return answers

    @cached_property
    def _taking_arrays(self) -> _TakesArrays | None:
        # Asked once: a protocol takes longer to check than a row to answer.
        return self.estimator if isinstance(self.estimator, _TakesArrays) else None

    def explanation(self, inputs: Inputs) -> Explanation:
        """Split each row's raw output into the features' contributions."""
        return self.estimator.explain(inputs.frame(self.estimator.schema))

    def cost(self, example: Inputs) -> Cost:
        """Measure what a call takes, by the example's first row and by very many of its rows.

        What few rows take beyond one is less than what two measurements differ by.
        """
        many = joined([example] * math.ceil(_MANY / len(example)))
        fixed = min(self._seconds(example.take(0, 1)) for _ in range(_TIMES))
        together = min(self._seconds(many) for _ in range(_TIMES))
        per_row = max(0.0, together - fixed) / (len(many) - 1)
        return Cost(max(0.0, fixed - per_row), per_row)

    def _seconds(self, inputs: Inputs) -> float:
        begun = time.perf_counter()
        self.answers(inputs)
        return time.perf_counter() - begun
