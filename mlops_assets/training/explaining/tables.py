"""Explanations as Delta tables, so that SQL can compare models, features and groups over time.

Every table is keyed by family and model run, and holds a run's rows once, however often they are
written.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from mlops_assets.lake import Lake, TableName, TableVersion
from mlops_assets.training.bootstrap import Estimate
from mlops_assets.training.explaining.explanation import ModelExplanation
from mlops_assets.training.explaining.partial_dependence import ICE_QUANTILES

if TYPE_CHECKING:
    import pyarrow as pa

_SCHEMA = "explanations"
_KEY = (
    ("family", "string", "Model family."),
    ("run_id", "string", "MLflow run of the model."),
    ("candidate", "string", "Which candidate of the family it is."),
    ("training_set", "string", "Version of the training set whose part was explained."),
    ("part", "string", "Part of the split that was explained."),
)
_ESTIMATE = (
    ("value", "double", "The measured value; null where it cannot be computed."),
    ("low", "double", "Lower end of its interval; null where there is none."),
    ("high", "double", "Upper end of its interval; null where there is none."),
    ("missing_because", "string", "Why value or interval is missing; empty when both are there."),
)


@dataclass(frozen=True)
class ExplanationTable:
    """One of the tables.

    Attributes
    ----------
    name, description
        Of the table.
    columns
        Name, type and description of each, beside those that key every table.
    rows
        The rows of an explanation, without the key.
    """

    name: TableName
    description: str
    columns: tuple[tuple[str, str, str], ...]
    rows: Callable[[ModelExplanation], Iterable[Mapping[str, Any]]]

    @property
    def schema(self) -> "pa.Schema":
        """The columns as Arrow names them, each with its description."""
        import pyarrow as pa

        kinds = {
            "string": pa.string(),
            "double": pa.float64(),
            "int64": pa.int64(),
            "bool": pa.bool_(),
            "date": pa.date32(),
        }
        return pa.schema(
            pa.field(name, kinds[kind], metadata={"comment": text})
            for name, kind, text in (*_KEY, *self.columns)
        )


def explanation_tables(
    explanation: ModelExplanation, *, run_id: str, candidate: str, training_set: TableVersion
) -> "dict[TableName, pa.Table]":
    """Return an explanation as Arrow tables with described columns.

    Parameters
    ----------
    explanation
        What to tell.
    run_id, candidate
        MLflow run of the model, and which candidate it is.
    training_set
        Whose part was explained.
    """
    import pyarrow as pa

    key = {
        "family": explanation.family,
        "run_id": run_id,
        "candidate": candidate,
        "training_set": str(training_set),
        "part": explanation.part,
    }
    return {
        table.name: pa.Table.from_pylist(
            [{**key, **row} for row in table.rows(explanation)], schema=table.schema
        )
        for table in TABLES
    }


def write_explanation(
    lake: Lake,
    explanation: ModelExplanation,
    *,
    run_id: str,
    candidate: str,
    training_set: TableVersion,
) -> tuple[TableName, ...]:
    """Write an explanation into the lake, once for a run: writing it again changes nothing.

    A write that was killed is finished by the next one.

    Parameters
    ----------
    lake
        Gets the tables `explanations/...`.
    explanation, run_id, candidate, training_set
        As `explanation_tables` takes them.

    Returns
    -------
    tuple of TableName
        The tables that got rows; empty where all of them had this run already.
    """
    described = {table.name: table.description for table in TABLES}
    return tuple(
        name
        for name, rows in explanation_tables(
            explanation, run_id=run_id, candidate=candidate, training_set=training_set
        ).items()
        if lake.append(
            name,
            rows,
            transaction=(f"explanation-{run_id}", 1),
            metadata={"run_id": run_id, "family": explanation.family},
            description=described[name],
        )
        is not None
    )


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "missing_because": found.reason,
    }


def _importance(it: ModelExplanation) -> Iterator[dict[str, Any]]:
    for rank, one in enumerate(it.attribution.importance, start=1):
        yield {
            "method": "shap",
            "name": one.feature,
            "features": 1,
            "rank": rank,
            "unit": f"mean absolute SHAP value of {it.of}",
            "share": one.share,
            "direction": one.direction,
            **_estimate(one.size),
        }
    for method, found in (("permutation", it.permuted), ("permutation_view", it.permuted_views)):
        for rank, shuffled in enumerate(found, start=1):
            yield {
                "method": method,
                "name": shuffled.name,
                "features": len(shuffled.features),
                "rank": rank,
                "unit": f"loss of {it.metric}",
                **_estimate(shuffled.loss),
            }


def _dependence(it: ModelExplanation) -> Iterator[dict[str, Any]]:
    for one in it.dependence:
        for i, value in enumerate(one.values):
            yield {
                "feature": one.feature,
                "output": one.output,
                "position": i,
                "number": value if isinstance(value, float) else None,
                "category": value if isinstance(value, str) else None,
                "share": float(one.share[i]),
                "mean_answer": float(one.mean[i]),
                **{
                    f"ice_{100 * level:.0f}": float(one.ice[i, j])
                    for j, level in enumerate(ICE_QUANTILES)
                },
                "rows": one.rows,
            }


def _rows(it: ModelExplanation) -> Iterator[dict[str, Any]]:
    rows = it.attribution.rows
    names = rows.features.columns
    categorical = {one.feature for one in it.attribution.importance if one.categorical}
    columns = {name: rows.features[name].tolist() for name in names}
    for i, entity in enumerate(rows.entities):
        shared = {
            "row": i,
            "entity": json.dumps(entity),
            "day": rows.days[i].item(),
            "label": float(rows.label[i]),
            "answer": float(rows.answer[i]),
            "score": float(rows.score[i]),
            "expected": float(rows.expected[i]),
        }
        for j, name in enumerate(names):
            value = columns[name][i]
            is_number = name not in categorical and not isnan(value)
            yield {
                **shared,
                "feature": name,
                "number": float(value) if is_number else None,
                "category": str(value) if name in categorical else None,
                "contribution": float(rows.contributions[i, j]),
            }


def _slices(it: ModelExplanation) -> Iterator[dict[str, Any]]:
    for found in it.slices:
        for metric, number in found.metrics.items():
            yield {
                "column": found.column,
                "group": found.value,
                "metric": metric,
                "rows": found.rows,
                "small": found.small,
                **_estimate(number),
            }


def _fairness(it: ModelExplanation) -> Iterator[dict[str, Any]]:
    for figure, number in it.fairness.overall.items():
        yield {
            "column": None,
            "group": "all rows",
            "figure": figure,
            "rows": None,
            "small": False,
            **_estimate(number),
        }
    for found in it.fairness.groups:
        yield {
            "column": found.column,
            "group": found.group,
            "figure": found.figure,
            "rows": found.rows,
            "small": found.small,
            **_estimate(found.estimate),
        }
    for gap in it.fairness.gaps:
        yield {
            "column": gap.column,
            "group": f"{gap.highest} less {gap.lowest}",
            "figure": f"largest gap of {gap.figure}",
            "small": False,
            **_estimate(gap.gap),
        }


IMPORTANCE = TableName(_SCHEMA, "importance")
PARTIAL_DEPENDENCE = TableName(_SCHEMA, "partial_dependence")
ROWS = TableName(_SCHEMA, "rows")
SLICES = TableName(_SCHEMA, "slices")
FAIRNESS = TableName(_SCHEMA, "fairness")

TABLES = (
    ExplanationTable(
        IMPORTANCE,
        "How much each feature, and each feature view, moves a model: by SHAP values, and by what "
        "shuffling it costs on rows the model has not seen.",
        (
            ("method", "string", "shap, permutation (one feature), or permutation_view."),
            ("name", "string", "Feature, or feature view."),
            ("features", "int64", "How many features it stands for."),
            ("rank", "int64", "Place by value within the method, from 1."),
            ("unit", "string", "What the value measures."),
            ("share", "double", "Share of all features' SHAP sizes; null for permutation."),
            (
                "direction",
                "double",
                "Rank correlation of value and contribution; null for categories and permutation.",
            ),
            *_ESTIMATE,
        ),
        _importance,
    ),
    ExplanationTable(
        PARTIAL_DEPENDENCE,
        "Mean answer of a model when one feature is set to a value, with quantiles over rows.",
        (
            ("feature", "string", "The feature that is set."),
            ("output", "string", "Which of the model's outputs."),
            ("position", "int64", "Order of the values: numbers rising, categories by frequency."),
            ("number", "double", "The value of a number; null for a category and for missing."),
            ("category", "string", "The value of a category; null for a number."),
            ("share", "double", "Share of rows that this value stands for."),
            ("mean_answer", "double", "Mean answer over the rows."),
            *(
                (
                    f"ice_{100 * level:.0f}",
                    "double",
                    f"Quantile {level} of the single rows' answers.",
                )
                for level in ICE_QUANTILES
            ),
            ("rows", "int64", "Over how many rows."),
        ),
        _dependence,
    ),
    ExplanationTable(
        ROWS,
        "What each feature added to the score of single rows, drawn at random: expected plus all "
        "contributions of a row is its score.",
        (
            ("row", "int64", "Number of the row within the run's sample, from 0."),
            ("entity", "string", "Entity keys of the row, as JSON."),
            ("day", "date", "Calendar day of the row."),
            ("label", "double", "The truth, as the model learns it."),
            ("answer", "double", "The one number people read of the model's answer."),
            ("score", "double", "The model's raw score."),
            ("expected", "double", "Score that the contributions start from."),
            ("feature", "string", "Which feature."),
            ("number", "double", "Its value, if it is a number; null where missing."),
            ("category", "string", "Its value, if it is a category."),
            ("contribution", "double", "What it added to the score: its SHAP value."),
        ),
        _rows,
    ),
    ExplanationTable(
        SLICES,
        "Metrics of a model on each value of the family's slices.",
        (
            ("column", "string", "The slice."),
            ("group", "string", "Its value."),
            ("metric", "string", "Which metric."),
            ("rows", "int64", "Rows of the slice."),
            ("small", "bool", "Whether they are too few to say much."),
            *_ESTIMATE,
        ),
        _slices,
    ),
    ExplanationTable(
        FAIRNESS,
        "How each group of the family's slices is treated by a model, and the largest gaps.",
        (
            ("column", "string", "The slice; null for all rows."),
            ("group", "string", "Its value; for a largest gap the two groups."),
            ("figure", "string", "Which figure, such as true_positive_rate."),
            ("rows", "int64", "Rows the figure rests on; null for a gap and for all rows."),
            ("small", "bool", "Whether they are too few to say much."),
            *_ESTIMATE,
        ),
        _fairness,
    ),
)
"""Every table an explanation is written to."""
