"""Tasks: what kind of label a family predicts, and everything that follows from that.

A task says how the label is read, which labels can be learnt from, what the columns of a model's
answer are, and by which metrics it is judged. It is the one place to extend for another kind of
label: estimators, metrics and reports ask here instead of comparing names.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_assets.training.family import DEFAULT_QUANTILES, ModelFamily

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_assets.training.metrics import Metric

MOST_CLASSES = 100
"""More distinct labels than this are an identifier or a number, not classes."""

FEWEST_VALUES = 5
"""A regression label with fewer distinct values in a part cannot be told from classes."""

_CLASSES_IN_WORDS = 3
_SUM_TOLERANCE = 1e-6  # how far the probabilities of a row may be from one, by rounding


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


def _check_same_kind(wanted: Task, given: Task) -> None:
    if wanted.name != given.name:
        raise TaskError(f"a {given.name} model cannot be judged on a {wanted.name} task")


def _check_two_classes(part: str, facts: LabelFacts, shown: str, task: str) -> None:
    if facts.distinct < 2:
        raise TaskError(
            f"{part}: all {facts.rows} labels are {shown!r}; a {task} task needs "
            f"{'both' if task == 'binary' else 'at least two'} classes in every part. Check the "
            "label column, its filter and the split dates"
        )


@dataclass(frozen=True)
class Binary(Task):
    """Yes or no: a boolean, or 0 and 1. Models answer the probability of yes."""

    name: ClassVar[str] = "binary"
    primary_metrics: ClassVar[tuple[str, ...]] = (
        "roc_auc", "average_precision", "log_loss", "brier",
    )  # fmt: skip
    loss: ClassVar[str] = "log_loss"
    label_type: ClassVar[str] = "DOUBLE"
    too_good: ClassVar[tuple[str, float]] = ("roc_auc", 0.999)
    headline: ClassVar[tuple[str, ...]] = (
        "roc_auc", "average_precision", "log_loss", "brier", "calibration_error",
    )  # fmt: skip
    by_slice: ClassVar[tuple[str, ...]] = ("log_loss", "calibration_error")

    @property
    def outputs(self) -> tuple[str, ...]:
        """One column, `probability`."""
        return ("probability",)

    @property
    def metrics(self) -> "Mapping[str, Metric]":
        """Ranking, loss and calibration."""
        from mlops_assets.training.metrics.binary import BINARY_METRICS

        return BINARY_METRICS

    def state(self) -> dict[str, Any]:
        """Return the task as JSON values; `task_from` reads them."""
        return {"name": self.name}

    def label_sql(self, column: str) -> str:
        """Return the SQL that turns the quoted label column into a DOUBLE; null if unknown."""
        return f"CAST({column} AS DOUBLE)"

    def check_label_column(self, sql_type: str) -> None:
        """Refuse anything but a boolean or a number."""
        if sql_type != "BOOLEAN" and not _is_number(sql_type):
            raise TaskError(
                f"is {sql_type}, where a binary task needs a boolean, or 0 and 1; "
                "derive one in SQL, such as outcome = 'late'"
            )

    def learnt_from(self, train: LabelFacts) -> "Binary":
        """Return itself: the classes are always no and yes."""
        del train
        return self

    def check_labels(self, part: str, facts: LabelFacts) -> None:
        """Refuse values other than 0 and 1, and a part with one class only."""
        if strange := [value for value in facts.counts if value not in {0.0, 1.0}]:
            raise TaskError(
                f"{part}: label values {sorted(strange)[:5]} are neither 0 nor 1, as a binary "
                "task needs; derive a boolean in SQL"
            )
        _check_two_classes(part, facts, "yes" if 1.0 in facts.counts else "no", self.name)

    def encode(self, labels: "pa.ChunkedArray") -> "NDArray[np.float64]":
        """Turn stored labels into 0 and 1, shape (rows,)."""
        return _float64(labels)

    def check_encoded(self, label: "NDArray[np.float64]") -> None:
        """Refuse anything but 0 and 1."""
        self._refuse((label != 0) & (label != 1), label, "is neither 0 nor 1", "label")

    def point(self, answers: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the probability of yes, shape (rows,)."""
        return answers

    def aligned(self, answers: "NDArray[np.float64]", of: Task) -> "NDArray[np.float64]":
        """Return the answers as they are; only another kind of task cannot be compared."""
        _check_same_kind(self, of)
        return answers

    def summary(self, facts: LabelFacts) -> dict[str, float]:
        """Return the share of yes."""
        return {"yes": facts.counts.get(1.0, 0) / facts.rows}

    def describe(self, label: "NDArray[np.float64]") -> dict[str, float]:
        """Return the share of yes among labels of shape (rows,)."""
        return {"yes": float(label.mean())}

    def in_words(self, summary: Mapping[str, float]) -> str:
        """Return the share of yes in words."""
        return f"{summary['yes']:.1%} yes"

    def _check_values(self, answers: "NDArray[np.float64]") -> None:
        inside = (answers >= 0) & (answers <= 1)
        self._refuse(~inside, answers, "is not in [0, 1]", "probability")


@dataclass(frozen=True)
class Multiclass(Task):
    """One of several classes. Models answer the probability of each class.

    Attributes
    ----------
    classes
        The classes of the training part, in order; empty for a task that is only declared.
    """

    name: ClassVar[str] = "multiclass"
    primary_metrics: ClassVar[tuple[str, ...]] = ("log_loss", "accuracy", "roc_auc", "brier")
    loss: ClassVar[str] = "log_loss"
    label_type: ClassVar[str] = "VARCHAR"
    too_good: ClassVar[tuple[str, float]] = ("roc_auc", 0.999)
    headline: ClassVar[tuple[str, ...]] = (
        "log_loss", "accuracy", "roc_auc", "brier", "calibration_error",
    )  # fmt: skip
    by_slice: ClassVar[tuple[str, ...]] = ("log_loss", "accuracy", "calibration_error")

    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """One column a class, named like it."""
        return self.classes

    @property
    def metrics(self) -> "Mapping[str, Metric]":
        """Loss, accuracy, ranking and calibration."""
        from mlops_assets.training.metrics.multiclass import MULTICLASS_METRICS

        return MULTICLASS_METRICS

    def state(self) -> dict[str, Any]:
        """Return the task as JSON values; `task_from` reads them."""
        return {"name": self.name, "classes": list(self.classes)}

    def label_sql(self, column: str) -> str:
        """Return the SQL that turns the quoted label column into a VARCHAR; null if unknown."""
        return f"CAST({column} AS VARCHAR)"

    def check_label_column(self, sql_type: str) -> None:
        """Refuse what has no text that names a class: lists, structs and the like."""
        if sql_type.partition("(")[0] in {"STRUCT", "MAP", "UNION", "BLOB"} or "[" in sql_type:
            raise TaskError(f"is {sql_type}, which names no class; derive a text in SQL")

    def learnt_from(self, train: LabelFacts) -> "Multiclass":
        """Return the task with the classes of the training part."""
        return Multiclass(tuple(in_order(str(value) for value in train.counts)))

    def check_labels(self, part: str, facts: LabelFacts) -> None:
        """Refuse one class only, far too many, a blank one, and one that training never saw."""
        if facts.distinct > MOST_CLASSES:
            raise TaskError(
                f"{part}: {facts.distinct} different labels; a multiclass task takes at most "
                f"{MOST_CLASSES}. Group them in SQL, or declare task: regression for a number"
            )
        if blank := sum(rows for value, rows in facts.counts.items() if not str(value).strip()):
            raise TaskError(f"{part}: {blank} labels are blank; name the class, or make it null")
        only = str(next(iter(facts.counts), ""))
        _check_two_classes(part, facts, only, self.name)
        if unseen := [str(value) for value in facts.counts if str(value) not in self.classes]:
            raise TaskError(
                f"{part}: classes {sorted(unseen)[:5]} do not occur in train, which has "
                f"{', '.join(self.classes)}; no model can learn them. Move the split dates, or "
                "group rare classes in SQL"
            )

    def encode(self, labels: "pa.ChunkedArray") -> "NDArray[np.float64]":
        """Turn stored class names into their positions in `classes`, shape (rows,)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        text = labels.cast(pa.string())
        positions = pc.index_in(text, value_set=pa.array(self.classes, pa.string()))
        if positions.null_count:
            strange = pc.unique(text.filter(positions.is_null())).to_pylist()
            raise TaskError(f"labels {strange[:5]} are none of {', '.join(self.classes)}")
        return _float64(positions)

    def check_encoded(self, label: "NDArray[np.float64]") -> None:
        """Refuse anything but the position of a class."""
        import numpy as np

        positions = np.isin(label, np.arange(len(self.classes)))
        self._refuse(~positions, label, f"is no position in {', '.join(self.classes)}", "label")

    def point(self, answers: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the probability of the predicted class, shape (rows,)."""
        import numpy as np

        highest: NDArray[np.float64] = answers.max(axis=1)
        return highest

    def aligned(self, answers: "NDArray[np.float64]", of: Task) -> "NDArray[np.float64]":
        """Give a class the model never saw probability 0, and leave out one that is no more."""
        import numpy as np

        _check_same_kind(self, of)
        if of.outputs == self.outputs:
            return answers
        shared = [name for name in self.classes if name in of.outputs]
        if not shared:
            raise TaskError(
                f"the model's classes {', '.join(of.outputs)} are none of {', '.join(self.classes)}"
            )
        moved: NDArray[np.float64] = np.zeros((len(answers), len(self.classes)))
        for name in shared:
            moved[:, self.classes.index(name)] = answers[:, of.outputs.index(name)]
        moved[moved.sum(axis=1) == 0] = 1.0  # all of its probability was on what is left out
        moved /= moved.sum(axis=1, keepdims=True)
        return moved

    def summary(self, facts: LabelFacts) -> dict[str, float]:
        """Return the share of each class."""
        return {name: facts.counts.get(name, 0) / facts.rows for name in self.classes}

    def describe(self, label: "NDArray[np.float64]") -> dict[str, float]:
        """Return the share of each class among labels of shape (rows,)."""
        import numpy as np

        shares = np.bincount(label.astype(int), minlength=len(self.classes)) / len(label)
        return dict(zip(self.classes, shares.tolist(), strict=True))

    def in_words(self, summary: Mapping[str, float]) -> str:
        """Return the most frequent classes in words."""
        most = sorted(summary.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{share:.1%} {name}" for name, share in most[:_CLASSES_IN_WORDS])
        left = len(most) - _CLASSES_IN_WORDS
        return f"{shown} and {left} more" if left > 0 else shown

    def _check_values(self, answers: "NDArray[np.float64]") -> None:
        import numpy as np

        inside = (answers.min(axis=1) >= 0) & (answers.max(axis=1) <= 1)
        self._refuse(~inside, answers, "are not all in [0, 1]", "probabilities")
        whole = np.abs(answers.sum(axis=1) - 1) <= _SUM_TOLERANCE
        self._refuse(~whole, answers, "do not add up to 1", "probabilities")


@dataclass(frozen=True)
class Regression(Task):
    """A number. Models answer quantiles of it; the middle one is the point that people plot.

    Attributes
    ----------
    quantiles
        An odd number of rising levels; the outer two are the ends of the interval.
    """

    name: ClassVar[str] = "regression"
    primary_metrics: ClassVar[tuple[str, ...]] = ("pinball_loss", "mae", "rmse", "r2")
    loss: ClassVar[str] = "pinball_loss"
    label_type: ClassVar[str] = "DOUBLE"
    too_good: ClassVar[tuple[str, float]] = ("r2", 0.999)
    headline: ClassVar[tuple[str, ...]] = ("pinball_loss", "mae", "rmse", "r2", "coverage")
    by_slice: ClassVar[tuple[str, ...]] = ("pinball_loss", "mae", "coverage")

    quantiles: tuple[float, ...] = DEFAULT_QUANTILES

    def __post_init__(self) -> None:
        levels = self.quantiles
        if not all(0 < level < 1 for level in levels) or list(levels) != sorted(set(levels)):
            raise TaskError(f"quantiles {list(levels)} must rise, each between 0 and 1")
        if len(levels) % 2 == 0:
            raise TaskError(
                f"quantiles {list(levels)} must be odd in number: the middle is a point"
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """One column a quantile: `q10`, `q50`, `q90`."""
        return tuple(f"q{100 * level:.10g}" for level in self.quantiles)

    @property
    def middle(self) -> int:
        """Position of the middle quantile among the outputs."""
        return len(self.quantiles) // 2

    @property
    def metrics(self) -> "Mapping[str, Metric]":
        """Errors of the point, loss and calibration of the quantiles, and the interval."""
        from mlops_assets.training.metrics.regression import regression_metrics

        return regression_metrics(self)

    def state(self) -> dict[str, Any]:
        """Return the task as JSON values; `task_from` reads them."""
        return {"name": self.name, "quantiles": list(self.quantiles)}

    def label_sql(self, column: str) -> str:
        """Return the SQL that turns the quoted label column into a DOUBLE; null if unknown."""
        return f"CAST({column} AS DOUBLE)"

    def check_label_column(self, sql_type: str) -> None:
        """Refuse anything but a number."""
        if not _is_number(sql_type):
            raise TaskError(
                f"is {sql_type}, where a regression needs a number; derive one in SQL, such as "
                "date_diff('minute', scheduled, actual)"
            )

    def learnt_from(self, train: LabelFacts) -> "Regression":
        """Return itself: the quantiles are declared."""
        del train
        return self

    def check_labels(self, part: str, facts: LabelFacts) -> None:
        """Refuse values that are not finite, and too few different ones."""
        if facts.not_finite:
            raise TaskError(
                f"{part}: {facts.not_finite} labels are infinite or NaN; make them null in SQL "
                "where the value is not known"
            )
        if facts.distinct < FEWEST_VALUES:
            values = ", ".join(f"{value:g}" for value in sorted(facts.counts))
            raise TaskError(
                f"{part}: {facts.rows} labels have only the values {values}; a regression needs at "
                f"least {FEWEST_VALUES} different ones. Check the label column and the split "
                "dates, or declare task: binary or multiclass"
            )

    def encode(self, labels: "pa.ChunkedArray") -> "NDArray[np.float64]":
        """Return the values, shape (rows,)."""
        return _float64(labels)

    def check_encoded(self, label: "NDArray[np.float64]") -> None:
        """Refuse what is not finite."""
        import numpy as np

        self._refuse(~np.isfinite(label), label, "is not finite", "label")

    def point(self, answers: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the middle quantile, shape (rows,)."""
        return self.table(answers)[:, self.middle]

    def aligned(self, answers: "NDArray[np.float64]", of: Task) -> "NDArray[np.float64]":
        """Pick the declared quantiles among those the model answers."""
        _check_same_kind(self, of)
        if of.outputs == self.outputs:
            return answers
        if lacking := [name for name in self.outputs if name not in of.outputs]:
            raise TaskError(
                f"the model answers {', '.join(of.outputs)}, but the family now asks for "
                f"{', '.join(lacking)} too; train it again"
            )
        chosen = of.table(answers)[:, [of.outputs.index(name) for name in self.outputs]]
        return chosen[:, 0] if len(self.outputs) == 1 else chosen

    def summary(self, facts: LabelFacts) -> dict[str, float]:
        """Return mean, standard deviation, least, median and greatest value."""
        return dict(facts.numbers)

    def describe(self, label: "NDArray[np.float64]") -> dict[str, float]:
        """Return the same of labels of shape (rows,)."""
        import numpy as np

        return {
            "mean": float(label.mean()),
            "std": float(label.std()),
            "min": float(label.min()),
            "median": float(np.median(label)),
            "max": float(label.max()),
        }

    def in_words(self, summary: Mapping[str, float]) -> str:
        """Return where the values lie in words."""
        return f"mean {summary['mean']:.4g}, median {summary['median']:.4g}"

    def _check_values(self, answers: "NDArray[np.float64]") -> None:
        import numpy as np

        table = self.table(answers)
        endless: NDArray[np.bool_] = np.any(~np.isfinite(table), axis=1)
        self._refuse(endless, answers, "are not all finite", "quantiles")
        falls: NDArray[np.bool_] = np.any(np.diff(table, axis=1) < 0, axis=1)
        rule = f"fall, where {', '.join(self.outputs)} must rise"
        self._refuse(falls, answers, rule, "quantiles")


_KINDS: Mapping[str, type[Task]] = {kind.name: kind for kind in (Binary, Multiclass, Regression)}


def declared_task(family: ModelFamily) -> Task:
    """Return a family's task as it is declared: a multiclass one does not know its classes yet."""
    return Regression(family.quantiles) if family.quantiles else task_named(family.task)


def task_named(name: str) -> Task:
    """Return the task of that name, with neither classes nor quantiles of its own.

    Raises
    ------
    TaskError
        When there is none.
    """
    if name not in _KINDS:
        raise TaskError(f"there is no task {name!r}; available: {', '.join(_KINDS)}")
    return _KINDS[name]()


def task_from(state: Mapping[str, Any]) -> Task:
    """Return the task that `Task.state` described.

    Raises
    ------
    TaskError
        When it describes none.
    """
    values = {key: tuple(value) for key, value in state.items() if key != "name"}
    try:
        return _KINDS[state["name"]](**values)
    except (KeyError, TypeError) as error:
        raise TaskError(f"{dict(state)} describes no task: {error!r}") from error


def metric_titles() -> dict[str, str]:
    """Return what people call each metric of any task, by name."""
    kinds: tuple[Task, ...] = (Binary(), Multiclass(), Regression())
    return {name: metric.title for kind in kinds[::-1] for name, metric in kind.metrics.items()}


def in_order(values: Iterable[str]) -> list[str]:
    """Sort texts that are numbers as numbers, before the rest, which is sorted as text."""

    def key(value: str) -> tuple[int, float, str]:
        number = value.removesuffix(".0")
        return (0, float(number), value) if number.lstrip("-").isdigit() else (1, 0.0, value)

    return sorted(values, key=key)


_NUMBERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
    "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip


def _is_number(sql_type: str) -> bool:
    return sql_type.partition("(")[0] in _NUMBERS


def _float64(numbers: "pa.ChunkedArray") -> "NDArray[np.float64]":
    import pyarrow as pa

    found: NDArray[np.float64] = numbers.cast(pa.float64(), safe=False).to_numpy()
    return found
