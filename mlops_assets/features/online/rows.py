"""How keys and rows are written to a store and read back: MessagePack, without names.

A store keeps bytes under bytes. Names and kinds stand once, in the `Layout`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from mlops_assets.features.online.errors import OnlineStoreError
from mlops_assets.features.online.layout import Layout, ViewState, to_stored
from mlops_assets.lake import TableVersion

EVENT_TIME = "@event_time"
AVAILABLE_AT = "@available_at"
SUPERSEDED_AT = "@superseded_at"
TIMES = (EVENT_TIME, AVAILABLE_AT, SUPERSEDED_AT)
"""Columns of a batch between those of the key and the stored columns; each whole microseconds."""


class StoredRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The latest known row of one entity.

    It is the answer for every moment from ``available_at`` until just before ``superseded_at``.

    Attributes
    ----------
    event_time
        Time the row describes, in microseconds; None if nothing is known yet, or in a spine.
    available_at
        When it became known, in microseconds; None likewise.
    superseded_at
        When the next row of the entity becomes known, as far as the table tells; None: never.
    values
        By the layout's columns.
    """

    event_time: int | None
    available_at: int | None
    superseded_at: int | None
    values: list[Any]


class Found(NamedTuple):
    """What a store holds of one view.

    Attributes
    ----------
    state
        None if the view is not filled.
    rows
        One for each key asked for; None where the key is not there.
    """

    state: ViewState | None
    rows: Sequence[StoredRow | None]


_encode = msgspec.msgpack.Encoder().encode
decode_row = msgspec.msgpack.Decoder(StoredRow).decode
encode_key: Callable[[Sequence[Any]], bytes] = _encode
"""Write a key: its values as they are stored, in the order of the layout's key."""
decode_key: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[Any]).decode


def encoded(layout: Layout, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key and the row of every row, both as they are stored.

    Parameters
    ----------
    layout
        Of the rows.
    batches
        With the columns of the key, `TIMES`, and the layout's columns, in this order.
    """
    keys = len(layout.key)
    first = keys + len(TIMES)
    for batch in batches:
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield _encode(row[:keys]), _encode((*row[keys:first], row[first:]))


def holders(layout: Layout, column: str, value: Any) -> Callable[[bytes, bytes], bool] | None:
    """Return a test of whether a stored key and row hold a value in a column.

    Parameters
    ----------
    layout
        Of the rows.
    column, value
        As for `OnlineStore.delete_entities`.

    Returns
    -------
    Callable or None
        None where the column is not stored.
    """
    for place, stored in enumerate(layout.key):
        if stored.name == column:
            of_key = to_stored(value, stored, 0)
            return lambda key, _row: bool(decode_key(key)[place] == of_key)
    position = layout.position(column)
    if position is None:
        return None
    of_row = to_stored(value, layout.columns[position], 0)
    return lambda _key, row: _value(row, position) == of_row


def _value(row: bytes, position: int) -> Any:
    """Return one value of a stored row; a row without values has none."""
    values = decode_row(row).values
    return values[position] if values else None


def twice(layout: Layout, source: TableVersion) -> OnlineStoreError:
    """Say that a key came twice."""
    return OnlineStoreError(
        f"{layout.name}: {source} has two rows with the same "
        f"{', '.join(column.name for column in layout.key)}, so that neither can be stored. Make "
        "the model give one, and test it for uniqueness"
    )
