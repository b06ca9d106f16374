"""The declaration of how a model family is watched, trained again, and taken back.

Here is only what is declared. What is computed by it is in `mlops_assets.monitoring`.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from mlops_assets.declaration import Declared, Problem, constraint


class DriftPolicy(Declared):
    """When a column has drifted: it differs by more than chance and by more than is harmless.

    The three distances stand for the same shift by default: that of a normal distribution by 0.45
    of its standard deviation.

    Attributes
    ----------
    statistic
        Which of the distances decides. The others are recorded.
    psi, jensen_shannon, kolmogorov_smirnov
        Harmless up to this.
    missing
        Harmless change of the share of missing values.
    new_levels
        Harmless share of rows with a level that the reference has not.
    reconstruction
        Harmless relative change of the reconstruction error of all numeric features together.
    alpha
        Probability with which one column of one window exceeds chance although nothing changed.
    min_rows
        A window with fewer rows is not judged.
    """

    statistic: Literal["psi", "jensen_shannon", "kolmogorov_smirnov"] = "jensen_shannon"
    psi: float = Field(default=0.2, ge=0)
    jensen_shannon: float = Field(default=0.19, ge=0, le=1)
    kolmogorov_smirnov: float = Field(default=0.18, ge=0, le=1)
    missing: float = Field(default=0.05, ge=0, le=1)
    new_levels: float = Field(default=0.01, ge=0, le=1)
    reconstruction: float = Field(default=0.1, ge=0)
    alpha: float = Field(default=0.001, gt=0, le=0.2)
    min_rows: int = Field(default=100, ge=2)


class RetrainingPolicy(Declared):
    """When a family is to be trained again.

    A reason for it is age, drift, or performance; with none, nothing is trained. What speaks
    against it holds it back: too few new rows, a training not long ago, one in progress. Only
    `max_age` overrules too few rows, as whoever sets it wants a fresh model in any case.

    Attributes
    ----------
    max_age
        A champion trained longer ago is stale, as an ISO 8601 duration such as `P30D`.
    max_data_age
        A champion is stale whose newest training row is older than the newest labelled row by more
        than this. Default: the age of its data is no reason.
    min_new_rows
        Labelled rows that must have come since the training.
    drifted_features
        Share of the features that must have drifted, from which on drift is a reason; drift of the
        predictions alone is one as well.
    drifted_windows
        In how many evaluations in a row that must be so.
    metric_drop
        How much worse than its reference the primary metric must be, in its own unit, beyond what
        chance explains.
    estimated_drop
        The same for performance estimated without labels. Default: estimates are no reason.
    cooldown
        No training within this time after one began, whether it succeeded or not.
    max_cost
        Longest that the last training may have taken for drift alone to be a reason. Default: the
        cost does not matter.
    """

    max_age: timedelta = Field(default=timedelta(days=30), gt=timedelta(0))
    max_data_age: timedelta | None = Field(default=None, gt=timedelta(0))
    min_new_rows: int = Field(default=1000, ge=0)
    drifted_features: float = Field(default=0.2, gt=0, le=1)
    drifted_windows: int = Field(default=3, ge=1, le=365)
    metric_drop: float = Field(default=0.02, ge=0)
    estimated_drop: float | None = Field(default=None, ge=0)
    cooldown: timedelta = Field(default=timedelta(days=7), ge=timedelta(0))
    max_cost: timedelta | None = Field(default=None, gt=timedelta(0))

    @constraint
    def _cooldown_below_age(self) -> Iterator[Problem]:
        if self.cooldown >= self.max_age:
            yield Problem(
                ("cooldown",),
                f"{self.cooldown} must be shorter than max_age {self.max_age}, or a stale model "
                "waits for it.",
            )


class RollbackPolicy(Declared):
    """When the version that serves gives way to the one before, without anybody being asked.

    Only a limit that is declared can do that; by default none is. Whatever the limits, a version
    that a rollback took out of service does not come back by another one: only the gate or a person
    brings it back.

    Attributes
    ----------
    metric_drop
        How much worse than the version before the primary metric must be, in its own unit, on the
        same labelled rows and beyond what chance explains.
    error_rate
        Share of the predictions that may fail.
    p99_seconds
        Time in which 99 of 100 requests must be answered.
    window_days
        Days of predictions that are looked at for the metric, ending with the day evaluated.
    min_rows
        Labelled predictions of the version, without which its metric is not judged.
    service_window
        Time that is looked at for errors and latency.
    min_requests
        Requests in that time, without which errors and latency are not judged.
    confidence
        One minus the probability with which a version that breaks no limit is taken back by its
        metric, over its whole time of service; and of the intervals of errors and latency.
    cooldown
        No automatic rollback within this time after any rollback.
    """

    metric_drop: float | None = Field(default=None, ge=0)
    error_rate: float | None = Field(default=None, gt=0, lt=1)
    p99_seconds: float | None = Field(default=None, gt=0)
    window_days: int = Field(default=14, ge=5, le=365)
    min_rows: int = Field(default=500, ge=2)
    service_window: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    min_requests: int = Field(default=100, ge=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    cooldown: timedelta = Field(default=timedelta(days=1), ge=timedelta(0))

    @property
    def watches_service(self) -> bool:
        """Whether errors or latency have a limit."""
        return self.error_rate is not None or self.p99_seconds is not None

    @property
    def is_automatic(self) -> bool:
        """Whether anything has a limit, so that a rollback can happen by itself."""
        return self.metric_drop is not None or self.watches_service


class MonitoringPolicy(Declared):
    """What is watched of a family, and over which days.

    Attributes
    ----------
    windows
        Days that drift and performance are computed over, each ending with the day evaluated.
    label_due
        How long after its prediction time a label must be there; later it is overdue.
    max_overdue
        Share of the labels of the longest window that may be overdue.
    drift
        When a column has drifted.
    confidence
        Level of every interval.
    start
        First day that is scored and watched. Default: the first that the spine's table is
        partitioned by; a family whose spine has no days of its own is watched only from a day that
        is said here.
    look_back
        How long ago a day may be that is scored and evaluated by itself; earlier ones are
        backfilled by hand.
    fail_after
        Age of the newest predictions, or of the newest evaluation, at which they are stale.
    """

    windows: tuple[int, ...] = Field(default=(1, 7, 28), min_length=1)
    label_due: timedelta = Field(default=timedelta(days=2), gt=timedelta(0))
    max_overdue: float = Field(default=0.05, ge=0, le=1)
    drift: DriftPolicy = DriftPolicy()
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    start: date | None = None
    look_back: timedelta = Field(default=timedelta(days=31), gt=timedelta(0))
    fail_after: timedelta = Field(default=timedelta(days=2), gt=timedelta(0))

    @constraint
    def _windows_rise(self) -> Iterator[Problem]:
        if self.windows[0] < 1 or sorted(set(self.windows)) != list(self.windows):
            yield Problem(
                ("windows",), f"{list(self.windows)} must be rising numbers of days, from 1."
            )
