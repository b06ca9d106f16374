"""How ``mlops sql`` prints what a query gives: every value as it is, in one of four formats.

Values are printed so that they can be copied: no thousands separators, no rounding, and a time with
its zone only where it has one.
"""

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from types import NoneType
from typing import Any

from mlops_assets.cli.output import console, print_cells
from mlops_assets.cli.sql import Format

Row = Sequence[Any]


def print_result(names: Sequence[str], rows: Iterable[Row], form: Format) -> None:
    """Print the result of a query.

    Parameters
    ----------
    names
        Of the columns, which may repeat.
    rows
        Taken one after the other; only a table needs all of them at once.
    """
    match form:
        case Format.table:
            _print_table(names, list(rows))
        case Format.csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(["" if v is None else _text(v) for v in row] for row in rows)
        case Format.json:
            _print_json(list(_distinct(names)), rows)
        case Format.markdown:
            print(_markdown_line(names))
            print(_markdown_line(["---"] * len(names)))
            for row in rows:
                print(_markdown_line([_shown(value) for value in row]))


def _print_table(names: Sequence[str], rows: Sequence[Row]) -> None:
    if not rows:
        console.print("no rows")
        return
    columns = zip(*rows, strict=True)
    print_cells(
        names,
        [[_shown(value) for value in row] for row in rows],
        [
            all(isinstance(v, int | float | Decimal | NoneType) for v in column)
            for column in columns
        ],
    )


def _print_json(names: Sequence[str], rows: Iterable[Row]) -> None:
    """Print one array, a row a line, without holding all of it."""
    separator = "[\n  "
    for row in rows:
        record = {name: _json_value(v) for name, v in zip(names, row, strict=True)}
        sys.stdout.write(separator + json.dumps(record, ensure_ascii=False))
        separator = ",\n  "
    sys.stdout.write("[]\n" if separator.startswith("[") else "\n]\n")


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Tell names that repeat apart by a number, as DuckDB does: ``a``, ``a_1``."""
    seen: Counter[str] = Counter()
    for name in names:
        yield f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _shown(value: Any) -> str:
    """Give a value as one line; line ends and tabs in a text are shown as escapes."""
    text = "NULL" if value is None else _text(value)
    return text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")


def _text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.hex()
        case list() | dict() | tuple():
            return json.dumps(_json_value(value), ensure_ascii=False)
        case _:
            return str(value)


def _json_value(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            # A number while a float holds it exactly, so that no digit is lost.
            return float(value) if Decimal(str(float(value))) == value else str(value)
        case date() | time():
            return value.isoformat()
        case dict():
            return {str(key): _json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_json_value(item) for item in value]
        case bytes():
            return value.hex()
        case _:
            return str(value)
