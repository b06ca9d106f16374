"""The task whose label is one of several classes, and the order classes are shown in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_assets.training.tasks.task import (
    MOST_CLASSES,
    LabelFacts,
    Task,
    TaskError,
    check_same_kind,
    check_two_classes,
    float64,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_assets.training.metrics import Metric

_CLASSES_IN_WORDS = 3
_SUM_TOLERANCE = 1e-6  # how far the probabilities of a row may be from one, by rounding


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
        check_two_classes(part, facts, only, self.name)
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
        return float64(positions)

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

        check_same_kind(self, of)
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


def in_order(values: Iterable[str]) -> list[str]:
    """Sort texts that are numbers as numbers, before the rest, which is sorted as text."""

    def key(value: str) -> tuple[int, float, str]:
        number = value.removesuffix(".0")
        return (0, float(number), value) if number.lstrip("-").isdigit() else (1, 0.0, value)

    return sorted(values, key=key)
