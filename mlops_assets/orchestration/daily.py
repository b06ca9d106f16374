"""Daily partitions: from a declaration to Dagster's partitions, and from a run to its window."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Days(BaseModel):
    """The days a table is partitioned by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: date = Field(description="First day.")
    end: date | None = Field(
        default=None, description="First day that is no longer part of it; absent: until today."
    )

    @model_validator(mode="after")
    def _in_order(self) -> "Days":
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end {self.end} must be after start {self.start}")
        return self

    def partitions(self) -> dg.DailyPartitionsDefinition:
        """Return Dagster's definition of these days, keyed ``2013-05-03``, in UTC."""
        return dg.DailyPartitionsDefinition(
            start_date=self.start.isoformat(),
            end_date=self.end.isoformat() if self.end else None,
        )

    def newest_complete(self, now: datetime) -> date | None:
        """Return the last of these days that is over at ``now``, in UTC; ``None`` before the first.

        Parameters
        ----------
        now
            An instant with its time zone.
        """
        newest = now.astimezone(UTC).date() - timedelta(days=1)
        if self.end is not None:
            newest = min(newest, self.end - timedelta(days=1))
        return newest if newest >= self.start else None


def run_window(context: dg.AssetExecutionContext) -> tuple[date, date] | None:
    """Return the half-open range of days that a run is to build; ``None`` without partitions."""
    if not context.has_partition_key and not context.has_partition_key_range:
        return None
    window = context.partition_time_window
    return window.start.date(), window.end.date()


def window_of(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """Return the half-open range of days that a run of a daily asset is to build."""
    window = run_window(context)
    if window is None:
        raise dg.DagsterInvariantViolationError(
            f"{context.op_def.name} is made day by day: launch it with a partition, or with a range"
        )
    return window


def days_of(window: tuple[date, date]) -> Iterator[date]:
    """Give the days of a half-open range, in order."""
    return (window[0] + timedelta(days=number) for number in range(days_between(window)))


def looking_back(days: int) -> dg.TimeWindowPartitionMapping:
    """Say that a day is computed from this and the previous ``days`` days of its upstream."""
    return dg.TimeWindowPartitionMapping(
        start_offset=-days, allow_nonexistent_upstream_partitions=True
    )


def days_between(window: tuple[date, date]) -> int:
    """Count the days of a half-open range."""
    return (window[1] - window[0]) // timedelta(days=1)
