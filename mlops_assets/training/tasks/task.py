"""What every kind of task must say, and what the kinds share in saying it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_assets.training.metrics import Metric

MOST_CLASSES = 100
"""More distinct labels than this are an identifier or a number, not classes."""

_NUMBERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
    "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip


class TaskError(ValueError):
    """The task is not available, or a label or an answer does not fit it."""


@dataclass(frozen=True)
class LabelFacts:
    """What the labels of one part of the split are.

    Attributes
    ----------
    rows
        How many there are.
    distinct
        How many different values they have.
    not_finite
        How many are infinite or no number.
    counts
        Rows of each value, the most frequent first; cut short when there are very many values.
    numbers
        `mean`, `std`, `min`, `median` and `max` of a numeric label; empty for classes.
    """

    rows: int
    distinct: int
    not_finite: int
    counts: Mapping[Any, int]
    numbers: Mapping[str, float] = field(default_factory=dict)


class Task(ABC):
    """What follows from the kind of label; `Binary`, `Multiclass` and `Regression` are the kinds.

    Attributes
    ----------
    name
        Its name in a declaration.
    primary_metrics
        Names of the metrics that may decide.
    loss
        Name of the metric that training minimises, and that tuning and ensembles optimise unless
        told otherwise.
    label_type
        SQL type of the label in a training set.
    too_good
        A metric and the value beyond which a model knows the answer already: the label leaks.
    headline, by_slice
        Names of the metrics that a report opens with, and of those that every slice gets.
    """

    name: ClassVar[str]
    primary_metrics: ClassVar[tuple[str, ...]]
    loss: ClassVar[str]
    label_type: ClassVar[str]
    too_good: ClassVar[tuple[str, float]]
    headline: ClassVar[tuple[str, ...]]
    by_slice: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the columns of an answer."""

    @property
    @abstractmethod
    def metrics(self) -> "Mapping[str, Metric]":
        """Every metric of the task by name, in the order they are shown."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the task as JSON values; `task_from` reads them."""

    @abstractmethod
    def label_sql(self, column: str) -> str:
        """Return the SQL that turns the quoted label column into `label_type`; null if unknown."""

    @abstractmethod
    def check_label_column(self, sql_type: str) -> None:
        """Refuse a label column whose SQL type this task cannot read.

        Raises
        ------
        TaskError
            Naming the type and what to derive instead.
        """

    @abstractmethod
    def learnt_from(self, train: LabelFacts) -> "Task":
        """Return the task as the training part completes it: with the classes found there."""

    @abstractmethod
    def check_labels(self, part: str, facts: LabelFacts) -> None:
        """Refuse a split part whose labels cannot be learnt from or judged on.

        Parameters
        ----------
        part
            Name of the split part, for the message.
        facts
            What its labels are.

        Raises
        ------
        TaskError
            Naming the part and what it holds.
        """

    @abstractmethod
    def encode(self, labels: "pa.ChunkedArray") -> "NDArray[np.float64]":
        """Turn stored labels, none of them null, into the numbers a learner sees, shape (rows,).

        Raises
        ------
        TaskError
            When a label is none of the task's.
        """

    @abstractmethod
    def check_encoded(self, label: "NDArray[np.float64]") -> None:
        """Refuse numbers that `encode` cannot have given.

        Raises
        ------
        TaskError
            Naming the first wrong row, its value and the rule.
        """

    @abstractmethod
    def point(self, answers: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the one number of each answer that people plot, shape (rows,).

        The probability of yes, the probability of the predicted class, or the middle quantile.
        """

    @abstractmethod
    def aligned(self, answers: "NDArray[np.float64]", of: "Task") -> "NDArray[np.float64]":
        """Bring the answers of a model that was trained for another version of the task into shape.

        Parameters
        ----------
        answers
            What the model answers.
        of
            The model's own task.

        Raises
        ------
        TaskError
            When the two cannot be compared.
        """

    @abstractmethod
    def summary(self, facts: LabelFacts) -> dict[str, float]:
        """Return what people want to know of labels: shares of classes, or the spread."""

    @abstractmethod
    def describe(self, label: "NDArray[np.float64]") -> dict[str, float]:
        """Return the same as `summary` for encoded labels of shape (rows,)."""

    @abstractmethod
    def in_words(self, summary: Mapping[str, float]) -> str:
        """Return a summary as a few words."""

    def metric(self, name: str) -> "Metric":
        """Return the metric of that name.

        Raises
        ------
        mlops_assets.training.metrics.MetricError
            When the task has none.
        """
        from mlops_assets.training.metrics import MetricError

        found = self.metrics.get(name)
        if found is None:
            raise MetricError(
                f"a {self.name} task has no metric {name!r}; there are {', '.join(self.metrics)}"
            )
        return found

    def table(self, answers: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the answers as a matrix, shape (rows, outputs), without copying."""
        return answers.reshape(len(answers), len(self.outputs))

    def check_answers(self, answers: "NDArray[np.float64]", rows: int) -> None:
        """Refuse answers that are not this task's.

        Parameters
        ----------
        answers
            Shape (rows,) for one output, (rows, outputs) for several.
        rows
            How many there must be.

        Raises
        ------
        TaskError
            Naming the first wrong row, its value and the rule.
        """
        wanted = (rows,) if len(self.outputs) == 1 else (rows, len(self.outputs))
        if answers.shape != wanted:
            raise TaskError(
                f"answers of shape {answers.shape} do not fit {rows} rows of a {self.name} task "
                f"with outputs {', '.join(self.outputs)}; their shape must be {wanted}"
            )
        self._check_values(answers)

    @abstractmethod
    def _check_values(self, answers: "NDArray[np.float64]") -> None:
        """Refuse wrong values in answers of the right shape."""

    @staticmethod
    def _refuse(
        wrong: "NDArray[np.bool_]", values: "NDArray[np.float64]", why: str, what: str
    ) -> None:
        """Raise for the first wrong row, if there is any."""
        if wrong.any():
            row = int(wrong.argmax())
            raise TaskError(f"row {row}: {what} {values[row]} {why}")


def check_same_kind(wanted: Task, given: Task) -> None:
    """Refuse to judge a model of one kind of task on another kind."""
    if wanted.name != given.name:
        raise TaskError(f"a {given.name} model cannot be judged on a {wanted.name} task")


def check_two_classes(part: str, facts: LabelFacts, shown: str, task: str) -> None:
    """Refuse a split part all of whose labels are one class, shown to people as given."""
    if facts.distinct < 2:
        raise TaskError(
            f"{part}: all {facts.rows} labels are {shown!r}; a {task} task needs "
            f"{'both' if task == 'binary' else 'at least two'} classes in every part. Check the "
            "label column, its filter and the split dates"
        )


def is_number(sql_type: str) -> bool:
    """Return whether a column of that SQL type holds numbers."""
    return sql_type.partition("(")[0] in _NUMBERS


def float64(numbers: "pa.ChunkedArray") -> "NDArray[np.float64]":
    """Return numbers as a vector of 64-bit floats, shape (rows,)."""
    import pyarrow as pa

    found: NDArray[np.float64] = numbers.cast(pa.float64(), safe=False).to_numpy()
    return found
