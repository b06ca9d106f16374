"""Our one scan says what `schema.validate(lazy=True)` says, for every kind of check Pandera has."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import pandera.ibis as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.quality import Contract, TimestampUTC, audit, columns


def contract_of(annotation: Any, name: str = "value", **field: Any) -> type[Contract]:
    return type(
        "Tried",
        (Contract,),
        {
            "__doc__": "One column.",
            "__annotations__": {name: annotation},
            name: pa.Field(nullable=True, description="A value", **field),
        },
    )


def pandera_failures(con: Any, contract: type[Contract], relation: str) -> int:
    """Rows that Pandera itself reports, with a query of its own for each check."""
    table = ibis.duckdb.from_connection(con).table(relation)
    try:
        contract.to_schema().validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return sum(_rows(error.failure_cases) for error in errors.schema_errors)
    return 0


def _rows(failure_cases: Any) -> int:
    """A verdict on the whole column has no rows to show."""
    return 1 if isinstance(failure_cases, ibis.Expr) else len(failure_cases)


def our_failures(con: Any, contract: type[Contract], relation: str) -> int:
    return sum(check.failures for check in audit(con, relation, contract).checks)


NUMBERS = "(1), (2), (3), (NULL), (-4), (100)"
TEXTS = "('abc'), ('abd'), (''), (NULL), ('xabc'), ('ABC'), ('a''c'), ('é')"
DAYS = "('2013-01-01'), ('2013-06-01'), (NULL), ('2014-01-01')"
TIMES = "('2013-01-01 05:59:59+00'), ('2013-06-01 00:00:00+00'), (NULL), ('2013-02-01 00:00+00')"
NEW_YORK = ZoneInfo("America/New_York")

CASES: list[tuple[str, Any, dict[str, Any], int]] = [
    (NUMBERS, int, {"eq": 2}, 4),
    (NUMBERS, int, {"ne": 2}, 1),
    (NUMBERS, int, {"gt": 2}, 3),
    (NUMBERS, int, {"ge": 2}, 2),
    (NUMBERS, int, {"lt": 2}, 3),
    (NUMBERS, int, {"le": 2}, 2),
    (NUMBERS, float, {"ge": 1.5, "le": 50}, 3),
    (NUMBERS, int, {"in_range": (1, 3)}, 2),
    (NUMBERS, int, {"in_range": (1, 3, False, False)}, 4),
    (NUMBERS, int, {"in_range": (1, 3, True, False)}, 3),
    (NUMBERS, int, {"in_range": {"min_value": -10, "max_value": 1000}}, 0),
    (NUMBERS, int, {"isin": [1, 2, 3]}, 2),
    (NUMBERS, int, {"notin": [1, 2, 3]}, 3),
    (NUMBERS, int, {"isin": [1, 2, 3, -4, 100]}, 0),
    (TEXTS, str, {"eq": "abc"}, 6),
    (TEXTS, str, {"isin": ["abc", "a'c"]}, 5),
    (TEXTS, str, {"notin": ["abc", "a'c"]}, 2),
    (TEXTS, str, {"str_matches": "ab"}, 5),
    (TEXTS, str, {"str_matches": "^[a-z]+$"}, 4),
    (TEXTS, str, {"str_contains": "b[cd]"}, 4),
    (TEXTS, str, {"str_startswith": "ab"}, 5),
    (TEXTS, str, {"str_endswith": "c"}, 4),
    (TEXTS, str, {"str_length": (1, 3)}, 2),
    (TEXTS, str, {"str_length": {"min_value": 1}}, 1),
    (TEXTS, str, {"str_length": {"max_value": 3}}, 1),
    (TEXTS, str, {"str_length": {"exact_value": 3}}, 3),
    (DAYS, dt.date, {"ge": dt.date(2013, 2, 1)}, 1),
    (TIMES, TimestampUTC, {"ge": dt.datetime(2013, 2, 1, tzinfo=dt.UTC)}, 1),
    (TIMES, TimestampUTC, {"lt": dt.datetime(2013, 1, 1, 1, tzinfo=NEW_YORK)}, 2),
    (DAYS, dt.date, {"in_range": (dt.date(2013, 1, 1), dt.date(2013, 12, 31))}, 1),
]


@pytest.mark.parametrize(
    ("values", "annotation", "field", "expected"),
    CASES,
    ids=[str(field) for _, _, field, _ in CASES],
)
def test_builtin_checks(con, values, annotation, field, expected):
    contract = contract_of(annotation, **field)
    con.execute(f"CREATE TABLE tried (value {columns(contract)[0].duckdb_type})")
    con.execute(f"INSERT INTO tried VALUES {values}")
    assert our_failures(con, contract, "tried") == expected
    assert pandera_failures(con, contract, "tried") == expected


@pytest.mark.parametrize("values", [[1, 2], [1, 2, 3], [1]])
def test_unique_values(con, values):
    contract = contract_of(int, unique_values_eq=values)
    con.execute("CREATE TABLE tried AS SELECT unnest([1, 2, NULL, 1])::BIGINT AS value")
    assert bool(our_failures(con, contract, "tried")) == (values != [1, 2])
    assert bool(pandera_failures(con, contract, "tried")) == (values != [1, 2])


class Custom(Contract):
    """Columns with checks written by hand."""

    a: int = pa.Field(description="A number", nullable=True)
    b: int = pa.Field(description="Another", nullable=True)

    @pa.check("a")
    def column_expression(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
        return data.table[data.key] % 2 == 0

    @pa.check("a")
    def table_of_booleans(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
        return data.table.select(small=data.table[data.key] < 5)

    @pa.check("a", "b", element_wise=True)
    def element_wise(cls, value: int) -> bool:  # noqa: N805 - Pandera's convention
        return value != 3

    @pa.dataframe_check
    def compares_columns(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
        return data.table.a <= data.table.b

    @pa.dataframe_check
    def dictionary(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
        return {"a": data.table.a > 0, "b": data.table.b < 8}

    @pa.dataframe_check
    def scalar(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
        return data.table.b.max() > 0


def test_custom_checks(con):
    con.execute("CREATE TABLE tried (a BIGINT, b BIGINT)")
    con.execute("INSERT INTO tried VALUES (2, 3), (3, 2), (8, 9), (NULL, 1), (0, NULL), (4, -20)")
    found = {c.name: c.failures for c in audit(con, "tried", Custom).checks if c.failures}
    assert found == {
        "a__column_expression": 1,
        "a__table_of_booleans": 1,
        "a__element_wise": 1,
        "b__element_wise": 1,
        "compares_columns": 2,
        "dictionary": 2,
    }
    assert sum(found.values()) == pandera_failures(con, Custom, "tried")


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    values=st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=8),
    low=st.integers(-5, 5),
    high=st.integers(-5, 5),
    listed=st.lists(st.integers(-5, 5), min_size=1, max_size=3),
)
def test_any_data_and_any_bounds(con, values, low, high, listed):
    contract = contract_of(int, ge=low, le=high, notin=listed)
    con.execute("CREATE OR REPLACE TABLE tried (value BIGINT)")
    con.executemany("INSERT INTO tried VALUES (?)", [[value] for value in values])
    assert our_failures(con, contract, "tried") == pandera_failures(con, contract, "tried")


def test_duplicates(con):
    class Keyed(Contract):
        """Rows with a key."""

        a: int = pa.Field(description="First part")
        b: int = pa.Field(description="Second part")

        class Config:
            unique = ("a", "b")

    con.execute(
        "CREATE TABLE tried AS SELECT i::BIGINT % 3 AS a, i::BIGINT % 4 AS b FROM range(14) r(i)"
    )
    table = ibis.duckdb.from_connection(con).table("tried")
    with pytest.raises(pa.errors.SchemaErrors) as caught:
        Keyed.to_schema().validate(table, lazy=True)
    (error,) = caught.value.schema_errors
    report = audit(con, "tried", Keyed)
    assert report.check("key").failures == error.failure_cases.count().to_pyarrow().as_py() == 4
