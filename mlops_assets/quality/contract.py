"""Contracts: what a table must look like, as an ordinary Pandera model.

What belongs here: the base class users subclass, what is refused when such a class is declared,
and its translation to DuckDB and Arrow types. Which rules a contract makes, and their wording, is
`contract_rules.py`; judging data is `auditing.py`.
"""

import hashlib
import inspect
import json
from dataclasses import dataclass
from datetime import date
from functools import partial
from types import NoneType
from typing import Annotated, Any, ClassVar

import duckdb
import ibis.expr.datatypes as dt
import pyarrow as pa
from ibis.backends.sql.datatypes import DuckDBType
from pandera.api.checks import Check
from pandera.api.function_dispatch import Dispatcher
from pandera.ibis import Column, DataFrameModel, DataFrameSchema

from mlops_assets.lake.schemas import quoted
from mlops_assets.quality.contract_lint import problems
from mlops_assets.quality.errors import ContractError

TimestampUTC = Annotated[dt.Timestamp, "UTC", 6, True]
"""Annotation of an instant: ``TIMESTAMP WITH TIME ZONE``, in Arrow ``timestamp[us, UTC]``."""

TimestampLocal = Annotated[dt.Timestamp, None, 6, True]
"""Annotation of a wall-clock time whose zone is elsewhere: ``TIMESTAMP``, ``timestamp[us]``."""

_CONSTANTS = (bool, int, float, str, date, tuple, list, set, frozenset, dict, NoneType)

NON_FINITE = "non_finite"
"""``Field(metadata={"non_finite": True})`` lets a float column hold NaN and infinities."""


class Contract(DataFrameModel):
    """Base of every contract.

    Subclass it as any ``pandera.ibis.DataFrameModel``: the docstring describes the table,
    ``Field(description=...)`` each column, ``class Config: unique = [...]`` names the key (a list
    of lists: several keys). What Pandera's ibis backend would ignore without a word is refused
    when the class is declared (`contract_lint.py`).

    Raises
    ------
    ContractError
        When a subclass is declared that lacks a description or asks for something that would not
        be enforced. It names every such column.

    Examples
    --------
    >>> import pandera.ibis as pa
    >>> class Airports(Contract):
    ...     '''Airports of the world.'''
    ...
    ...     faa: str = pa.Field(str_matches="^[A-Z0-9]{3}$", description="FAA code")
    ...     alt: int = pa.Field(ge=-1500, le=15000, description="Altitude in feet")
    ...
    ...     class Config:
    ...         unique = ["faa"]
    >>> [(column.name, column.constraints) for column in columns(Airports)]
    [('faa', ('key', 'matches ^[A-Z0-9]{3}$')), ('alt', ('between -1500 and 15000',))]
    """

    class Config:
        """Columns that the contract does not name are refused."""

        strict = True

    __fields__: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call] # Pandera's has none
        found = list(problems(cls, keys(cls))) if cls.__fields__ else []
        if found:
            listed = "\n".join(f"  - {problem}" for problem in found)
            raise ContractError(f"contract {cls.__module__}.{cls.__qualname__}:\n{listed}")

    @classmethod
    def _build_columns(cls, fields: Any, checks: Any) -> dict[str, Column]:
        """Give element-wise checks the types that an ibis UDF needs.

        Pandera wraps a model's method in an adapter annotated ``Any``, which ibis refuses.
        """
        built = super()._build_columns(fields, checks)
        for column in built.values():
            column.checks = [_typed(check, column.dtype.type) for check in column.checks]
        return built


def _typed(check: Check, dtype: dt.DataType) -> Check:
    if not check.element_wise:
        return check
    adapter = check._check_fn  # noqa: SLF001 - Pandera has no public name for it

    def element(value: Any) -> Any:
        return adapter(value)

    element.__name__ = str(check.name)
    element.__annotations__ = {"value": dtype, "return": dt.boolean}
    return Check(
        element,
        element_wise=True,
        name=check.name,
        error=check.error,
        description=check.description,
        raise_warning=check.raise_warning,
        ignore_na=check.ignore_na,
    )


@dataclass(frozen=True)
class ContractColumn:
    """One column of a contract, in words and in DuckDB's types.

    Attributes
    ----------
    name
        The column's name.
    duckdb_type
        Its type as DuckDB's ``DESCRIBE`` prints it, such as ``BIGINT``.
    nullable
        Whether null is allowed.
    description
        What the column means.
    constraints
        Each rule in words: ``key``, ``between 0 and 2000``, ``one of EWR, JFK, LGA``.
    required
        False where a batch may lack the column; it is then published as null.
    """

    name: str
    duckdb_type: str
    nullable: bool
    description: str
    constraints: tuple[str, ...]
    required: bool = True


def schema_of(contract: type[Contract]) -> DataFrameSchema:
    """Return the Pandera schema of a contract."""
    return contract.to_schema()


def keys(contract: type[Contract]) -> tuple[tuple[str, ...], ...]:
    """Return the contract's keys, each a tuple of column names; empty where none is declared."""
    unique = schema_of(contract).unique or []
    if all(isinstance(name, str) for name in unique):
        return (tuple(unique),) if unique else ()
    return tuple(tuple(key) for key in unique)


def columns(contract: type[Contract]) -> tuple[ContractColumn, ...]:
    """Return the contract's columns in declared order."""
    from mlops_assets.quality.contract_rules import constraints

    return tuple(
        ContractColumn(
            name=name,
            duckdb_type=_duckdb_type(column),
            nullable=bool(column.nullable) or not column.required,
            description=str(column.description),
            constraints=constraints(contract, name),
            required=bool(column.required),
        )
        for name, column in schema_of(contract).columns.items()
    )


def arrow_schema(contract: type[Contract]) -> pa.Schema:
    """Return the Arrow schema of the contract's table.

    Returns
    -------
    pyarrow.Schema
        A field a column, in declared order; the description is its metadata ``comment``. Instants
        are ``timestamp[us, UTC]``. Every field is nullable: the audit keeps nulls out, and a
        contract may come to allow one without rewriting the table.
    """
    return pa.schema(
        [
            pa.field(
                name,
                column.dtype.type.to_pyarrow(),
                metadata={"comment": str(column.description)},
            )
            for name, column in schema_of(contract).columns.items()
        ]
    )


def check_contract(contract: type[Contract]) -> None:
    """Try every rule of a contract on an empty table.

    Declaring a contract checks what can be read off it. This also runs it, so that a test or a
    build finds a bad regular expression, or a rule that does not fit its column's type, before
    any data do.

    Raises
    ------
    ContractError
        Naming the check that crashed.
    """
    from mlops_assets.quality.auditing import audit

    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        selected = ", ".join(
            f"NULL::{column.duckdb_type} AS {quoted(column.name)}" for column in columns(contract)
        )
        con.execute(f"CREATE TABLE empty_batch AS SELECT {selected} LIMIT 0")
        audit(con, "empty_batch", contract)


def contract_hash(contract: type[Contract]) -> str:
    """Return a SHA-256 over all that decides the contract's verdict: types, nullability, rules.

    Descriptions do not count. A custom check counts by its source code and the constants it reads.
    """
    schema = schema_of(contract)
    content = {
        "columns": [
            [name, _duckdb_type(c), bool(c.nullable), bool(c.required), c.metadata,
             [_fingerprint(check) for check in c.checks]]
            for name, c in schema.columns.items()
        ],
        "keys": keys(contract),
        "strict": schema.strict,
        "ordered": schema.ordered,
        "checks": [_fingerprint(check) for check in schema.checks],
    }  # fmt: skip
    text = json.dumps(content, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return what JSON lacks as text; a set in an order that is the same in every process."""
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def _duckdb_type(column: Column) -> str:
    return str(duckdb.sqltype(DuckDBType.to_string(column.dtype.type)))


def _fingerprint(check: Check) -> list[Any]:
    function = check._check_fn  # noqa: SLF001 - Pandera has no public name for it
    code = None if isinstance(function, Dispatcher) else _code(function)
    return [check.name, check.statistics, check.raise_warning, check.element_wise, code]


def _code(function: Any) -> list[Any]:
    """Return the source of a custom check, seen through adapters, and the constants it reads."""
    if isinstance(function, partial):
        return [_code(function.func), function.args, function.keywords]
    closure = inspect.getclosurevars(function)
    if function.__qualname__ == "_typed.<locals>.element":
        return _code(closure.nonlocals["adapter"])
    if function.__qualname__ == "BaseCheckInfo.to_check.<locals>._adapter":
        return _code(closure.nonlocals["self"].check_fn)
    constants = {
        name: value
        for name, value in {**closure.globals, **closure.nonlocals}.items()
        if isinstance(value, _CONSTANTS)
    }
    try:
        return [inspect.getsource(function), constants]
    except OSError:  # declared in a console: no file to read, so the compiled code stands for it
        code = function.__code__
        plain = [value for value in code.co_consts if isinstance(value, _CONSTANTS)]
        return [code.co_code.hex(), code.co_names, plain, constants]
