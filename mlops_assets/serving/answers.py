"""From a model's numbers to what a caller reads, in the form the request came in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlops_assets.serving.inputs import Inputs
from mlops_assets.serving.served import ServedModel
from mlops_assets.training.estimators import Explanation
from mlops_assets.training.input_contract import Kind
from mlops_assets.training.tasks import Binary, Multiclass

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN = {Kind.number: float, Kind.integer: int, Kind.boolean: bool}


@dataclass(frozen=True, slots=True)
class Answer:
    """All that an answer says.

    Attributes
    ----------
    model
        Who answered.
    role
        `champion` or `canary`.
    request_id
        Its predictions are `request_id-0`, `request_id-1` and so on.
    answers
        Shape (rows,) or (rows, outputs).
    warnings
        What is odd about the request.
    logged
        Whether the inference log holds it.
    explanation
        Contributions of the features, where they were asked for.
    inputs
        What was asked.
    features
        For each row, of each feature view how fresh its values are; empty for given features.
    """

    model: ServedModel
    role: str
    request_id: str
    answers: NDArray[np.float64]
    warnings: Sequence[str]
    logged: bool
    explanation: Explanation | None
    inputs: Inputs
    features: Sequence[Mapping[str, Any]] = ()

    def as_rows(self) -> dict[str, Any]:
        """Return it with one object a prediction, for msgspec to encode."""
        columns = self._columns()
        if not self.features and self.explanation is None:
            row_type = _row_type(tuple(columns))
            return {**self._about(), "predictions": [*map(row_type, *columns.values())]}
        predictions = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        for row, prediction in enumerate(predictions):
            if self.features:
                prediction["features"] = self.features[row]
            if self.explanation is not None:
                prediction["explanation"] = self._explained(self.explanation, row)
        return {**self._about(), "predictions": predictions}

    def as_columns(self) -> dict[str, Any]:
        """Return it with one list a column."""
        columns: dict[str, Any] = self._columns()
        if self.explanation is not None:
            found = self.explanation
            columns["explanation"] = {
                "of": found.of,
                "expected": found.expected.tolist(),
                "score": found.score.tolist(),
                "contributions": dict(
                    zip(found.features, found.contributions.T.tolist(), strict=True)
                ),
            }
        return {**self._about(), "predictions": columns}

    def as_arrow(self) -> "pa.Table":
        """Return it as a table: a row a prediction, what holds for all of them as metadata."""
        import pyarrow as pa

        columns: dict[str, Any] = {
            name: pa.array(values) for name, values in self._columns().items()
        }
        if self.explanation is not None:
            columns["expected"] = pa.array(self.explanation.expected)
            columns["score"] = pa.array(self.explanation.score)
            for place, name in enumerate(self.explanation.features):
                columns[f"contribution_{name}"] = pa.array(self.explanation.contributions[:, place])
        about = {
            name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for name, value in self._about().items()
        }
        return pa.table(columns).replace_schema_metadata(about)

    def _about(self) -> dict[str, Any]:
        return {
            "model": str(self.model),
            "role": self.role,
            "request_id": self.request_id,
            "logged": self.logged,
            "warnings": list(self.warnings),
        }

    def _columns(self) -> dict[str, list[Any]]:
        """Return one list a column, the same for every form."""
        prefix = f"{self.request_id}-"
        ids = [prefix + row for row in _row_numbers(len(self.answers))]
        task = self.model.estimator.task
        if isinstance(task, Binary):
            columns: dict[str, list[Any]] = {"id": ids, "probability": self.answers.tolist()}
            if self.model.threshold is not None:
                columns["yes"] = (self.answers >= self.model.threshold).tolist()
            return columns
        table = task.table(self.answers)
        if isinstance(task, Multiclass):
            return {
                "id": ids,
                "class": [task.classes[place] for place in table.argmax(axis=1)],
                "probabilities": [
                    dict(zip(task.classes, row, strict=True)) for row in table.tolist()
                ],
            }
        quantiles = [dict(zip(task.outputs, row, strict=True)) for row in table.tolist()]
        return {"id": ids, "value": task.point(self.answers).tolist(), "quantiles": quantiles}

    def _explained(self, found: Explanation, row: int) -> dict[str, Any]:
        values = self._values(row)
        contributions = found.contributions[row]
        return {
            "of": found.of,
            "expected": float(found.expected[row]),
            "score": float(found.score[row]),
            "contributions": [
                {
                    "feature": found.features[place],
                    "value": values[found.features[place]],
                    "contribution": float(contributions[place]),
                }
                for place in np.argsort(-np.abs(contributions), kind="stable")
            ],
        }

    def _values(self, row: int) -> dict[str, Any]:
        """Return what was asked, as a caller gives it."""
        schema = self.model.estimator.schema
        kinds = {field.name: field.kind for field in self.model.contract.fields}
        values: dict[str, Any] = {
            name: None if np.isnan(value) else _PLAIN[kinds[name]](value)
            for name, value in zip(schema.numeric, self.inputs.numbers[row], strict=True)
        }
        for name, column in zip(schema.categorical, self.inputs.categories, strict=True):
            values[name] = column[row]
        return values


@lru_cache(maxsize=16)
def _row_numbers(rows: int) -> tuple[str, ...]:
    """Return the numbers of so many rows as texts."""
    return tuple(map(str, range(rows)))


@lru_cache(maxsize=64)
def _row_type(names: tuple[str, ...]) -> "type[msgspec.Struct]":
    """Return a type with these fields: it is filled and encoded faster than a dict."""
    return msgspec.defstruct("Prediction", [(name, Any) for name in names], gc=False)
