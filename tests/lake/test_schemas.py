import duckdb
import pyarrow as pa
import pytest

from mlops_assets.lake import SchemaMismatchError, UnsupportedTypeError
from mlops_assets.lake.schemas import aligned, duckdb_type, merged_comments, storable, widened

STORED = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False, metadata={"comment": "key"}),
        pa.field("name", pa.string()),
    ]
)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (pa.uint32(), pa.int64()),
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.timestamp("ns", "America/New_York"), pa.timestamp("us", "UTC")),
        (pa.timestamp("s"), pa.timestamp("us")),
        (pa.large_list(pa.uint8()), pa.list_(pa.field("element", pa.int16()))),
        (pa.struct({"a": pa.large_string()}), pa.struct({"a": pa.string()})),
    ],
)
def test_types_are_stored_in_delta_s_own(given: pa.DataType, stored: pa.DataType) -> None:
    assert storable(pa.schema({"x": given})).field("x").type == stored


@pytest.mark.parametrize(
    "refused", [pa.uint64(), pa.time64("us"), pa.null(), pa.duration("us"), pa.decimal256(50, 2)]
)
def test_a_type_that_delta_has_not_is_refused_by_column(refused: pa.DataType) -> None:
    with pytest.raises(UnsupportedTypeError, match=r"odd: .*Cast"):
        storable(pa.schema({"fine": pa.int64(), "odd": refused}))


@pytest.mark.parametrize(
    "kind",
    [
        pa.bool_(),
        pa.int8(),
        pa.date32(),
        pa.binary(),
        pa.decimal128(10, 2),
        pa.timestamp("us"),
        pa.timestamp("us", "UTC"),
        pa.list_(pa.struct({'odd "name': pa.map_(pa.string(), pa.float32())})),
    ],
)
def test_duckdb_knows_every_stored_type_by_our_name(kind: pa.DataType) -> None:
    stored = storable(pa.schema({"x": kind}))
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        relation = con.sql(f"SELECT CAST(NULL AS {duckdb_type(stored.field(0).type)}) AS x")
        assert storable(relation.to_arrow_reader().schema) == stored


def test_order_and_comments_and_nullability_are_no_difference() -> None:
    given = pa.schema([pa.field("name", pa.string(), metadata={"comment": "n"}), ("id", "int64")])
    assert aligned(STORED, given, table="raw/x").equals(STORED, check_metadata=True)


def test_a_mismatch_names_every_column_that_differs() -> None:
    given = pa.schema({"id": pa.string(), "extra": pa.int64()})
    with pytest.raises(SchemaMismatchError) as caught:
        aligned(STORED, given, table="raw/x")
    text = str(caught.value)
    assert "raw/x" in text
    assert "id (stored=int64, given=string)" in text
    assert "name (stored=string, given=absent)" in text
    assert "extra (stored=absent, given=int64)" in text
    assert "allow_schema_change" in text


def test_a_column_given_twice_is_a_mismatch() -> None:
    given = pa.schema([("id", "int64"), ("name", "string"), ("name", "string")])
    with pytest.raises(SchemaMismatchError, match=r"name .given more than once"):
        aligned(STORED, given, table="raw/x")


def test_widening_adds_columns_but_drops_none() -> None:
    added = pa.field("extra", pa.int64(), nullable=False)
    wide = widened(STORED, pa.schema([*STORED, added]), table="raw/x")
    assert wide.names == ["id", "name", "extra"]
    assert wide.field("extra").nullable
    with pytest.raises(SchemaMismatchError, match=r"name .stored=string, given=absent"):
        widened(STORED, pa.schema([STORED.field("id"), added]), table="raw/x")


def test_the_first_source_with_a_comment_wins() -> None:
    new = pa.schema([pa.field("id", pa.int64(), metadata={"comment": "new"})])
    merged = merged_comments(STORED, new, STORED)
    assert merged.field("id").metadata == {b"comment": b"new"}
    assert merged_comments(STORED, STORED).equals(STORED, check_metadata=True)
