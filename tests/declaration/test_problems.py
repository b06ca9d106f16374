"""What is wrong with a declaration is found all at once, key by key, and shows no secret."""

from datetime import date, timedelta
from typing import Annotated, Literal

import pytest
from pydantic import Field

from mlops_assets.declaration import (
    Declared,
    allowed_values,
    did_you_mean,
    find_problems,
    key_path,
    without_secrets,
)


class Circle(Declared):
    kind: Literal["circle"] = "circle"
    radius: float = Field(gt=0)


class Square(Declared):
    kind: Literal["square"] = "square"
    side: float = Field(gt=0, le=10)


Shape = Annotated[Circle | Square, Field(discriminator="kind")]


class Drawing(Declared):
    title: str = Field(min_length=1, description="What is drawn.")
    drawn_on: date | None = None
    shapes: tuple[Shape, ...] = ()
    named: dict[str, Shape] = Field(default_factory=dict)
    tags: tuple[str, ...] | Literal["all"] = "all"
    options: dict[str, str] = Field(default_factory=dict, repr=False)


@pytest.mark.parametrize(
    ("document", "path", "said"),
    [
        ({}, "title", "is missing, and required. What is drawn. Allowed: a text"),
        ({"titel": 1, "title": "x"}, "titel", "unknown key; did you mean 'title'?"),
        ({"title": "x", "drawn_on": "soon"}, "drawn_on", "'soon' is not allowed. Allowed: a day"),
        (
            {"title": "x", "shapes": [{"kind": "circle", "radius": 1, "side": 1}]},
            "shapes[0].side",
            "unknown key. Allowed: kind, radius",
        ),
        (
            {"title": "x", "shapes": [{"kind": "square", "side": 11}]},
            "shapes[0].side",
            "11 is not allowed. Allowed: a number above 0 and of at most 10",
        ),
        (
            {"title": "x", "named": {"big": {"kind": "squar"}}},
            "named.big",
            "kind 'squar' is unknown; did you mean 'square'?",
        ),
        ({"title": "x", "named": {"big": {}}}, "named.big", "the key 'kind'"),
        ({"title": "x", "tags": ["a", 1]}, "tags[1]", "1 is not allowed. Allowed: a text"),
        ({"title": "x", "tags": "some"}, "tags", "Allowed: a list, each a text or 'all'"),
    ],
)
def test_a_problem_names_key_value_and_what_is_allowed(
    document: dict[str, object], path: str, said: str
) -> None:
    problems = find_problems(Drawing, document)
    assert [key_path(problem.keys) for problem in problems] == [path]
    assert said in problems[0].text


def test_a_valid_document_has_none() -> None:
    assert find_problems(Drawing, {"title": "x", "shapes": [{"kind": "circle", "radius": 2}]}) == []


def test_unknown_keys_hide_nothing_but_that_the_right_one_is_missing() -> None:
    problems = find_problems(Drawing, {"titel": "x", "drawn_on": 3.5, "shapes": [{"kind": "o"}]})
    assert {key_path(p.keys) for p in problems} == {"titel", "drawn_on", "shapes[0]"}


def test_a_field_that_may_hold_a_secret_is_not_shown() -> None:
    [problem] = find_problems(Drawing, {"title": "x", "options": {"user": 7654321}})
    assert key_path(problem.keys) == "options.user"
    assert "7654321" not in problem.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hunter2@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:hunt@er/2@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:${PASSWORD}@db/x", "postgresql://me:${PASSWORD}@db/x"),
        ("host=db password=hunter2 user=me", "host=db password=*** user=me"),
        ("https://b/x?token=hunter2&a=1", "https://b/x?token=***&a=1"),
        ("s3://bucket/a:b/c", "s3://bucket/a:b/c"),
    ],
)
def test_secrets_are_hidden_in_a_text(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_secret_values_of_a_document_are_hidden_wherever_they_stand() -> None:
    document = {"source": {"db_password": "hunter2", "more": [{"token": {"value": 9876}}]}}
    assert without_secrets("hunter2 and 9876", document) == "*** and ***"


def test_what_a_key_allows_is_said_in_words() -> None:
    class Bounds(Declared):
        share: float = Field(ge=0, le=1)
        count: int = Field(ge=1)
        unit: Literal["m", "km"]
        code: str = Field(pattern="^[a-z]+$", examples=["abc"])
        every: timedelta

    assert {name: allowed_values(field) for name, field in Bounds.model_fields.items()} == {
        "share": "a number from 0 to 1",
        "count": "a whole number of at least 1",
        "unit": "'m' or 'km'",
        "code": "a text such as abc",
        "every": "an ISO 8601 duration such as P2D (two days) or PT6H (six hours)",
    }


def test_only_a_near_name_is_suggested() -> None:
    assert did_you_mean("knd", ["kind", "path"]) == "; did you mean 'kind'?"
    assert did_you_mean("zzz", ["kind", "path"]) == ""
