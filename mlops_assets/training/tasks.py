"""Tasks: what kind of label a family predicts, and what follows from that.

A task says which metrics may be primary and what a valid label is. It is the one place to extend
for another kind of label; estimators and metrics look here instead of comparing names.
"""

from dataclasses import dataclass
from typing import Protocol


class TaskError(ValueError):
    """The task is not available, or the label does not fit it."""


class Task(Protocol):
    """What follows from the kind of label."""

    @property
    def name(self) -> str:
        """Its name in a declaration."""
        ...

    @property
    def primary_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that may decide."""
        ...

    def label_sql(self, column: str) -> str:
        """Return the SQL that turns the quoted label column into a DOUBLE, null when unknown."""
        ...

    def check_label_counts(self, part: str, counts: dict[float, int]) -> None:
        """Refuse a split part whose label values cannot be learnt from or judged on.

        Parameters
        ----------
        part
            Name of the split part, for the message.
        counts
            Rows per label value.

        Raises
        ------
        TaskError
            Naming the part and what it holds.
        """
        ...


@dataclass(frozen=True)
class Binary:
    """Yes or no: a boolean, or 0 and 1. Models answer the probability of yes."""

    name: str = "binary"
    primary_metrics: tuple[str, ...] = ("roc_auc", "average_precision", "log_loss", "brier")

    def label_sql(self, column: str) -> str:
        """Return the SQL that turns the quoted label column into a DOUBLE, null when unknown."""
        return f"CAST({column} AS DOUBLE)"

    def check_label_counts(self, part: str, counts: dict[float, int]) -> None:
        """Refuse values other than 0 and 1, and a part with one class only."""
        if strange := sorted(set(counts) - {0.0, 1.0}):
            raise TaskError(
                f"{part}: label values {strange[:5]} are neither 0 nor 1, as a binary task needs; "
                "derive a boolean in SQL"
            )
        if len(counts) < 2:
            only = "yes" if 1.0 in counts else "no"
            raise TaskError(
                f"{part}: all {sum(counts.values())} labels are {only!r}; a binary task needs both "
                "classes in every part. Check the label column, its filter and the split dates"
            )


_TASKS: dict[str, Task] = {"binary": Binary()}


def task_named(name: str) -> Task:
    """Return the task of that name.

    Raises
    ------
    TaskError
        When this version cannot train it.
    """
    if name not in _TASKS:
        raise TaskError(
            f"task {name!r} cannot be trained by this version; available: {', '.join(_TASKS)}"
        )
    return _TASKS[name]
