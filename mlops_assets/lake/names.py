"""How tables and their versions are named: ``raw/flights``, and ``raw/flights@12`` for a version.

A name is a folder in the lake, a schema and a view in DuckDB, an asset key in the lineage graph
and a word on the command line, so it is kept to what is safe in all four.
"""

import re
from dataclasses import dataclass
from typing import Self

from mlops_assets.lake.errors import TableNameError

_PART = re.compile(r"[a-z][a-z0-9_]{0,62}")
_RESERVED_SCHEMAS = frozenset({"information_schema", "main", "pg_catalog", "system", "temp"})
_ALLOWED = (
    "A table is named schema/name, each of lowercase letters, digits and underscores, starting "
    "with a letter, at most 63 long; for example raw/flights or raw/flights__quarantine."
)


@dataclass(frozen=True, order=True)
class TableName:
    """The name of a table.

    Attributes
    ----------
    schema, name
        Lowercase letters, digits and underscores, starting with a letter, at most 63 characters.
        Schemas that DuckDB keeps for itself (``main``, ``temp``, ...) are refused.

    Raises
    ------
    TableNameError
        When either part is not of that form.
    """

    schema: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.schema, self.name):
            if not _PART.fullmatch(part):
                raise TableNameError(
                    f"{self.schema}/{self.name}: {part!r} is not allowed. {_ALLOWED}"
                )
        if self.schema in _RESERVED_SCHEMAS:
            raise TableNameError(
                f"{self.schema}/{self.name}: the schema {self.schema!r} is DuckDB's own; "
                f"use none of {', '.join(sorted(_RESERVED_SCHEMAS))}."
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``schema/name``.

        Raises
        ------
        TableNameError
            When ``text`` is not of that form.
        """
        schema, slash, name = text.partition("/")
        if not slash:
            raise TableNameError(f"{text!r} is not the name of a table. {_ALLOWED}")
        return cls(schema, name)

    @property
    def sql(self) -> str:
        """The name as DuckDB writes it, quoted: ``"raw"."flights"``."""
        return f'"{self.schema}"."{self.name}"'

    def __str__(self) -> str:
        return f"{self.schema}/{self.name}"


@dataclass(frozen=True, order=True)
class TableVersion:
    """One version of one table, ``raw/flights@12``.

    Attributes
    ----------
    table
        Which table.
    version
        Its Delta version, from 0.
    """

    table: TableName
    version: int

    def __post_init__(self) -> None:
        if self.version < 0:
            raise TableNameError(f"{self.table}@{self.version}: versions count from 0.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``schema/name@version``.

        Raises
        ------
        TableNameError
            When ``text`` is not of that form.
        """
        table, at, version = text.partition("@")
        if not at or not version.isascii() or not version.isdigit():
            raise TableNameError(
                f"{text!r} is not a version of a table; write it as raw/flights@12."
            )
        return cls(TableName.parse(table), int(version))

    def __str__(self) -> str:
        return f"{self.table}@{self.version}"
