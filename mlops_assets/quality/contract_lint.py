"""What a contract may not say, because it would be ignored or could not be published.

What belongs here: one sentence for each such thing, found when the class is declared. Pandera's
ibis backend accepts all of these and enforces none.
"""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import ibis.expr.datatypes as dt
from pandera.ibis import Column, DataFrameSchema

if TYPE_CHECKING:
    from mlops_assets.quality.contract import Contract

_DELTA_TYPES = (
    dt.Boolean, dt.Int8, dt.Int16, dt.Int32, dt.Int64, dt.Float32, dt.Float64, dt.String, dt.Binary,
    dt.Date, dt.Timestamp, dt.Decimal, dt.Array, dt.Struct, dt.Map,
)  # fmt: skip

_MICROSECONDS = 6
_NOT_APPLIED = "is not applied inside DuckDB; leave it out"


def problems(contract: "type[Contract]", keys: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """Yield a sentence for everything that is wrong with a contract.

    Parameters
    ----------
    contract
        The contract.
    keys
        Its keys.
    """
    if not inspect.cleandoc(contract.__doc__ or ""):
        yield "has no docstring: say what one row of the table is"
    schema = contract.to_schema()
    yield from _option_problems(schema)
    if contract.__parsers__ or contract.__root_parsers__:
        yield "parsers are not run inside DuckDB: transform before the audit"
    if len({name.lower() for name in schema.columns}) < len(schema.columns):
        yield "two columns differ only in case, which DuckDB cannot tell apart"
    named = {name for key in keys for name in key}
    for name in sorted(named - set(schema.columns)):
        yield f"Config.unique names {name!r}, which is not a column of the contract"
    for name, column in schema.columns.items():
        found = [*_column_problems(column), *_type_problems(column.dtype.type)]
        if name in named and (column.nullable or not column.required):
            found.append("is part of a key and may be null: a null identifies nothing")
        yield from (f"column {name!r}: {problem}" for problem in found)


def _option_problems(schema: DataFrameSchema) -> Iterator[str]:
    if schema.strict not in {True, "filter"}:
        yield f"Config.strict={schema.strict!r} drops columns silently: use True, or 'filter'"
    for option in ("coerce", "drop_invalid_rows", "add_missing_columns", "dtype"):
        if getattr(schema, option):
            yield f"Config.{option} {_NOT_APPLIED}"
    for check in schema.checks:
        if not check.ignore_na:
            yield f"check {check.name!r}: ignore_na=False {_NOT_APPLIED}"


def _column_problems(column: Column) -> Iterator[str]:
    if not (column.description or "").strip():
        yield "has no description: give Field(description=...)"
    if column.unique:
        yield "Field(unique=True) lets duplicates through: name it in Config.unique instead"
    if column.regex:
        yield "Field(regex=True): a contract names its columns"
    if column.coerce:
        yield f"Field(coerce=True) {_NOT_APPLIED}: values are cast when they are read"
    if column.default is not None:
        yield f"Field(default=...) {_NOT_APPLIED}: nothing fills nulls silently"
    if any(not check.ignore_na for check in column.checks):
        yield "ignore_na=False lets nulls through: use nullable=False"


def _type_problems(dtype: dt.DataType) -> Iterator[str]:
    if isinstance(dtype, dt.Timestamp) and (
        dtype.timezone not in {"UTC", None} or dtype.scale != _MICROSECONDS
    ):
        yield f"{dtype}: annotate an instant as TimestampUTC, a wall-clock time as TimestampLocal"
    elif not isinstance(dtype, _DELTA_TYPES):
        yield f"type {dtype} has no counterpart in Delta"
