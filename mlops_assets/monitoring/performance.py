"""How well a model does over some days: realised where labels are known, estimated where not.

Both give the same rows, so that they stand in one table and one plot. The interval of several days
resamples days, as everywhere; that of a single day resamples its hours, because rows of one hour
share what happened in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.monitoring.answered import (
    AnsweredRows,
    LabelCounts,
    PredictionLog,
    joined_labels,
    joined_rows,
    read_answered,
)
from mlops_assets.monitoring.estimated import PerformanceEstimator
from mlops_assets.training.bootstrap import MINIMUM_BLOCKS, Estimate, Resampling, estimates
from mlops_assets.training.evaluation import SMALL_SLICE
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import Scored
from mlops_assets.training.tasks import Task, in_order

if TYPE_CHECKING:
    import duckdb

NO_ROWS = "there is no prediction with a label"


class Kind(StrEnum):
    """How a performance is known."""

    realised = "realised"
    estimated = "estimated"


@dataclass(frozen=True)
class Performance:
    """One metric over one window.

    Attributes
    ----------
    kind
        Realised or estimated.
    day, window_days
        Last day of the window, and its length.
    metric
        Its name.
    slice_column, slice_value
        Which rows; None for all.
    rows
        Rows it was computed from.
    found
        Its value and interval, or why there is none.
    """

    kind: Kind
    day: date
    window_days: int
    metric: str
    slice_column: str | None
    slice_value: str | None
    rows: int
    found: Estimate


@dataclass(frozen=True)
class PerformanceReport:
    """How well a model did over windows that end with one day.

    Attributes
    ----------
    day, as_of
        The day, and the instant whose knowledge counts.
    mature
        The last day whose labels were due; windows of labels end with it.
    versions
        Versions that answered in the longest window.
    labels
        Length of a window to what became of its labels.
    performances
        Realised over windows that end with `mature`, estimated over those that end with `day`.
    """

    day: date
    as_of: datetime
    mature: date
    versions: tuple[int, ...]
    labels: dict[int, LabelCounts]
    performances: tuple[Performance, ...]

    def get(self, kind: Kind, metric: str, window_days: int) -> Estimate | None:
        """Return a metric over all rows of a window; None where it was not looked at."""
        for one in self.performances:
            at = (one.kind, one.metric, one.window_days, one.slice_column)
            if at == (kind, metric, window_days, None):
                return one.found
        return None


def measure_performance(
    con: "duckdb.DuckDBPyConnection",
    log: PredictionLog,
    family: ModelFamily,
    task: Task,
    day: date,
    *,
    as_of: datetime,
    windows: Sequence[int] = (1, 7, 28),
    due: timedelta = timedelta(days=2),
    estimator: PerformanceEstimator | None = None,
    resampling: Resampling | None = None,
    version: int | None = None,
    mature: date | None = None,
) -> PerformanceReport:
    """Measure windows that end with a day: realised performance, and an estimate beside it.

    Parameters
    ----------
    con
        A session that knows the log and the family's label table.
    log
        Where the predictions are.
    family, task
        Whose they are; the task with its classes.
    day
        Last day of every window.
    as_of
        What was known later does not count; with a zone.
    windows
        Lengths in days.
    due
        How long after its instant the label of a prediction must be there.
    estimator
        Of the version that answers; by default nothing is estimated.
    resampling
        How intervals are made.
    version
        Only predictions of this version; by default all.
    mature
        Last day of the windows of realised performance, where the labels of ``day`` itself are not
        due yet: labels that come early are not like the others. By default ``day``.

    Raises
    ------
    MonitoringError
        When a column that is needed is not there, or ``as_of`` has no zone.
    """
    mature = day if mature is None else mature
    resampling = resampling or Resampling(draws=500)
    labels: dict[int, LabelCounts] = {}
    found: list[Performance] = []
    longest = timedelta(days=max(windows) - 1)
    with joined_labels(
        con,
        log,
        family,
        task,
        (mature - longest, mature),
        as_of=as_of,
        due=due,
        version=version,
    ) as joined:
        for length in sorted(windows):
            of_window = joined_rows(con, joined, log, task, mature - timedelta(days=length - 1))
            labels[length] = of_window.counts
            found += _realised(task, family, of_window.rows, mature, length, resampling)
    versions: tuple[int, ...] = ()
    for length in sorted(windows):
        answered = read_answered(con, log, day - timedelta(days=length - 1), day, version=version)
        versions = answered.versions
        if estimator is not None:
            expected = estimator.estimate(
                answered.answers,
                answered.day,
                confidence=resampling.confidence,
                seed=resampling.seed,
            )
            found += [
                Performance(Kind.estimated, day, length, name, None, None, answered.rows, one)
                for name, one in expected.items()
            ]
    return PerformanceReport(day, as_of, mature, versions, labels, tuple(found))


def _realised(
    task: Task,
    family: ModelFamily,
    rows: AnsweredRows,
    day: date,
    length: int,
    resampling: Resampling,
) -> list[Performance]:
    if not len(rows.label):
        nothing = Estimate(None, reason=NO_ROWS)
        return [
            Performance(Kind.realised, day, length, name, None, None, 0, nothing)
            for name in task.metrics
        ]
    block = rows.day if length >= MINIMUM_BLOCKS else rows.day.astype("datetime64[h]") + rows.hour
    scored = Scored.of(task, rows.label, rows.answers, block)
    found = [
        Performance(Kind.realised, day, length, name, None, None, len(scored), one)
        for name, one in estimates(task.metrics.values(), scored, resampling).items()
    ]
    wanted = dict.fromkeys((family.primary_metric, *task.by_slice))
    metrics = [task.metrics[name] for name in wanted]
    for column in family.slices:
        values = rows.slices.get(column)
        if values is None:
            continue
        for value in in_order(np.unique(values).tolist()):
            inside = scored.take(values == value)
            if len(inside) < SMALL_SLICE:
                continue  # its interval would say nothing
            found += [
                Performance(Kind.realised, day, length, name, column, value, len(inside), one)
                for name, one in estimates(metrics, inside, resampling).items()
            ]
    return found
