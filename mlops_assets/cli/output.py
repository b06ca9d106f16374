"""How commands print: tables for people, JSON and the like for programs.

In a terminal a table fits its width: long texts wrap, and rows with more columns than fit are shown
one below the other. Anywhere else (a pipe, a file) nothing is shortened or wrapped.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_UNLIMITED = 1_000_000
_LEAST_COLUMN = 12
_BORDERS = 3

# Without a terminal there is no width to fit, so nothing is wrapped.
console = Console(width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(value, default=_jsonable, indent=2, ensure_ascii=False))


def print_text(text: str) -> None:
    """Print a text as it is: brackets in it are no markup, and lines are not broken."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_table(title: str, rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Print rows as a table; numbers are aligned to the right.

    Parameters
    ----------
    title
        Printed above it.
    empty
        What to say when there are no rows.
    """
    if not rows:
        console.print(f"{title}: {empty}")
        return
    console.print(f"[italic]{escape(title)}[/italic]")
    print_cells(
        list(rows[0]),
        [[_cell(value) for value in row.values()] for row in rows],
        [isinstance(value, int | float) for value in rows[0].values()],
    )


def print_cells(names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    """Print texts as a table, or one row below the other where a terminal is too narrow for it.

    Parameters
    ----------
    names
        Of the columns.
    rows
        A text for each column.
    right
        For each column, whether it is aligned to the right and never wrapped, as numbers are.
    """
    widths = [
        max(len(line) for cell in cells for line in cell.splitlines() or [""])
        for cells in zip(names, *rows, strict=True)
    ]
    least = sum(
        (width if is_number else min(width, _LEAST_COLUMN)) + _BORDERS
        for width, is_number in zip(widths, right, strict=True)
    )
    if least + 1 > console.width:
        _print_records(names, rows)
        return
    table = Table(header_style="bold")
    for name, is_number in zip(names, right, strict=True):
        table.add_column(
            escape(name),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    for row in rows:
        # Data is shown as it is: brackets in it are no markup.
        table.add_row(*map(escape, row))
    console.print(table)


def _print_records(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    wide = max(map(len, names))
    for number, row in enumerate(rows, start=1):
        console.print(f"[bold]row {number}[/bold]")
        for name, cell in zip(names, row, strict=True):
            print_text(f"  {name:<{wide}}  {cell}")


def _cell(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case _:
            return str(value)


def _jsonable(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "schema") and hasattr(value, "name"):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
