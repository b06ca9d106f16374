"""What a contract says, and what it may not say."""

import datetime as dt
import os
import subprocess
import sys
from typing import Any

import pandera.ibis as pa
import pytest
from pyarrow import date32, timestamp

from mlops_assets.quality import (
    Contract,
    ContractError,
    TimestampLocal,
    TimestampUTC,
    arrow_schema,
    check_contract,
    columns,
    contract_hash,
    keys,
    rules,
)


def declare(config: dict[str, Any] | None = None, **body: Any) -> type[Contract]:
    """Declare a contract with one column ``x``; what is given replaces what is right."""
    namespace: dict[str, Any] = {
        "__doc__": "One row a thing.",
        "__annotations__": {"x": int},
        "x": pa.Field(description="A number"),
        **body,
    }
    if config is not None:
        namespace["Config"] = type("Config", (), config)
    return type("Things", (Contract,), namespace)


def test_columns_in_words(contract):
    told = {c.name: (c.duckdb_type, c.nullable, c.constraints) for c in columns(contract)}
    assert told == {
        "flight": ("BIGINT", False, ("key", "at least 1")),
        "origin": ("VARCHAR", False, ("one of EWR, JFK, LGA",)),
        "day": ("DATE", False, ("key",)),
        "tailnum": ("VARCHAR", True, ("matches ^N[0-9]+$",)),
        "distance": ("DOUBLE", False, ("between 0 and 6000",)),
        "delay": ("DOUBLE", True, ("at least -100",)),
        "left_at": ("TIMESTAMP WITH TIME ZONE", True, ()),
    }
    assert columns(contract)[0].description == "Flight number"
    assert keys(contract) == (("flight", "day"),)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"ge": 0, "le": 2000}, "between 0 and 2000"),
        ({"gt": 0}, "more than 0"),
        ({"lt": 5}, "less than 5"),
        ({"eq": 5}, "equal to 5"),
        ({"ne": 5}, "not 5"),
        ({"notin": [1, 2]}, "none of 1, 2"),
        ({"in_range": (0, 9, True, False)}, "at least 0 and less than 9"),
        ({"in_range": (0, 9, False, True)}, "more than 0 and at most 9"),
        ({"unique_values_eq": [1, 2]}, "takes exactly the values 1, 2"),
    ],
)
def test_constraints_on_numbers_in_words(field, words):
    (column,) = columns(declare(x=pa.Field(description="A number", **field)))
    assert column.constraints == (words,)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"str_contains": "a+"}, "contains a+"),
        ({"str_startswith": "a"}, "starts with a"),
        ({"str_endswith": "a"}, "ends with a"),
        ({"str_length": (2, 3)}, "2 to 3 characters long"),
        ({"str_length": {"min_value": 2}}, "at least 2 characters long"),
        ({"str_length": {"max_value": 2}}, "at most 2 characters long"),
        ({"str_length": {"exact_value": 2}}, "2 characters long"),
    ],
)
def test_constraints_on_text_in_words(field, words):
    body = {"__annotations__": {"x": str}, "x": pa.Field(description="A text", **field)}
    (column,) = columns(declare(**body))
    assert column.constraints == (words,)


def test_arrow_schema_carries_descriptions(contract):
    schema = arrow_schema(contract)
    assert schema.names == [column.name for column in columns(contract)]
    assert schema.field("left_at").type == timestamp("us", "UTC")
    assert schema.field("day").type == date32()
    assert schema.field("origin").metadata == {b"comment": b"Airport it left from"}


def test_both_kinds_of_time():
    class Times(Contract):
        """One row a moment."""

        instant: TimestampUTC = pa.Field(description="An instant")
        local: TimestampLocal = pa.Field(description="What the clock on the wall said")

    assert [column.duckdb_type for column in columns(Times)] == [
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP",
    ]
    assert [field.type for field in arrow_schema(Times)] == [
        timestamp("us", "UTC"),
        timestamp("us"),
    ]


def test_rule_names_are_stable_unique_and_safe(contract):
    names = [rule.name for rule in rules(contract)]
    assert names == [
        "structure",
        "readable",
        "flight__not_null",
        "flight__ge",
        "origin__not_null",
        "origin__isin",
        "day__not_null",
        "tailnum__str_matches",
        "distance__not_null",
        "distance__finite",
        "distance__in_range",
        "delay__finite",
        "delay__ge",
        "key",
        "not_late_without_time",
    ]
    assert [r.name for r in rules(contract, window="inside it")][-2] == "inside_window"
    custom = next(r for r in rules(contract) if r.name == "not_late_without_time")
    assert custom.description == "A delay is known only for a flight that left."
    assert all(rule.description for rule in rules(contract))


def test_columns_are_inherited(contract):
    class WithGate(contract):
        """Departures with their gate."""

        gate: str = pa.Field(nullable=True, description="Gate")

    assert [c.name for c in columns(WithGate)][-2:] == ["left_at", "gate"]
    assert keys(WithGate) == keys(contract)


REFUSED = {
    "no docstring": (
        {"__doc__": None}, "has no docstring"),
    "no description": (
        {"x": pa.Field()}, "column 'x': has no description"),
    "blank description": (
        {"x": pa.Field(description=" ")}, "column 'x': has no description"),
    "unique": (
        {"x": pa.Field(unique=True, description="x")}, "column 'x': .*name it in Config.unique"),
    "coerce": (
        {"x": pa.Field(coerce=True, description="x")}, "column 'x': .*coerce"),
    "default": (
        {"x": pa.Field(default=1, description="x")}, "column 'x': .*default"),
    "regex": (
        {"x": pa.Field(regex=True, description="x")}, "column 'x': .*regex"),
    "ignore_na": (
        {"x": pa.Field(ge=0, ignore_na=False, description="x")}, "column 'x': ignore_na"),
    "time without a zone said": (
        {"__annotations__": {"x": dt.datetime}}, "column 'x': .*TimestampUTC"),
    "type that Delta lacks": (
        {"__annotations__": {"x": dt.time}}, "column 'x': type time has no counterpart"),
    "columns alike but for case": (
        {"__annotations__": {"x": int, "X": int}, "X": pa.Field(description="X")}, "only in case"),
    "coerce for all": ({"config": {"coerce": True}}, r"Config\.coerce"),
    "dropped rows": ({"config": {"drop_invalid_rows": True}}, r"Config\.drop_invalid_rows"),
    "not strict": ({"config": {"strict": False}}, r"Config\.strict=False"),
    "unknown key": ({"config": {"unique": ["y"]}}, r"Config\.unique names 'y'"),
    "key may be null": (
        {"config": {"unique": ["x"]}, "x": pa.Field(nullable=True, description="x")},
        "column 'x': is part of a key",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "told"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_be_enforced_is_refused_at_once(body, told):
    with pytest.raises(ContractError, match=told):
        declare(**body)


def test_all_problems_are_told_together():
    with pytest.raises(ContractError) as caught:
        declare(__doc__=None, x=pa.Field(unique=True))
    assert str(caught.value).count("\n  - ") == 3


def test_a_parser_is_refused():
    with pytest.raises(ContractError, match="parsers are not run"):

        class Parsed(Contract):
            """One row a thing."""

            x: int = pa.Field(description="A number")

            @pa_parser
            def double(cls, table: Any) -> Any:  # noqa: N805 - Pandera's convention
                return table


def pa_parser(function: Any) -> Any:
    from pandera.api.dataframe.model_components import dataframe_parser

    return dataframe_parser(function)


class TestHash:
    def test_is_stable(self, contract):
        assert contract_hash(contract) == contract_hash(contract)
        assert contract_hash(declare()) == contract_hash(declare())

    def test_ignores_descriptions(self):
        changed = declare(x=pa.Field(description="Another number"))
        assert contract_hash(declare()) == contract_hash(changed)

    @pytest.mark.parametrize(
        "body",
        [
            {"x": pa.Field(ge=0, description="A number")},
            {"x": pa.Field(nullable=True, description="A number")},
            {"__annotations__": {"x": float}},
            {"config": {"unique": ["x"]}},
            {"config": {"strict": "filter"}},
            {"x": pa.Field(metadata={"non_finite": True}, description="A number")},
        ],
        ids=["a bound", "nullable", "the type", "the key", "strictness", "non-finite numbers"],
    )
    def test_changes_with_each_rule(self, body):
        assert contract_hash(declare()) != contract_hash(declare(**body))

    def test_changes_with_the_code_of_a_check(self):
        class Small(Contract):
            """One row a thing."""

            x: int = pa.Field(description="A number")

            @pa.check("x")
            def bounded(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
                return data.table[data.key] < 10

        small = Small

        class Small(Contract):
            """One row a thing."""

            x: int = pa.Field(description="A number")

            @pa.check("x")
            def bounded(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
                return data.table[data.key] < 11

        assert contract_hash(small) != contract_hash(Small)

    def test_changes_with_a_constant_that_a_check_reads(self):
        def bounded_by(limit: int) -> type[Contract]:
            class Small(Contract):
                """One row a thing."""

                x: int = pa.Field(description="A number")

                @pa.check("x", element_wise=True)
                def bounded(cls, value: int) -> bool:  # noqa: N805 - Pandera's convention
                    return value < limit

            return Small

        assert contract_hash(bounded_by(10)) == contract_hash(bounded_by(10))
        assert contract_hash(bounded_by(10)) != contract_hash(bounded_by(11))

    def test_is_the_same_in_every_process(self):
        code = (
            "import pandera.ibis as pa; from mlops_assets.quality import *\n"
            "class C(Contract):\n"
            "    'One row a thing.'\n"
            "    x: str = pa.Field(isin={'a', 'b', 'c', 'd'}, description='A text')\n"
            "    @pa.dataframe_check\n"
            "    def same(cls, data): return data.table.x.isin({'a', 'b'})\n"
            "print(contract_hash(C), columns(C)[0].constraints)"
        )
        told = {
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
            for seed in ("1", "2")
        }
        assert len(told) == 1


class TestCheckContract:
    def test_passes_a_sound_contract(self, contract):
        check_contract(contract)

    def test_finds_a_bad_pattern_without_data(self):
        bad = declare(
            __annotations__={"x": str}, x=pa.Field(str_matches="a(?=b)", description="A text")
        )
        with pytest.raises(ContractError, match="x__str_matches"):
            check_contract(bad)


def test_the_package_is_light_until_it_is_used():
    code = (
        "import sys, mlops_assets.quality as q; q.AuditPolicy; q.AuditReport; "
        "print(sorted({'pandera', 'ibis', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
