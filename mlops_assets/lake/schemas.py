"""Schemas: which Arrow types Delta stores and how, what DuckDB calls them, when two are the same.

Comments (Arrow field metadata ``comment``) describe columns and never make two schemas differ.
"""

from collections.abc import Sequence

import pyarrow as pa

from mlops_assets.lake.errors import SchemaMismatchError, UnsupportedTypeError

INSTANT = pa.timestamp("us", "UTC")
_COMMENT = b"comment"

_STORED_AS: dict[pa.DataType, pa.DataType] = {
    pa.uint8(): pa.int16(),  # Delta has no unsigned integers: take the next wider signed one
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
_DUCKDB: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.timestamp("us"): "TIMESTAMP",
    INSTANT: "TIMESTAMPTZ",
}


def storable(schema: pa.Schema) -> pa.Schema:
    """Return ``schema`` as the lake stores it: microseconds, UTC, signed integers, plain strings.

    Metadata other than column comments is dropped.

    Raises
    ------
    UnsupportedTypeError
        Naming each column whose type Delta Lake cannot store.
    """
    fields, refused = [], []
    for field in schema:
        stored = _stored_type(field.type)
        if stored is None:
            refused.append(f"{field.name}: {field.type}")
        else:
            fields.append(pa.field(field.name, stored, field.nullable, _comment_of(field)))
    if refused:
        raise UnsupportedTypeError(
            f"Delta Lake cannot store {'; '.join(refused)}. Cast these columns first, for example "
            "to VARCHAR, BIGINT, DOUBLE, DATE or TIMESTAMPTZ."
        )
    return pa.schema(fields)


def merged_comments(schema: pa.Schema, *sources: pa.Schema) -> pa.Schema:
    """Return ``schema`` with, for each column, the comment of the first source that has one."""
    fields = []
    for field in schema:
        known = (source.field(field.name) for source in sources if field.name in source.names)
        comments = (comment for comment in map(_comment_of, known) if comment is not None)
        fields.append(field.with_metadata(next(comments, None)))
    return pa.schema(fields)


def aligned(stored: pa.Schema, given: pa.Schema, *, table: str) -> pa.Schema:
    """Return the stored columns in stored order, if ``given`` has exactly these.

    Raises
    ------
    SchemaMismatchError
        Naming each column that differs, as ``column (stored=..., given=...)``.
    """
    differences = _differences(stored, given)
    if differences:
        raise SchemaMismatchError(
            f"{table}: the columns given are not the columns stored: {'; '.join(differences)}. "
            "Make the batch fit, or ask for the change (allow_schema_change=True)."
        )
    return pa.schema(list(stored))


def widened(stored: pa.Schema, given: pa.Schema, *, table: str) -> pa.Schema:
    """Return the stored columns followed by the new ones of ``given``, which become nullable.

    Raises
    ------
    SchemaMismatchError
        When a stored column is missing from ``given`` or has another type there: the rows that
        stay would not fit.
    """
    added = [field for field in given if field.name not in stored.names]
    differences = _differences(pa.schema([*stored, *added]), given)
    if differences:
        raise SchemaMismatchError(
            f"{table}: writing part of a table can add columns, not remove or retype them: "
            f"{'; '.join(differences)}. Overwrite the whole table instead."
        )
    return pa.schema([*stored, *(field.with_nullable(True) for field in added)])


def duckdb_type(arrow_type: pa.DataType) -> str:
    """Return what DuckDB calls a type that `storable` gives.

    Raises
    ------
    UnsupportedTypeError
        When DuckDB has no such type.
    """
    if pa.types.is_decimal(arrow_type):
        return f"DECIMAL({arrow_type.precision}, {arrow_type.scale})"
    if pa.types.is_list(arrow_type):
        return f"{duckdb_type(arrow_type.value_type)}[]"
    if pa.types.is_map(arrow_type):
        return f"MAP({duckdb_type(arrow_type.key_type)}, {duckdb_type(arrow_type.item_type)})"
    if pa.types.is_struct(arrow_type):
        members = (f"{quoted(member.name)} {duckdb_type(member.type)}" for member in arrow_type)
        return f"STRUCT({', '.join(members)})"
    try:
        return _DUCKDB[arrow_type]
    except KeyError:
        raise UnsupportedTypeError(f"DuckDB has no type for {arrow_type}.") from None


def quoted(identifier: str) -> str:
    """Return an identifier in double quotes, for DuckDB and delta-rs alike."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _stored_type(given: pa.DataType) -> pa.DataType | None:
    if pa.types.is_dictionary(given):
        return _stored_type(given.value_type)
    if pa.types.is_timestamp(given):
        return pa.timestamp("us") if given.tz is None else INSTANT
    if pa.types.is_decimal(given):
        small = given.precision <= 38 and 0 <= given.scale <= given.precision
        return pa.decimal128(given.precision, given.scale) if small else None
    if (
        pa.types.is_list(given)
        or pa.types.is_large_list(given)
        or pa.types.is_fixed_size_list(given)
        or pa.types.is_list_view(given)
        or pa.types.is_large_list_view(given)
    ):
        item = _stored_type(given.value_type)
        return None if item is None else pa.list_(pa.field("element", item))
    if pa.types.is_map(given):
        key, item = _stored_type(given.key_type), _stored_type(given.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if pa.types.is_struct(given):
        return _stored_struct(given)
    if pa.types.is_fixed_size_binary(given):
        return pa.binary()
    stored = _STORED_AS.get(given, given)
    return stored if stored in _DUCKDB else None


def _stored_struct(given: pa.StructType) -> pa.DataType | None:
    members = [(member.name, _stored_type(member.type)) for member in given]
    if not members or any(stored is None for _, stored in members):
        return None
    return pa.struct([pa.field(name, stored) for name, stored in members])


def _comment_of(field: pa.Field) -> dict[bytes, bytes] | None:
    comment = (field.metadata or {}).get(_COMMENT)
    return {_COMMENT: comment} if comment else None


def _differences(stored: pa.Schema, given: pa.Schema) -> Sequence[str]:
    repeated = sorted({name for name in given.names if given.names.count(name) > 1})
    found = [f"{name} (given more than once)" for name in repeated]
    for name in dict.fromkeys([*stored.names, *given.names]):
        if name in repeated:
            continue
        left = (
            storable(pa.schema([stored.field(name)])).field(0).type
            if name in stored.names
            else None
        )
        right = given.field(name).type if name in given.names else None
        if left != right:
            found.append(f"{name} (stored={left or 'absent'}, given={right or 'absent'})")
    return found
