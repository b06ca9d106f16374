"""Reading JSON records, one object a line or one array of objects, every row numbered."""

import re

import duckdb

from mlops_assets.ingestion.copies import Copy
from mlops_assets.ingestion.errors import FileRefusal, SourceRefusedError
from mlops_assets.ingestion.headers import Wanted, match_header
from mlops_assets.ingestion.relations import (
    MALFORMED,
    ROWS,
    SourceRows,
    duckdb_space,
    literal,
)


def read_json(con: duckdb.DuckDBPyConnection, copy: Copy, wanted: Wanted) -> SourceRows:
    """Load a copied JSON file into ``source_rows``.

    Every value arrives as text, as it is written in the file, so that no number is rounded on the
    way. A key that an object lacks is null there; a key that no object has is a missing column.

    Raises
    ------
    SourceRefusedError
        If it is not JSON, is empty, or its keys do not fit.
    """
    if copy.size == 0:
        raise _refused(
            copy,
            rule="not_empty",
            problem="the file is empty (0 bytes)",
            remedy="Fetch or write the file again. A file that is to say 'no rows' holds [].",
        )
    path = literal(str(copy.path))
    try:
        with duckdb_space():
            con.execute(
                f"CREATE OR REPLACE TABLE json_records AS "
                f"SELECT json AS record FROM read_json_objects({path}, format = 'auto')"
            )
    except duckdb.InvalidInputException as error:
        problem = re.sub(r' in file ".*?"', "", str(error)).removeprefix("Invalid Input Error: ")
        raise _refused(
            copy,
            rule="json",
            problem=problem.strip().rstrip("."),
            remedy="Write one JSON object a line, or one array of objects.",
        ) from error
    keys = con.execute(
        """
        SELECT DISTINCT unnest(keys) FROM (
            SELECT DISTINCT json_keys(record) AS keys FROM json_records
            WHERE json_type(record) = 'OBJECT'
        ) ORDER BY 1
        """
    ).fetchall()
    header = [key for (key,) in keys]
    if not header:  # no record: as with a header alone, zero rows of the right shape
        header = [*wanted.required]
    positions = match_header(header, wanted, source=copy.uri, source_hash=copy.sha256)
    if isinstance(positions, FileRefusal):
        raise SourceRefusedError([positions], files=1)
    pointers = ", ".join(literal(f"/{_escaped(name)}") for name in positions)
    fields = ", ".join(f"found[{index}] AS __{index - 1}" for index in range(1, len(positions) + 1))
    with duckdb_space():
        con.execute(
            f"""
            CREATE OR REPLACE TABLE {ROWS} AS
            SELECT {fields}, {MALFORMED} FROM (
                SELECT json_extract_string(record, [{pointers}]) AS found,
                    CASE WHEN json_type(record) <> 'OBJECT' THEN record::VARCHAR END AS {MALFORMED}
                FROM json_records
            )
            """
        )
        con.execute("DROP TABLE json_records")
    columns = {name: f"__{index}" for index, name in enumerate(positions)}
    return SourceRows(columns, dict.fromkeys(columns, "VARCHAR"), MALFORMED, "a JSON object")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _refused(copy: Copy, *, rule: str, problem: str, remedy: str) -> SourceRefusedError:
    refusal = FileRefusal(
        copy.uri, rule=rule, problem=problem, remedy=remedy, source_hash=copy.sha256
    )
    return SourceRefusedError([refusal], files=1)
