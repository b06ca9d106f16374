"""What a caller may send, and what it is told where it sends something else."""

import contextlib
import json
import struct
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.serving.decoding import ARROW, JSON, LARGEST, Asked, Entities, InputDecoder
from mlops_assets.serving.inputs import MOST_ERRORS, Inputs
from mlops_assets.serving.security.problems import (
    InvalidRequestError,
    RequestError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from mlops_assets.training.dataset import FeatureSchema
from mlops_assets.training.input_contract import InputContract, InputField, Kind
from tests.serving.asking import arrow

MOST_ROWS = 1000
NUMBER = "a number within ±3.4e+38, or null"
WHOLE = "a whole number, or null"
BOOLEAN = "true or false, or null"
TEXT = "text of at most 1000 characters, or null"
PLAIN = "text of at most 1000 characters, a number, true, false or null"
MOMENT = "a time with its zone, such as 2013-07-01T12:00:00Z"


def field(name: str, kind: Kind) -> InputField:
    return InputField(name, kind, True, None, None, (), "", None)


CONTRACT = InputContract(
    (
        field("wind", Kind.number),
        field("carrier", Kind.category),
        field("seats", Kind.integer),
        field("is_new", Kind.boolean),
    )
)
SCHEMA = FeatureSchema(("wind", "carrier", "seats", "is_new"), categorical=("carrier",))
DECODER = InputDecoder(CONTRACT, SCHEMA)
ROW: dict[str, Any] = {"wind": 1.5, "carrier": "AA", "seats": 100, "is_new": True}
TABLE = pa.table({name: [value] for name, value in ROW.items()})


def decode(body: object, content_type: str = JSON) -> Asked:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DECODER.decode(content_type, sent, MOST_ROWS)


def decode_arrow(table: pa.Table, **options: Any) -> Inputs:
    found = decode(arrow(table, **options), ARROW).what
    assert isinstance(found, Inputs)
    return found


def refusal(body: object, content_type: str = JSON) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as refused:
        decode(body, content_type)
    return refused.value


def said(body: object, content_type: str = JSON) -> list[tuple[str, str, str]]:
    return [(e.field, e.kind, e.expected) for e in refusal(body, content_type).errors]


def changed(**values: Any) -> dict[str, Any]:
    return {"rows": [{**ROW, **values}]}


def with_column(name: str, values: pa.Array) -> pa.Table:
    return TABLE.set_column(TABLE.column_names.index(name), name, values)


def assert_same(found: Inputs, expected: Inputs) -> None:
    assert found.numbers.dtype == np.float32
    np.testing.assert_array_equal(found.numbers, expected.numbers)
    assert [list(values) for values in found.categories] == [list(v) for v in expected.categories]


# What is read ------------------------------------------------------------------------------------

TWO = Inputs(np.array([[1.5, 100, 1], [np.nan, np.nan, np.nan]], np.float32), (("AA", None),))
NULLS = dict.fromkeys(ROW)


def test_rows_columns_and_arrow_are_the_same_to_the_model() -> None:
    rows = [ROW, NULLS]
    columns = {name: [ROW[name], None] for name in ROW}
    by_rows, by_columns = decode({"rows": rows}), decode({"columns": columns})
    by_arrow = decode(arrow(pa.table(columns)), ARROW)
    assert [found.form for found in (by_rows, by_columns, by_arrow)] == ["rows", "columns", "arrow"]
    for found in (by_rows, by_columns, by_arrow):
        assert len(found) == 2
        assert isinstance(found.what, Inputs)
        assert_same(found.what, TWO)


def test_the_order_of_names_does_not_matter() -> None:
    found = decode({"rows": [dict(reversed(ROW.items()))]}).what
    assert isinstance(found, Inputs)
    assert_same(found, TWO.take(0, 1))
    assert_same(decode_arrow(TABLE.select(list(reversed(TABLE.column_names)))), TWO.take(0, 1))


@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "Application/JSON"]
)
def test_a_content_type_may_have_parameters_and_any_case(content_type: str) -> None:
    assert len(decode({"rows": [ROW]}, content_type)) == 1


def test_a_whole_number_may_be_written_as_a_fraction_and_the_other_way_round() -> None:
    found = decode(changed(seats=100.0, wind=2)).what
    assert isinstance(found, Inputs)
    np.testing.assert_array_equal(found.numbers, [[2, 100, 1]])


def test_numbers_are_rounded_to_single_precision_as_in_training() -> None:
    found = decode(changed(wind=0.1, seats=2**24 + 1)).what
    assert isinstance(found, Inputs)
    np.testing.assert_array_equal(found.numbers, np.array([[0.1, 2**24 + 1, 1]], np.float32))


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64()),
        *(pa.decimal128(21, 2), pa.null()),
    ],
)
def test_arrow_numbers_of_any_width_are_read(kind: pa.DataType) -> None:
    value = None if kind == pa.null() else 3
    found = decode_arrow(with_column("wind", pa.array([value]).cast(kind)))
    np.testing.assert_array_equal(found.numbers[0, 0], np.float32(np.nan if value is None else 3))


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_arrow_text_of_any_kind_is_read(kind: pa.DataType) -> None:
    table = pa.table(
        {
            "wind": [1.0] * 3,
            "carrier": pa.array(["AA", None, "a longer text than fits a view"]).cast(kind),
            "seats": [1] * 3,
            "is_new": [True] * 3,
        }
    )
    found = decode_arrow(table)
    assert [*map(list, found.categories)] == [["AA", None, "a longer text than fits a view"]]
    assert_same(decode_arrow(table.slice(1)), found.take(1, 3))


def test_a_stream_of_several_batches_is_one_request() -> None:
    table = pa.concat_tables([TABLE] * 5)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert len(decode(bytes(sink.getvalue()), ARROW)) == 5


def test_entities_may_have_keys_of_any_plain_kind_and_a_moment() -> None:
    key = {"flight_id": 2**63 - 1, "tail": "N1", "share": 0.5, "is_new": False, "gone": None}
    found = decode({"entities": [key], "as_of": "2013-07-01T12:00:00+02:00"})
    assert isinstance(found.what, Entities)
    assert found.form == "entities"
    assert found.what.keys == [key]
    assert found.what.as_of is not None
    assert found.what.as_of.isoformat() == "2013-07-01T12:00:00+02:00"


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "kind", "expected"),
    [
        ("wind", "12", "text", NUMBER),
        ("wind", True, "boolean", NUMBER),
        ("wind", [1], "list", NUMBER),
        ("wind", {"a": 1}, "object", NUMBER),
        ("wind", 1e300, "huge number", NUMBER),
        ("wind", -1e300, "huge number", NUMBER),
        ("wind", 10**300, "huge number", NUMBER),
        ("wind", "x" * 1001, "long text", NUMBER),
        ("seats", "12", "text", WHOLE),
        ("seats", 10**60, "huge number", WHOLE),
        ("is_new", 1, "number", BOOLEAN),
        ("is_new", "true", "text", BOOLEAN),
        ("carrier", 5, "number", TEXT),
        ("carrier", False, "boolean", TEXT),
        ("carrier", "x" * 1001, "long text", TEXT),
    ],
)
def test_a_value_of_another_kind_is_refused(
    name: str, value: Any, kind: str, expected: str
) -> None:
    assert said(changed(**{name: value})) == [(f"rows[0].{name}", kind, expected)]
    columns = {each: [ROW[each], ROW[each]] for each in ROW} | {name: [ROW[name], value]}
    assert said({"columns": columns}) == [(f"columns.{name}[1]", kind, expected)]


def test_what_is_missing_and_what_is_unknown_is_named() -> None:
    sent = {name: value for name, value in ROW.items() if name != "seats"} | {"seat": 3}
    expected = [
        ("seats", "missing", WHOLE),
        ("seat", "unknown", "a feature of the model"),
    ]
    assert said({"rows": [ROW, sent]}) == [(f"rows[1].{n}", *rest) for n, *rest in expected]
    columns = {name: [value] for name, value in sent.items()}
    assert said({"columns": columns}) == [(f"columns.{n}", *rest) for n, *rest in expected]
    assert said(arrow(pa.table(columns)), ARROW) == [
        (f"columns.{n}", *rest) for n, *rest in expected
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (5, [("body", "number", "an object with one of rows, columns, entities")]),
        ([ROW], [("body", "list", "an object with one of rows, columns, entities")]),
        (None, [("body", "null", "an object with one of rows, columns, entities")]),
        ({"row": [ROW]}, [("row", "unknown", "one of rows, columns, entities, as_of")]),
        ({"rows": ROW}, [("rows", "object", "a list of objects")]),
        ({"rows": None}, [("rows", "null", "a list of objects")]),
        ({"rows": [5]}, [("rows[0]", "number", "an object")]),
        ({"rows": [ROW, None]}, [("rows[1]", "null", "an object")]),
        ({"columns": [ROW]}, [("columns", "list", "an object with one list a feature")]),
        (
            {"columns": {name: [value] for name, value in ROW.items()} | {"wind": 5}},
            [("columns.wind", "number", "a list")],
        ),
        ({"entities": {}}, [("entities", "object", "a list of objects")]),
        ({"entities": [5]}, [("entities[0]", "number", "an object")]),
        ({"entities": [{"id": [5]}]}, [("entities[0].id", "list", PLAIN)]),
        ({"entities": [{"id": 2**63}]}, [("entities[0].id", "number", PLAIN)]),
        ({"entities": [{"id": 1e300}]}, [("entities[0].id", "huge number", PLAIN)]),
        ({"entities": [{"id": "x" * 1001}]}, [("entities[0].id", "long text", PLAIN)]),
        ({"entities": [{"id": 1}], "as_of": 5}, [("as_of", "number", MOMENT)]),
        ({"entities": [{"id": 1}], "as_of": "yesterday"}, [("as_of", "text", MOMENT)]),
        ({"entities": [{"id": 1}], "as_of": "2013-07-01T12:00:00"}, [("as_of", "text", MOMENT)]),
    ],
)  # fmt: skip
def test_a_request_of_another_form_is_refused(body: Any, expected: list[Any]) -> None:
    assert said(body) == expected


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "none of them"),
        ({"rows": [ROW], "columns": {}}, None),
        ({"rows": [ROW], "entities": [{"id": 1}]}, "this request has rows and entities"),
        ({"rows": []}, "`rows` holds no row"),
        ({"columns": {name: [] for name in ROW}}, "`columns` holds no row"),
        ({"entities": []}, "`entities` holds no key"),
        ({"rows": [ROW], "as_of": "2013-07-01T12:00:00Z"}, "`as_of` belongs to `entities`"),
    ],
)
def test_one_form_with_something_in_it_is_needed(body: Any, detail: str | None) -> None:
    assert detail is None or detail in str(refusal(body))


def test_columns_must_be_equally_long() -> None:
    columns = {name: [value] * 2 for name, value in ROW.items()} | {"seats": [1], "is_new": []}
    assert said({"columns": columns}) == [
        ("columns.seats", "1 values", "2 values, as wind has"),
        ("columns.is_new", "0 values", "2 values, as wind has"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"rows": [{"wind": NaN}]}',
        b'{"rows": [{"wind": Infinity}]}',
        b'{"rows": [{"wind": -Infinity}]}',
        b'{"rows": [{"wind": 1e999}]}',
        b'{"rows": [{"wind": 0x10}]}',
        b'{"rows": [{"wind": ' + b"9" * 5000 + b"}]}",
        b'{"rows": [{"carrier": "\xff\xfe"}]}',
        b'{"rows": [{"\xff": 1}]}',
        b'{"rows": [{"carrier": "\\ud800"}]}',
        b'{"rows": [{"carrier": "\\ud800 and more text"}]}',
        b'{"rows": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"entities": [{"id": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}]}",
        b"[" * 100_000,
        b'\xef\xbb\xbf{"rows": []}',
        b"\x00",
        '{"rows": []}'.encode("utf-16"),
        zlib.compress(b'{"rows": []}'),
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert "JSON" in str(refusal(body)) or refusal(body).errors


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/xml", "multipart/form-data"]
)
def test_other_media_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=f"send {JSON} or {ARROW}"):
        decode({"rows": [ROW]}, content_type)


def test_more_rows_than_one_request_may_have_are_refused() -> None:
    many = MOST_ROWS + 1
    with pytest.raises(TooLargeError, match="1001 rows"):
        decode({"rows": [ROW] * many})
    with pytest.raises(TooLargeError, match="1001 rows"):
        decode({"entities": [{"id": 1}] * many})
    with pytest.raises(TooLargeError, match="more than 1000 rows"):
        decode(arrow(pa.concat_tables([TABLE] * many)), ARROW)
    assert len(decode({"rows": [ROW] * MOST_ROWS})) == MOST_ROWS


def test_of_many_mistakes_the_first_are_listed() -> None:
    refused = refusal({"rows": [{**ROW, "wind": "x"}] * 500})
    assert len(refused.errors) == MOST_ERRORS
    assert refused.errors[-1].field == f"rows[{MOST_ERRORS - 1}].wind"
    assert "more than the 20" in refused.detail


def test_nothing_of_what_was_sent_is_said_again() -> None:
    secret = "hunter2"  # noqa: S105 - what must not be repeated
    sent = [
        (JSON, json.dumps(changed(wind=secret)).encode()),
        (JSON, json.dumps(changed(is_new=[secret])).encode()),
        (JSON, json.dumps({"entities": [{"id": 1}], "as_of": secret}).encode()),
        (JSON, f'{{"rows": {secret}}}'.encode()),
        (ARROW, arrow(with_column("wind", pa.array([secret])))),
        (ARROW, secret.encode() * 100),
        (f"text/{secret}", b""),
    ]
    for content_type, body in sent:
        with pytest.raises(RequestError) as refused:
            decode(body, content_type)
        assert secret.encode() not in refused.value.body()


# Arrow -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "kind", "expected"),
    [
        ("wind", pa.array(["a"]), "column of string", "numbers"),
        ("wind", pa.array([True]), "column of bool", "numbers"),
        ("wind", pa.array([[1.0]]), "column of list<item: double>", "numbers"),
        ("seats", pa.array([0], pa.timestamp("us")), "column of timestamp[us]", "whole numbers"),
        ("is_new", pa.array([1]), "column of int64", "booleans"),
        ("carrier", pa.array([1]), "column of int64", "text"),
        ("carrier", pa.array([b"AA"]), "column of binary", "text"),
        ("carrier", pa.array([1]).dictionary_encode(),
         "column of dictionary<values=int64, indices=int32, ordered=0>", "text"),
    ],
)  # fmt: skip
def test_an_arrow_column_of_another_type_is_refused(
    name: str, values: pa.Array, kind: str, expected: str
) -> None:
    body = arrow(with_column(name, values))
    assert said(body, ARROW) == [(f"columns.{name}", kind, expected)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_arrow_numbers_must_be_finite_in_single_precision(value: float) -> None:
    body = arrow(with_column("wind", pa.array([value], pa.float64())))
    assert said(body, ARROW) == [
        ("columns.wind", "no finite number", f"numbers within ±{LARGEST:.3g}, or null")
    ]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_arrow_text_must_be_short_enough(kind: pa.DataType) -> None:
    body = arrow(with_column("carrier", pa.array(["é" * 1001]).cast(kind)))
    assert said(body, ARROW) == [
        ("columns.carrier", "long text", "text of at most 1000 characters")
    ]


def test_an_arrow_column_may_be_there_only_once() -> None:
    twice = pa.Table.from_arrays(
        [*TABLE.columns, TABLE["wind"]], names=[*TABLE.column_names, "wind"]
    )
    assert said(arrow(twice), ARROW) == [("columns.wind", "2 columns", "one column")]


def test_an_arrow_stream_without_rows_is_refused() -> None:
    assert "no row" in str(refusal(arrow(TABLE.slice(0, 0)), ARROW))


def test_an_arrow_stream_with_invalid_text_is_refused() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")]
    )
    assert "no Arrow stream" in str(refusal(arrow(with_column("carrier", broken)), ARROW))


def test_an_arrow_stream_that_would_grow_is_refused() -> None:
    """A few hundred bytes can stand for gigabytes: compressed, or in a type that takes none."""
    zeros = pa.table({name: pa.array([0.0] * MOST_ROWS) for name in ROW})
    for codec in ("zstd", "lz4"):
        assert "compressed" in str(refusal(arrow(zeros, compression=codec), ARROW))
    coded = with_column("carrier", pa.array(["A" * 900]).dictionary_encode())
    assert "compressed" in str(refusal(arrow(coded, compression="zstd"), ARROW))
    nothing = pa.table({name: pa.nulls(10**8) for name in ROW})
    with pytest.raises(TooLargeError):
        decode(arrow(nothing), ARROW)


def test_a_damaged_arrow_stream_is_refused_wherever_it_is_damaged() -> None:
    """Every byte changed, and the stream cut at every place: it is refused, or still a request."""
    whole = arrow(with_column("carrier", pa.array(["AA"]).dictionary_encode()))
    for place in range(len(whole)):
        for damaged in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :],
        ):
            with contextlib.suppress(InvalidRequestError, TooLargeError):
                decode(damaged, ARROW)


# Whatever comes ----------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ROW, "rows", "columns", "entities", "as_of", "x"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    form=st.sampled_from(["rows", "columns", "entities", "as_of", "other"]),
    part=_JSON | st.lists(st.fixed_dictionaries(dict.fromkeys(ROW, _JSON)), max_size=2),
)
def test_json_of_any_form_is_read_or_refused(form: str, part: Any) -> None:
    with contextlib.suppress(InvalidRequestError):
        decode({form: part})
