"""The task whose label is yes or no."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_assets.training.tasks.task import (
    LabelFacts,
    Task,
    TaskError,
    check_same_kind,
    check_two_classes,
    float64,
    is_number,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_assets.training.metrics import Metric


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
        if sql_type != "BOOLEAN" and not is_number(sql_type):
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
        check_two_classes(part, facts, "yes" if 1.0 in facts.counts else "no", self.name)

    def encode(self, labels: "pa.ChunkedArray") -> "NDArray[np.float64]":
        """Turn stored labels into 0 and 1, shape (rows,)."""
        return float64(labels)

    def check_encoded(self, label: "NDArray[np.float64]") -> None:
        """Refuse anything but 0 and 1."""
        self._refuse((label != 0) & (label != 1), label, "is neither 0 nor 1", "label")

    def point(self, answers: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the probability of yes, shape (rows,)."""
        return answers

    def aligned(self, answers: "NDArray[np.float64]", of: Task) -> "NDArray[np.float64]":
        """Return the answers as they are; only another kind of task cannot be compared."""
        check_same_kind(self, of)
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
