"""What the rows of a day are, in a few bytes: so that two readings of a source can be compared.

Rows are compared as a bag: their order and their place in a file do not matter, nor do the names of
files. What is wrong with a row belongs to it, so that one bad value in place of another is a change
as well. The sums add up, so that a day's content is the sum over the files that hold its rows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Self

import duckdb

from mlops_assets.ingestion.periods import Period
from mlops_assets.ingestion.relations import duckdb_space, identifier, literal
from mlops_assets.ingestion.sources import FileSource

if TYPE_CHECKING:
    from mlops_assets.quality import ContractColumn

READING = frozenset({"format", "compression", "member", "null_values", "delimiter", "encoding"})
"""Keys of a file source that decide, beside the bytes of a file, which rows it has."""

_METHOD = 1
_MODULUS = 2**128


@dataclass(frozen=True)
class DayContent:
    """The rows of one day, as a number of rows and a sum of their hashes.

    Attributes
    ----------
    rows
        How many.
    digest
        Sum of 64 bits of each row's MD5, below 2**128. It tells rows apart that differ by mistake
        or by correction; it is no protection against somebody who looks for a collision.
    """

    rows: int = 0
    digest: int = 0

    def __add__(self, other: "DayContent") -> "DayContent":
        return DayContent(self.rows + other.rows, (self.digest + other.digest) % _MODULUS)

    def __str__(self) -> str:
        """Return it as it is stored: ``842-1f0c…``."""
        return f"{self.rows}-{self.digest:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` gave."""
        rows, _, digest = text.partition("-")
        return cls(int(rows), int(digest, 16))


NO_ROWS = DayContent()
"""The content of a day without rows."""


@dataclass(frozen=True)
class SourceDays:
    """What a source held, by day.

    Attributes
    ----------
    recipe
        How its rows were read; contents that were read differently cannot be compared.
    days
        Days with rows.
    """

    recipe: str
    days: Mapping[date, DayContent] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write it for a column of text."""
        days = {str(day): str(content) for day, content in sorted(self.days.items())}
        return json.dumps({"recipe": self.recipe, "days": days})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` gave."""
        stored = json.loads(text)
        days = {
            date.fromisoformat(day): DayContent.parse(content)
            for day, content in stored["days"].items()
        }
        return cls(stored["recipe"], days)


def reading_recipe(
    source: FileSource,
    columns: Sequence["ContractColumn"],
    derived: Mapping[str, str],
    day_column: str,
) -> str:
    """Hash what decides, beside the bytes of a file, which rows of which day are read from it.

    The rules of the contract are not in it: they judge rows, they do not change them.
    """
    content = {
        "method": _METHOD,
        "reading": source.model_dump(mode="json", include=set(READING)),
        "columns": [(column.name, column.duckdb_type, column.required) for column in columns],
        "derived": dict(sorted(derived.items())),
        "day_column": day_column,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def day_contents(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    columns: Sequence["ContractColumn"],
    day_column: str,
    *,
    refusals: str,
) -> dict[str, dict[date, DayContent]]:
    """Sum the rows of a relation up by the file they are from and the day they belong to.

    Parameters
    ----------
    con
        DuckDB session with ``TimeZone = 'UTC'``.
    relation
        SQL name of a relation with the columns of the contract and ``_source``.
    columns
        The contract's columns; each is compared as the type that the contract gives it.
    day_column
        Date or timestamp column; a row without a value there belongs to no day.
    refusals
        SQL expression of the list of what is wrong with a row.

    Returns
    -------
    dict
        By URI, then by day.
    """
    values = ", ".join(
        f"{literal(column.name)}: {identifier(column.name)}::{column.duckdb_type}"
        for column in columns
    )
    row = f"to_json({{{values}, {literal('_refusals')}: {refusals}}})::VARCHAR"
    with duckdb_space():
        found = con.execute(
            f"""
            SELECT _source, {identifier(day_column)}::DATE AS day,
                count(*), sum(md5_number_lower({row})::HUGEINT)
            FROM {relation} WHERE {identifier(day_column)} IS NOT NULL
            GROUP BY ALL
            """
        ).fetchall()
    contents: dict[str, dict[date, DayContent]] = {}
    for uri, day, rows, digest in found:
        contents.setdefault(uri, {})[day] = DayContent(rows, int(digest))
    return contents


def in_period(contents: Mapping[date, DayContent], period: Period | None) -> dict[date, DayContent]:
    """Leave out rows that strayed into a file of another period: they are always refused."""
    if period is None:
        return dict(contents)
    return {day: contents[day] for day in period.days if day in contents}
