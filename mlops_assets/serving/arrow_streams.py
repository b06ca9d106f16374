"""Arrow streams from callers, read so that a small body cannot become a large table.

What a stream says of its own size is looked at before anything is made of it: buffers that unpack
to more than was sent, rows that take no bytes, and values that many rows point to.
"""

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.serving.inputs import invalid
from mlops_assets.serving.security.problems import TooLargeError
from mlops_assets.serving.texts import RepeatedTexts

# Places in the tables of Arrow's Message.fbs.
_HEADER = 2
_ROWS, _COMPRESSION = 0, 3
_DATA_OF_DICTIONARY = 1
_BATCH, _DICTIONARY = "record batch", "dictionary"

_IN_THIS_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
"""A server has a worker for every core already; to wake others costs more than they take over."""


def read_stream(body: bytes, most_rows: int) -> pa.Table:
    """Read a stream.

    Parameters
    ----------
    body
        All of it.
    most_rows
        More are refused.

    Raises
    ------
    InvalidRequestError
        When it is no whole and valid stream, or a compressed one.
    TooLargeError
        When it has more rows.
    """
    try:
        _require_small(body, most_rows)
        table = pa.ipc.open_stream(body, options=_IN_THIS_THREAD).read_all()
        table.validate(full=True)
        if "" in table.column_names:  # which also decodes them
            raise invalid("a column has no name")
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise invalid(f"the body is no Arrow stream: {error}") from None
    return table


def longest_text(column: pa.ChunkedArray, enough: int) -> int | None:
    """Return the length of a column's longest text, in characters; None when it holds no text.

    A length in bytes, which is no less, stands for it where Arrow cannot count characters, and
    where it is at most ``enough``: it is at hand.
    """
    if not _holds(column):
        return None
    return max((_longest(chunk, enough) for chunk in column.chunks), default=0)


def texts(column: pa.ChunkedArray) -> Sequence[str | None]:
    """Return a column of texts, each different text made once."""
    values = column.combine_chunks()
    if values.type in {pa.string(), pa.large_string()}:
        values = values.dictionary_encode()
    if not pa.types.is_dictionary(values.type) or len(values.dictionary) > len(values):
        plain: list[str | None] = values.to_pylist()
        return plain
    places, of_null = values.indices, len(values.dictionary)
    if places.null_count:
        places = places.cast(pa.int64()).fill_null(of_null)
    different = (*values.dictionary.to_pylist(), *([None] if places is not values.indices else []))
    return RepeatedTexts(different, places.to_numpy())


def _holds(column: pa.ChunkedArray) -> bool:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return kind in {pa.string(), pa.large_string(), pa.string_view(), pa.null()}


def _longest(values: pa.Array, enough: int) -> int:
    if pa.types.is_dictionary(values.type):
        return _longest(values.dictionary, enough)
    if pa.types.is_null(values.type) or not len(values):
        return 0
    if values.type == pa.string_view():
        # A view is sixteen bytes, of which the first four are its length.
        views = np.frombuffer(values.buffers()[1], np.int32)[::4]
        lengths = views[values.offset : values.offset + len(values)]
        return int(np.where(values.is_valid(), lengths, 0).max())
    kind = np.int64 if values.type == pa.large_string() else np.int32
    places = np.frombuffer(values.buffers()[1], kind)[values.offset :][: len(values) + 1]
    in_bytes = int(np.diff(places).max())
    return in_bytes if in_bytes <= enough else pc.max(pc.utf8_length(values)).as_py() or 0


def _require_small(body: bytes, most_rows: int) -> None:
    """Look at what each part of a stream says it holds."""
    rows = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type not in {_BATCH, _DICTIONARY}:
            continue
        content = message.metadata.to_pybytes()
        header = _table(content, _field(content, _number(content, "I", 0), _HEADER))
        if message.type == _DICTIONARY:
            header = _table(content, _field(content, header, _DATA_OF_DICTIONARY))
        if _field(content, header, _COMPRESSION) is not None:
            raise invalid("the stream is compressed; send it uncompressed")
        if message.type == _BATCH and (place := _field(content, header, _ROWS)) is not None:
            rows += _number(content, "q", place)
        if rows > most_rows:
            raise TooLargeError(
                f"more than {most_rows} rows in one request; send them in several requests"
            )


# Flatbuffers: a table begins with the way back to its vtable, which says where each field is.


def _number(content: bytes, kind: str, place: int) -> int:
    [number] = struct.unpack_from(f"<{kind}", content, place)
    return int(number)


def _table(content: bytes, place: int | None) -> int:
    if place is None:
        raise invalid("the body is no Arrow stream: a message has no content")
    return place + _number(content, "I", place)


def _field(content: bytes, table: int, field: int) -> int | None:
    vtable = table - _number(content, "i", table)
    slot = 4 + 2 * field
    if slot >= _number(content, "H", vtable):
        return None
    offset = _number(content, "H", vtable + slot)
    return table + offset if offset else None
