"""How long a model takes to answer one row, as a server would ask it: loaded, warm, row by row."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.training.estimators import Estimator

if TYPE_CHECKING:
    import pandas as pd

_WARM_UP, _CALLS = 20, 200


@dataclass(frozen=True)
class Latency:
    """A measurement, on the machine that made it.

    Attributes
    ----------
    p50_ms, p95_ms
        Milliseconds of a single-row prediction: the median, and what 95 of 100 stay below.
    calls
        Predictions that were timed.
    """

    p50_ms: float
    p95_ms: float
    calls: int


def measure_latency(estimator: Estimator, rows: "pd.DataFrame") -> Latency:
    """Time single-row predictions.

    Parameters
    ----------
    estimator
        A loaded model. It answers some rows untimed first.
    rows
        Features of some rows, which are asked for in turn.
    """
    single = [rows.iloc[[i % len(rows)]] for i in range(_WARM_UP + _CALLS)]
    for row in single[:_WARM_UP]:
        estimator.predict(row)
    taken = []
    for row in single[_WARM_UP:]:
        begun = time.perf_counter_ns()
        estimator.predict(row)
        taken.append(time.perf_counter_ns() - begun)
    p50, p95 = np.quantile(np.array(taken) / 1e6, [0.5, 0.95])
    return Latency(float(p50), float(p95), _CALLS)
