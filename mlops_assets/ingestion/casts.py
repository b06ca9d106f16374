"""Casting what a source gave to what a contract wants, without ever changing a value.

DuckDB's own casts are too kind for raw data: ``'1.5'`` becomes the integer 2, ``'1_000'`` becomes
1000, a time of day falls off a date, an offset falls off a timestamp. The expressions built here
give null in all those cases, so that staging can refuse the row with the value it had.
"""

import re

_INTEGERS = frozenset(
    f"{sign}{size}"
    for sign in ("", "U")
    for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
)
_DAY = r"\s*[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}"
_MIDNIGHT = r"([T ]00:00(:00(\.0+)?)?)?"
_TIME = r"([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?"
_ZONE = r"( ?UTC|Z|[+-][0-9]{2}(:?[0-9]{2})?| [A-Za-z_]+(/[A-Za-z_]+)+)?"
_DECIMAL = re.compile(r"DECIMAL\(\d+,(\d+)\)")


def lossless_cast(value: str, source_type: str, target_type: str) -> str:
    r"""Return a SQL expression that casts without loss, or gives null.

    Parameters
    ----------
    value
        SQL expression of the value.
    source_type, target_type
        DuckDB types as ``DESCRIBE`` prints them. From ``VARCHAR`` the text must be written the way
        the target type is; from any other type the value must survive the way there and back.

    Returns
    -------
    str
        SQL. It is null where the value is null and where the cast would change it, and never
        raises.

    Examples
    --------
    >>> lossless_cast("x", "BIGINT", "BIGINT")
    'x'
    >>> lossless_cast("x", "VARCHAR", "DOUBLE")
    "CASE WHEN regexp_full_match(x, '[^_]*') THEN TRY_CAST(x AS DOUBLE) END"
    """
    if source_type == target_type:
        return value
    cast = f"TRY_CAST({value} AS {target_type})"
    if source_type == "VARCHAR":
        pattern = _written_as(target_type)
        if pattern is None:
            return cast
        return f"CASE WHEN regexp_full_match({value}, '{pattern}') THEN {cast} END"
    if (source_type, target_type) == ("DOUBLE", "FLOAT"):
        return cast  # asking for FLOAT is asking for fewer digits
    back = f"TRY_CAST({cast} AS {source_type})"
    return f"CASE WHEN {back} IS NOT DISTINCT FROM {value} THEN {cast} END"


def _written_as(target_type: str) -> str | None:
    """Return the pattern of the texts that stand for a value of the type; None: any that casts."""
    if target_type in _INTEGERS:
        return r"\s*[+-]?[0-9]+(\.0*)?\s*"
    if target_type in {"FLOAT", "DOUBLE"}:
        return r"[^_]*"
    if decimal := _DECIMAL.fullmatch(target_type):
        return rf"\s*[+-]?[0-9]*(\.[0-9]{{0,{decimal[1]}}}0*)?\s*"
    if target_type == "DATE":
        return rf"{_DAY}{_MIDNIGHT}\s*"
    if target_type == "TIMESTAMP":
        return rf"{_DAY}{_TIME})?\s*"
    if target_type == "TIMESTAMP WITH TIME ZONE":
        return rf"{_DAY}{_TIME}{_ZONE})?\s*"
    return None
