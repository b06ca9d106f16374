"""What a model's contract says about values, and the rows as arrays."""

from typing import Any

import numpy as np
import pytest

from mlops_assets.serving.inputs import (
    MOST_ERRORS,
    InputCheck,
    Inputs,
    Policy,
    invalid,
    joined,
)
from mlops_assets.serving.security.problems import FieldProblem, InvalidRequestError
from mlops_assets.training.dataset import MISSING, FeatureSchema
from mlops_assets.training.input_contract import InputContract, InputField, Kind

CONTRACT = InputContract(
    (
        InputField("wind", Kind.number, True, -5.0, 30.0, (), "", None),
        InputField("carrier", Kind.category, False, None, None, ("AA", "B6"), "", None),
        InputField("seats", Kind.integer, False, 50, 300, (), "", None),
        InputField("is_new", Kind.boolean, False, 0, 1, (), "", None),
        InputField("tail", Kind.category, True, None, None, (), "", None),
        InputField("never", Kind.number, True, None, None, (), "", None),
    )
)
SCHEMA = FeatureSchema(CONTRACT.names, categorical=("carrier", "tail"))
GOOD: dict[str, Any] = {
    "wind": 3.5,
    "carrier": "AA",
    "seats": 100,
    "is_new": 1,
    "tail": "N1",
    "never": None,
}
STRICT = Policy(refuse_unseen=True, refuse_outside=True)


def inputs(*rows: dict[str, Any]) -> Inputs:
    """Return rows that are good, but for what is said of each."""
    whole = [GOOD | row for row in rows]
    return Inputs(
        np.array([[row[name] for name in SCHEMA.numeric] for row in whole], np.float32),
        tuple([row[name] for row in whole] for name in SCHEMA.categorical),
    )


def warnings(*rows: dict[str, Any], policy: Policy = Policy()) -> tuple[str, ...]:  # noqa: B008 - frozen
    return InputCheck(CONTRACT, SCHEMA, policy).warnings(inputs(*rows))


def refused(
    *rows: dict[str, Any], policy: Policy = STRICT, where: str = "rows"
) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidRequestError) as found:
        InputCheck(CONTRACT, SCHEMA, policy).warnings(inputs(*rows), where)
    return [(error.field, error.kind, error.expected) for error in found.value.errors]


def test_what_was_seen_in_training_is_answered_without_a_word() -> None:
    edges = [{"wind": -5.0, "seats": 50}, {"wind": 30.0, "seats": 300, "is_new": 0}]
    assert warnings({}, *edges, policy=STRICT) == ()


def test_a_fraction_where_whole_numbers_belong_is_always_refused() -> None:
    assert refused({}, {"seats": 99.5}, policy=Policy()) == [
        ("rows[1].seats", "fraction", "a whole number")
    ]


@pytest.mark.parametrize(
    ("row", "warning", "problem"),
    [
        (
            {"wind": 31.0},
            "wind: 1 of 2 outside -5 to 30 in training",
            ("wind", "number outside what was seen", "-5 to 30 in training"),
        ),
        (
            {"seats": 49},
            "seats: 1 of 2 outside 50 to 300 in training",
            ("seats", "number outside what was seen", "50 to 300 in training"),
        ),
        (
            {"carrier": "ZZ"},
            "carrier: 1 of 2 not seen in training",
            ("carrier", "unseen text", "one of the 2 values seen in training"),
        ),
        (
            {"carrier": None},
            "carrier: 1 of 2 missing, never so in training",
            ("carrier", "null", "category; it was never missing in training"),
        ),
        (
            {"seats": None},
            "seats: 1 of 2 missing, never so in training",
            ("seats", "null", "integer; it was never missing in training"),
        ),
    ],
)
def test_what_was_never_seen_is_said_or_refused(
    row: dict[str, Any], warning: str, problem: tuple[str, str, str]
) -> None:
    field, *rest = problem
    assert warnings({}, row) == (warning,)
    assert refused({}, row) == [(f"rows[1].{field}", *rest)]


def test_what_may_be_missing_and_what_has_too_many_values_to_know_is_not_odd() -> None:
    assert warnings({"wind": None, "tail": None}, {"tail": "any", "never": 7}, policy=STRICT) == ()


def test_each_kind_of_oddness_has_its_own_policy() -> None:
    new, far = {"carrier": "ZZ"}, {"wind": 99.0}
    [said] = warnings(new, policy=Policy(refuse_outside=True))
    assert said.startswith("carrier")
    [said] = warnings(far, policy=Policy(refuse_unseen=True))
    assert said.startswith("wind")


def test_problems_name_columns_and_entities_as_they_were_asked() -> None:
    [(where, *_)] = refused({"wind": 99.0}, where="entities")
    assert where == "entities[0].wind"


def test_a_request_with_everything_wrong_names_as_much_as_is_listed() -> None:
    found = refused(*[{"seats": 1.5}] * 100)
    assert [where for where, *_ in found] == [f"rows[{row}].seats" for row in range(MOST_ERRORS)]


def test_only_so_many_errors_are_listed_and_it_is_said_that_there_are_more() -> None:
    problem = FieldProblem("rows[0].wind", "text", "a number")
    assert invalid("wrong", [problem] * MOST_ERRORS).detail == "wrong"
    more = invalid("wrong", [problem] * (MOST_ERRORS + 1))
    assert len(more.errors) == MOST_ERRORS
    assert "more than the 20" in more.detail


# Arrays ------------------------------------------------------------------------------------------


def test_rows_of_several_requests_are_put_below_each_other() -> None:
    one, two = inputs({"wind": 1.0}), inputs({"wind": 2.0, "carrier": None}, {"tail": None})
    together = joined([one, two])
    assert len(together) == 3
    np.testing.assert_array_equal(together.numbers, np.vstack([one.numbers, two.numbers]))
    assert together.categories == (["AA", None, "AA"], ["N1", "N1", None])
    assert joined([one]) is one
    back = together.take(1, 3)
    np.testing.assert_array_equal(back.numbers, two.numbers)
    assert [list(values) for values in back.categories] == [list(v) for v in two.categories]


def test_a_frame_and_a_matrix_hold_the_features_in_the_models_order() -> None:
    given = inputs({"carrier": None}, {"wind": None})
    frame, matrix = given.frame(SCHEMA), given.objects(SCHEMA)
    assert tuple(frame.columns) == SCHEMA.names
    assert frame["carrier"].tolist() == [MISSING, "AA"]
    for name in SCHEMA.numeric:
        assert frame[name].dtype == np.float32
    for place, name in enumerate(SCHEMA.names):
        np.testing.assert_array_equal(np.array(matrix[:, place].tolist()), frame[name].to_numpy())
