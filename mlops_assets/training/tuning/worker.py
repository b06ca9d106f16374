"""The program of a worker process: fits what it is told to, one trial after another.

It is started by `mlops_assets.training.tuning.pool` with two inherited file descriptors: a
connection to the search, and a pipe that stays open as long as the search lives.
"""

import math
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator, FitOptions, estimator_class
from mlops_assets.training.metrics import Scored as ScoredRows
from mlops_assets.training.tuning.messages import (
    Begun,
    Crashed,
    Job,
    Reply,
    Report,
    Scored,
    Setup,
    Stopped,
)
from mlops_assets.training.tuning.shared import read_shared

_LONGEST_REASON = 1000
_RUNGS = frozenset(round(1.25**k) for k in range(100))  # 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 18, 23...


class _Watch:
    """Tells the search how a fit goes, at ever longer intervals, and passes on its answer.

    An iteration may take a millisecond, and a curve says little more with 1,500 points than with
    30; what is early and steep is seen in detail.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._calls = 0
        self.stopped = False

    def __call__(self, iteration: int, total: int, losses: Mapping[str, float]) -> bool:
        self._calls += 1
        loss = losses.get("validation")
        if self._calls in _RUNGS and loss is not None and math.isfinite(loss):
            self._connection.send(Report(iteration, total, float(loss)))
            self.stopped = not self._connection.recv()
        return not self.stopped


def _try(
    job: Job, setup: Setup, train: Part, validation: Part, connection: "Connection[Any, Any]"
) -> Reply:
    watch = _Watch(connection)
    try:
        estimator = estimator_class(setup.algorithm).fit(
            train, validation, job.parameters, FitOptions(setup.seed, setup.threads, watch)
        )
        if watch.stopped:
            return Stopped()
        return _score(estimator, setup, validation)
    except Exception as error:  # noqa: BLE001 - whatever a fit raises is that trial's outcome
        text = str(error) or "no message"
        return Crashed(f"{type(error).__name__}: {text}"[:_LONGEST_REASON])


def _score(estimator: Estimator, setup: Setup, validation: Part) -> Scored:
    answers = estimator.predict(validation.features)
    rows = ScoredRows.of(validation.task, validation.label, answers, validation.days)
    curve = estimator.learning_curve
    kept = curve.best_iteration
    return Scored(
        value=validation.task.metric(setup.metric).value(rows),
        iterations=kept + 1 if kept is not None else len(curve.validation) or None,
        parameters={
            name: _plain(estimator.parameters[name])
            for name in setup.searched
            if name in estimator.parameters
        },
    )


def _plain(value: Any) -> Any:
    """Turn NumPy's scalars into Python's."""
    return value.item() if hasattr(value, "item") else value


def _end_with(lifeline: int) -> None:
    """End this process at once when the search has died, also in the middle of a fit."""
    os.read(lifeline, 1)
    os._exit(1)


def _offer_to_the_system() -> None:
    """Have the system, when memory runs out, end this process rather than the search."""
    with suppress(OSError):  # not Linux, or not allowed: then the system chooses by size
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")


def main() -> None:
    """Work until the search closes the connection."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    _offer_to_the_system()
    with suppress(EOFError):  # the search is over
        setup: Setup = connection.recv()
        train, validation = read_shared(setup.parts)
        while True:
            job: Job = connection.recv()
            connection.send(Begun())
            connection.send(_try(job, setup, train, validation, connection))


if __name__ == "__main__":
    # The libraries' own goodbyes would only cost time, and bury an error under theirs.
    try:
        main()
    except BaseException:  # noqa: BLE001 - it is shown, and ends the process
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
