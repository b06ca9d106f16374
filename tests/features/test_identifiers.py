import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.features import PointInTimeJoinError
from mlops_assets.features.identifiers import literal, quote, relation

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(TEXT.filter(bool))
def test_any_name_survives_quoting(name):
    assert duckdb.sql(f"SELECT 1 AS {quote(name)}").columns == [name]


@given(TEXT)
def test_any_text_survives_quoting(text):
    assert duckdb.sql(f"SELECT {literal(text)}").fetchall() == [(text,)]


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("spine", '"spine"'),
        ("marts.spine", '"marts"."spine"'),
        ("memory.marts.spine", '"memory"."marts"."spine"'),
        ('marts."a.b"', '"marts"."a.b"'),
        ('"a""b"', '"a""b"'),
        ("spine; DROP TABLE flights", '"spine; DROP TABLE flights"'),
    ],
)
def test_each_part_of_a_relation_is_quoted(text, sql):
    assert relation(text) == sql


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a.b.c.d", 'a"b', '"a"b', '"a'])
def test_what_is_no_name_of_a_relation_is_refused(text):
    with pytest.raises(PointInTimeJoinError, match="is not the name of a table or view"):
        relation(text)
