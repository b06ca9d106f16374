"""Columns of repeated texts say the same as lists of them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.serving.arrow_streams import texts
from mlops_assets.serving.inference_log.records import Prediction, decode, encode
from mlops_assets.serving.texts import RepeatedTexts, as_bytes, different, with_missing

VALUES = st.lists(st.one_of(st.none(), st.sampled_from(["JFK", "Zürich", "", "EWR"])), min_size=1)


def arrow(values: list[str | None], kind: str) -> pa.ChunkedArray:
    plain = pa.array(values, pa.string())
    half = len(values) // 2
    if kind == "dictionary with one that no row has":
        used = {value for value in values if value is not None}
        some = ["nobody", *sorted(used)]
        rows = [None if value is None else some.index(value) for value in values]
        return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(rows, pa.int8()), some)])
    if kind == "dictionary with a null in it":
        known = sorted({value for value in values if value is not None})
        names: list[str | None] = [None, *known]
        places = [names.index(value) for value in values]
        return pa.chunked_array(
            [pa.DictionaryArray.from_arrays(pa.array(places), pa.array(names, pa.string()))]
        )
    if kind == "large":
        return pa.chunked_array([plain.cast(pa.large_string())])
    return pa.chunked_array([plain[:half], plain[half:]])


@pytest.mark.parametrize(
    "kind",
    ["plain", "large", "dictionary with one that no row has", "dictionary with a null in it"],
)
@given(values=VALUES)
def test_a_column_of_arrow_is_the_list_it_was_made_of(kind: str, values: list[str | None]) -> None:
    found = texts(arrow(values, kind))
    assert list(found) == values
    assert set(values) <= set(different(found))
    filled = ["?" if value is None else value for value in values]
    assert list(with_missing(found, "?")) == filled
    assert as_bytes(with_missing(found, "?")).tolist() == [value.encode() for value in filled]
    assert list(found[1:]) == values[1:]


def test_the_log_holds_the_texts_of_every_row() -> None:
    column = RepeatedTexts(("JFK", None, "EWR"), np.array([2, 0, 1, 2]))
    record = Prediction(
        family="late",
        version=1,
        role="champion",
        request_id="r",
        answered_at=0,
        caller="me",
        source="request",
        seconds=0.1,
        as_of=None,
        entity={},
        rows=4,
        numbers=b"",
        categories=[column],  # type: ignore[list-item] # any sequence is written as a list is
        answers=b"",
        feature_versions={},
        warnings=[],
    )
    read = decode(encode(record))
    assert isinstance(read, Prediction)
    assert read.categories == [["EWR", "JFK", None, "EWR"]]
