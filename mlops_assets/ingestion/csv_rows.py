"""Reading CSV as text, every row numbered exactly.

DuckDB reads a regular file in parallel. Whenever anything about a file is irregular (a row with
too few or too many fields, a line end inside quotes, a blank line, a stray quote), so that its row
numbers could be off, the file is read again by Python's strict CSV reader, which is slower and
exact. Which of the two was right is not a matter of trust: the number of rows must equal the
number of lines that were counted while the file was copied.
"""

import contextlib
import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import duckdb
import pyarrow as pa

from mlops_assets.ingestion.copies import Copy, TextFacts
from mlops_assets.ingestion.errors import FileRefusal, SourceRefusedError
from mlops_assets.ingestion.headers import Wanted, match_header
from mlops_assets.ingestion.relations import (
    MALFORMED,
    ROWS,
    SourceRows,
    duckdb_space,
    literal,
    new_rows_table,
)
from mlops_assets.ingestion.sources import FileSource

_BATCH_ROWS = 20_000
_FIELD_LIMIT = 16 * 2**20


def read_csv(
    con: duckdb.DuckDBPyConnection, copy: Copy, source: FileSource, wanted: Wanted
) -> SourceRows:
    """Load a copied CSV file into ``source_rows``.

    Raises
    ------
    SourceRefusedError
        If the header does not fit, or the quoting is broken so that rows cannot be told apart.
    """
    facts = copy.text or TextFacts(lines=0, quotes=False)
    header, header_lines = _header(copy, source)
    positions = match_header(header, wanted, source=copy.uri, source_hash=copy.sha256)
    if isinstance(positions, FileRefusal):
        raise SourceRefusedError([positions], files=1)
    columns = {name: f"__{position}" for name, position in positions.items()}
    types = dict.fromkeys(columns, "VARCHAR")
    if header_lines == 1 and _read_regular(con, copy.path, source, len(header), facts):
        return SourceRows(columns, types)
    _read_irregular(con, copy, source, len(header))
    return SourceRows(columns, types, MALFORMED, f"a row of {len(header)} fields")


def _header(copy: Copy, source: FileSource) -> tuple[list[str], int]:
    with _opened(copy.path) as text:
        reader = csv.reader(text, delimiter=source.field_delimiter, strict=True)
        try:
            names = next((record for record in reader if record), None)
        except csv.Error as error:
            raise _refused(
                copy,
                rule="quoting",
                problem=f"the header in line {reader.line_num} cannot be read: {error}",
                remedy="Correct its quotes.",
            ) from error
        lines = reader.line_num
    if names is None:
        raise _refused(
            copy,
            rule="not_empty",
            problem=f"the file is empty ({copy.size} bytes): it lacks even a header",
            remedy="Fetch or write the file again. A file that is to say 'no rows' has a header.",
        )
    return names, lines


def _read_regular(
    con: duckdb.DuckDBPyConnection, path: Path, source: FileSource, width: int, facts: TextFacts
) -> bool:
    """Read with DuckDB; whether the result can be relied on."""
    spec = ", ".join(f"'__{index}': 'VARCHAR'" for index in range(width))
    nulls = ", ".join(literal(text) for text in source.null_values)
    try:
        with duckdb_space():
            con.execute(
                f"""
                CREATE OR REPLACE TABLE {ROWS} AS
                FROM read_csv({literal(str(path))}, auto_detect = false, header = false, skip = 1,
                    columns = {{{spec}}}, delim = {literal(source.field_delimiter)}, quote = '"',
                    escape = '"', nullstr = [{nulls}], strict_mode = true)
                """
            )
    except duckdb.InvalidInputException:
        return False  # irregular: the exact reader will say what it is, and in which row
    counted = con.execute(f"SELECT count(*) FROM {ROWS}").fetchall()[0][0]
    return bool(counted + 1 == facts.lines)


def _read_irregular(
    con: duckdb.DuckDBPyConnection, copy: Copy, source: FileSource, width: int
) -> None:
    """Read with Python; rows of another width are kept, as text, in the column ``malformed``."""
    names = [f"__{index}" for index in range(width)]
    new_rows_table(con, dict.fromkeys([*names, MALFORMED], "VARCHAR"))
    schema = pa.schema([(name, pa.string()) for name in [*names, MALFORMED]])
    nulls = ", ".join(literal(text) for text in source.null_values)
    values = ", ".join(f"CASE WHEN {name} NOT IN ({nulls}) THEN {name} END" for name in names)
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    with _opened(copy.path) as text:
        reader = csv.reader(text, delimiter=source.field_delimiter, strict=True)
        records = filter(None, reader)  # a blank line is no record
        next(records)  # the header
        while batch := _next_batch(records, copy, source):
            malformed = _set_malformed_aside(batch, width)
            columns = [pa.array(column, pa.string()) for column in zip(*batch, strict=True)]
            columns.append(pa.array(malformed, pa.string()))
            con.register("csv_batch", pa.Table.from_arrays(columns, schema=schema))
            with duckdb_space():
                con.execute(f"INSERT INTO {ROWS} SELECT {values}, {MALFORMED} FROM csv_batch")
            con.unregister("csv_batch")


def _next_batch(
    records: Iterator[list[str]], copy: Copy, source: FileSource
) -> list[list[str] | list[None]]:
    try:
        return list(itertools.islice(records, _BATCH_ROWS))
    except csv.Error as error:
        row, line = _place_of_error(copy, source)
        raise _refused(
            copy,
            rule="quoting",
            problem=f"from line {line} on, rows cannot be told apart: {error}",
            remedy='Write a quote inside a quoted field as "", and close every quote.',
            row=row,
        ) from error


def _place_of_error(copy: Copy, source: FileSource) -> tuple[int, int]:
    """Return the data row and the line at which the strict reader gives up."""
    row, line = 0, 1
    with _opened(copy.path) as text:
        reader = csv.reader(text, delimiter=source.field_delimiter, strict=True)
        with contextlib.suppress(csv.Error):  # it is known to come; where is the question
            for record in reader:
                row += bool(record)
                line = reader.line_num + 1
    return row, line  # the header counted as a row, so that this is the number of the next


def _set_malformed_aside(batch: list[list[str] | list[None]], width: int) -> list[str | None]:
    """Replace rows of another width by nulls, and return their fields as JSON in their places."""
    malformed: list[str | None] = [None] * len(batch)
    for index, record in enumerate(batch):
        if len(record) != width:
            malformed[index] = json.dumps(record, ensure_ascii=False)
            batch[index] = [None] * width
    return malformed


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8", newline="")


def _refused(
    copy: Copy, *, rule: str, problem: str, remedy: str, row: int | None = None
) -> SourceRefusedError:
    refusal = FileRefusal(
        copy.uri, rule=rule, problem=problem, remedy=remedy, source_hash=copy.sha256, row=row
    )
    return SourceRefusedError([refusal], files=1)
