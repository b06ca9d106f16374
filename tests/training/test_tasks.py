"""A task knows its labels, its answers and its metrics, and refuses what is not of its kind."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.training import ModelFamily
from mlops_assets.training.metrics import MetricError, Scored
from mlops_assets.training.tasks import (
    Binary,
    LabelFacts,
    Multiclass,
    Regression,
    Task,
    TaskError,
    declared_task,
    in_order,
    task_from,
)

CLASSES = Multiclass(("early", "late", "on time"))
QUANTILES = Regression((0.025, 0.5, 0.975))
EVERY: tuple[Task, ...] = (Binary(), CLASSES, QUANTILES)


def facts(counts: dict[Any, int], not_finite: int = 0, distinct: int | None = None) -> LabelFacts:
    return LabelFacts(sum(counts.values()), distinct or len(counts), not_finite, counts)


def test_a_declaration_gives_its_task(families: dict[str, ModelFamily]):
    assert declared_task(families["binary"]) == Binary()
    assert declared_task(families["multiclass"]) == Multiclass(())
    assert declared_task(families["regression"]) == Regression((0.1, 0.5, 0.9))


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_a_task_survives_being_stored(task: Task):
    assert task_from(task.state()) == task


@pytest.mark.parametrize(
    "state", [{"name": "ranking"}, {}, {"name": "binary", "classes": ["a"]}, {"quantiles": [0.5]}]
)
def test_what_describes_no_task_is_refused(state: dict[str, Any]):
    with pytest.raises(TaskError, match="describes no task"):
        task_from(state)


def test_outputs_are_named_for_people():
    assert Binary().outputs == ("probability",)
    assert CLASSES.outputs == ("early", "late", "on time")
    assert QUANTILES.outputs == ("q2.5", "q50", "q97.5")
    assert Regression((0.07, 0.29, 0.57)).outputs == ("q7", "q29", "q57")


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_every_named_metric_exists_and_those_that_decide_have_a_direction(task: Task):
    for name in (*task.primary_metrics, task.loss):
        assert task.metric(name).sign in {1.0, -1.0}
    for name in (*task.headline, *task.by_slice, task.too_good[0], "calibration_error"):
        assert task.metric(name).name == name
    assert task.metric(task.loss).greater_is_better is False
    with pytest.raises(MetricError, match=f"a {task.name} task has no metric 'f0'; there are"):
        task.metric("f0")


def test_the_point_is_the_number_people_plot():
    assert Binary().point(np.array([0.2, 0.7])).tolist() == [0.2, 0.7]
    assert CLASSES.point(np.array([[0.2, 0.7, 0.1]])).tolist() == [0.7]
    assert QUANTILES.point(np.array([[1.0, 2.0, 5.0]])).tolist() == [2.0]
    assert Regression((0.5,)).point(np.array([2.0, 3.0])).tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("task", "answers", "message"),
    [
        (Binary(), [[0.1], [0.2]], r"of shape \(2, 1\) do not fit 2 rows of a binary task"),
        (Binary(), [0.1, np.nan], r"row 1: probability nan is not in \[0, 1\]"),
        (CLASSES, [0.1, 0.2], r"outputs early, late, on time; their shape must be \(2, 3\)"),
        (CLASSES, [[0.2, 0.8, 0], [0.1, 0.2, 0.3]], "row 1: .* do not add up to 1"),
        (CLASSES, [[0.2, 0.8, 0], [-0.1, 0.8, 0.3]], r"row 1: .* are not all in \[0, 1\]"),
        (CLASSES, [[np.nan, 0.8, 0], [0.1, 0.6, 0.3]], r"row 0: .* are not all in \[0, 1\]"),
        (QUANTILES, [[1, 2, 3], [1, np.inf, 3]], "row 1: .* are not all finite"),
        (QUANTILES, [[1, 1, 1], [1, 3, 2]], r"row 1: .* fall, where q2.5, q50, q97.5 must rise"),
    ],
)
def test_answers_of_the_wrong_kind_are_refused(task: Task, answers: list[Any], message: str):
    with pytest.raises(TaskError, match=message):
        task.check_answers(np.array(answers, dtype=float), 2)
    with pytest.raises(MetricError, match=message):
        Scored.of(task, np.zeros(2), np.array(answers, dtype=float), np.arange(2))


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        (Binary(), 0.5, "row 0: label 0.5 is neither 0 nor 1"),
        (CLASSES, 3.0, "row 0: label 3.0 is no position in early, late, on time"),
        (QUANTILES, np.nan, "row 0: label nan is not finite"),
    ],
)
def test_labels_of_the_wrong_kind_are_refused(task: Task, label: float, message: str):
    with pytest.raises(TaskError, match=message):
        task.check_encoded(np.array([label, 0.0]))


def test_labels_are_encoded_as_numbers():
    text = pa.chunked_array([["late", "early"], ["on time"]])
    assert CLASSES.encode(text).tolist() == [1.0, 0.0, 2.0]
    assert Binary().encode(pa.chunked_array([[1, 0]])).tolist() == [1.0, 0.0]
    assert QUANTILES.encode(pa.chunked_array([[1.5]])).tolist() == [1.5]
    with pytest.raises(TaskError, match=r"\['diverted'\] are none of early, late, on time"):
        CLASSES.encode(pa.chunked_array([["late", "diverted"]]))


@pytest.mark.parametrize(
    ("task", "counts", "message"),
    [
        (Binary(), {0.0: 3, 2.0: 1}, r"test: label values \[2.0\] are neither 0 nor 1"),
        (Binary(), {0.0: 3}, "test: all 3 labels are 'no'; a binary task needs both"),
        (CLASSES, {"late": 3}, "test: all 3 labels are 'late'; .* at least two"),
        (CLASSES, {"late": 3, " ": 2}, "test: 2 labels are blank"),
        (CLASSES, {"late": 3, "lost": 2}, r"classes \['lost'\] do not occur in train, which has"),
        (CLASSES, {str(i): 1 for i in range(101)}, "101 different labels; .* at most 100"),
        (QUANTILES, {1.0: 3, 2.0: 3}, "test: 6 labels have only the values 1, 2"),
    ],
)
def test_labels_that_cannot_be_learnt_from_are_refused(
    task: Task, counts: dict[Any, int], message: str
):
    with pytest.raises(TaskError, match=message):
        task.check_labels("test", facts(counts))


def test_labels_that_are_not_finite_are_refused():
    with pytest.raises(TaskError, match="train: 2 labels are infinite or NaN"):
        QUANTILES.check_labels("train", facts({1.0: 5}, not_finite=2))


@pytest.mark.parametrize(
    ("task", "kind", "fits"),
    [
        (Binary(), "BOOLEAN", True),
        (Binary(), "TINYINT", True),
        (Binary(), "VARCHAR", False),
        (CLASSES, "VARCHAR", True),
        (CLASSES, "INTEGER", True),
        (CLASSES, "ENUM('a', 'b')", True),
        (CLASSES, "INTEGER[]", False),
        (CLASSES, "STRUCT(a INTEGER)", False),
        (QUANTILES, "DECIMAL(18,3)", True),
        (QUANTILES, "BOOLEAN", False),
        (QUANTILES, "INTERVAL", False),
        (QUANTILES, "TIMESTAMP", False),
    ],
)
def test_a_label_column_must_have_a_type_the_task_reads(task: Task, kind: str, fits: bool):
    if fits:
        task.check_label_column(kind)
    else:
        with pytest.raises(TaskError, match="derive"):
            task.check_label_column(kind)


def test_quantiles_must_rise_and_have_a_middle():
    for levels in ((0.5, 0.1), (0.1, 0.1, 0.9), (0.0, 0.5, 1.0)):
        with pytest.raises(TaskError, match="must rise, each between 0 and 1"):
            Regression(levels)
    with pytest.raises(TaskError, match="must be odd in number"):
        Regression((0.1, 0.9))


def test_a_model_that_never_saw_a_class_gives_it_no_probability():
    older = Multiclass(("early", "late", "lost"))
    answers = np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    moved = CLASSES.aligned(answers, older)
    np.testing.assert_allclose(moved, [[0.4, 0.6, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    CLASSES.check_answers(moved, 2)
    assert CLASSES.aligned(moved, CLASSES) is moved
    with pytest.raises(TaskError, match="none of early, late, on time"):
        CLASSES.aligned(answers, Multiclass(("a", "b", "c")))


def test_a_model_with_more_quantiles_can_be_judged_and_one_with_fewer_cannot():
    wide = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    model = Regression((0.1, 0.25, 0.5, 0.75, 0.9))
    assert Regression((0.25, 0.5, 0.9)).aligned(wide, model).tolist() == [[2.0, 3.0, 5.0]]
    assert Regression((0.5,)).aligned(wide, model).tolist() == [3.0]
    with pytest.raises(TaskError, match=r"now asks for q2.5, q97.5 too; train it again"):
        QUANTILES.aligned(wide, model)
    with pytest.raises(TaskError, match="a binary model cannot be judged on a regression task"):
        QUANTILES.aligned(wide, Binary())


@pytest.mark.parametrize(
    ("task", "label", "words"),
    [
        (Binary(), [0, 0, 0, 1], "25.0% yes"),
        (CLASSES, [0, 1, 1, 1], "75.0% late, 25.0% early, 0.0% on time"),
        (Multiclass(tuple("abcde")), [0, 1, 1, 2], "50.0% b, 25.0% a, 25.0% c and 2 more"),
        (QUANTILES, [1, 2, 3, 10], "mean 4, median 2.5"),
    ],
)
def test_labels_are_described_in_words(task: Task, label: list[float], words: str):
    assert task.in_words(task.describe(np.array(label, dtype=float))) == words


def test_names_that_are_numbers_are_sorted_as_numbers():
    assert in_order(["10", "9", "b", "-1", "2.0", "a"]) == ["-1", "2.0", "9", "10", "a", "b"]
