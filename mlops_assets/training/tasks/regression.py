"""The task whose label is a number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_assets.training.family import DEFAULT_QUANTILES
from mlops_assets.training.tasks.task import (
    LabelFacts,
    Task,
    TaskError,
    check_same_kind,
    float64,
    is_number,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_assets.training.metrics import Metric

FEWEST_VALUES = 5
"""A regression label with fewer distinct values in a part cannot be told from classes."""


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
        if not is_number(sql_type):
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
        return float64(labels)

    def check_encoded(self, label: "NDArray[np.float64]") -> None:
        """Refuse what is not finite."""
        import numpy as np

        self._refuse(~np.isfinite(label), label, "is not finite", "label")

    def point(self, answers: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return the middle quantile, shape (rows,)."""
        return self.table(answers)[:, self.middle]

    def aligned(self, answers: "NDArray[np.float64]", of: Task) -> "NDArray[np.float64]":
        """Pick the declared quantiles among those the model answers."""
        check_same_kind(self, of)
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
