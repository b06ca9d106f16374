"""A cast never changes a value: it gives the same value in another type, or nothing."""

import duckdb
import pytest

from mlops_assets.ingestion.casts import lossless_cast

INSTANT = "TIMESTAMP WITH TIME ZONE"
KEPT = [
    ("INTEGER", "5", "5"),
    ("INTEGER", " -5 ", "-5"),
    ("INTEGER", "1.0", "1"),
    ("BIGINT", "9223372036854775807", "9223372036854775807"),
    ("DOUBLE", "1.5", "1.5"),
    ("DOUBLE", "1e3", "1000.0"),
    ("DOUBLE", "nan", "nan"),
    ("DOUBLE", "inf", "inf"),
    ("DECIMAL(5,2)", "1.20", "1.20"),
    ("DECIMAL(5,2)", "1.2000", "1.20"),
    ("BOOLEAN", "TRUE", "true"),
    ("DATE", "2013-01-05", "2013-01-05"),
    ("DATE", "2013-01-05 00:00:00", "2013-01-05"),
    (INSTANT, "2013-01-01T10:00:00Z", "2013-01-01 10:00:00+00"),
    (INSTANT, "2013-01-01T10:00:00+05:30", "2013-01-01 04:30:00+00"),
    (INSTANT, "2013-01-01 10:00:00 America/New_York", "2013-01-01 15:00:00+00"),
    (INSTANT, "2013-01-01 10:00:00.250", "2013-01-01 10:00:00.25+00"),
    ("TIMESTAMP", "2013-01-01 10:00", "2013-01-01 10:00:00"),
    ("VARCHAR", " as is ", " as is "),
]
REFUSED = [
    ("INTEGER", "1.5"),  # DuckDB's own cast rounds it to 2
    ("INTEGER", "1_000"),
    ("INTEGER", "0x1F"),
    ("INTEGER", "1e3"),
    ("INTEGER", "99999999999"),
    ("INTEGER", ""),
    ("INTEGER", "twelve"),
    ("DOUBLE", "1,5"),
    ("DOUBLE", "1_0.5"),
    ("DECIMAL(5,2)", "1.239"),
    ("DECIMAL(5,2)", "12345"),
    ("BOOLEAN", "2"),
    ("DATE", "2013-01-05 10:30:00"),
    ("DATE", "2013-02-30"),
    ("DATE", "05/01/2013"),
    ("DATE", "infinity"),
    ("TIMESTAMP", "2013-01-01T10:00:00+05:00"),
    (INSTANT, "2013-01-01T10:00:00.123456789Z"),
    (INSTANT, "yesterday"),
]


def cast(con: duckdb.DuckDBPyConnection, value: str, source: str, target: str) -> str | None:
    expression = lossless_cast("value", source, target)
    (found,) = con.execute(
        f"SELECT ({expression})::VARCHAR FROM (SELECT {value} AS value)"
    ).fetchall()
    return found[0]


@pytest.mark.parametrize(("target", "text", "expected"), KEPT)
def test_text_that_is_written_as_the_type_is_keeps_its_value(
    con: duckdb.DuckDBPyConnection, target: str, text: str, expected: str
) -> None:
    assert cast(con, f"'{text}'", "VARCHAR", target) == expected


@pytest.mark.parametrize(("target", "text"), REFUSED)
def test_text_that_would_change_is_refused(
    con: duckdb.DuckDBPyConnection, target: str, text: str
) -> None:
    assert cast(con, f"'{text}'", "VARCHAR", target) is None


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        ("1.0::DOUBLE", "DOUBLE", "INTEGER", "1"),
        ("1.5::DOUBLE", "DOUBLE", "INTEGER", None),
        ("'nan'::DOUBLE", "DOUBLE", "INTEGER", None),
        ("'nan'::DOUBLE", "DOUBLE", "FLOAT", "nan"),
        ("0.1::DOUBLE", "DOUBLE", "FLOAT", "0.1"),
        ("300::INTEGER", "INTEGER", "TINYINT", None),
        ("9007199254740993::BIGINT", "BIGINT", "DOUBLE", None),
        ("5::BIGINT", "BIGINT", "DOUBLE", "5.0"),
        ("TIMESTAMP '2013-01-01 10:00'", "TIMESTAMP", "DATE", None),
        ("TIMESTAMP '2013-01-01'", "TIMESTAMP", "DATE", "2013-01-01"),
        ("TIMESTAMP '2013-01-01 10:00'", "TIMESTAMP", INSTANT, "2013-01-01 10:00:00+00"),
        ("1.239::DECIMAL(6,3)", "DECIMAL(6,3)", "DECIMAL(5,2)", None),
        ("5::BIGINT", "BIGINT", "VARCHAR", "5"),
        ("[1]", "INTEGER[]", "INTEGER", None),
        ("NULL::DOUBLE", "DOUBLE", "INTEGER", None),
    ],
)
def test_a_typed_value_must_survive_the_way_there_and_back(
    con: duckdb.DuckDBPyConnection, value: str, source: str, target: str, expected: str | None
) -> None:
    assert cast(con, value, source, target) == expected
