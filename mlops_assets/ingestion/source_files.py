"""What was found in each file of a source when it was last looked at.

What belongs here: the append-only table ``ingestion/source_files``, writing to it and reading it
back. It only saves reading the same bytes twice; whoever deletes it has the files read once more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from mlops_assets.ingestion.contents import DayContent, SourceDays
from mlops_assets.lake import Lake, TableName
from mlops_assets.quality.quarantine import described

SOURCE_FILES = TableName("ingestion", "source_files")
_DESCRIPTION = "Files that were looked at for corrections: what each was, and held by day."
_SCHEMA = pa.schema(
    [
        described("seen_at", pa.timestamp("us", "UTC"), "When it was looked at."),
        described("table_name", pa.string(), "Table that the file is a source of."),
        described("uri", pa.string(), "The file."),
        described("identity", pa.string(), "Size, times and inode, or what its store has instead."),
        described("sha256", pa.string(), "Hash of its bytes."),
        described("recipe", pa.string(), "How its rows were read."),
        described("source_days", pa.string(), "Number and hash of its rows by day, as JSON."),
    ]
)


@dataclass(frozen=True)
class SeenFile:
    """One file as it was.

    Attributes
    ----------
    uri
        The file.
    identity
        What tells, without reading it, that it is still the same.
    sha256
        Hash of its bytes.
    days
        What it held, by day.
    """

    uri: str
    identity: str
    sha256: str
    days: Mapping[date, DayContent]


def seen_files(lake: Lake, table: TableName, recipe: str) -> dict[str, SeenFile]:
    """Return, by URI, the files of a table as they last were, where they were read in this way."""
    if not lake.exists(SOURCE_FILES):
        return {}
    with lake.connect(tables=[SOURCE_FILES]) as con:
        rows = con.execute(
            f"SELECT uri, identity, sha256, source_days FROM {SOURCE_FILES.sql} "
            "WHERE table_name = ? AND recipe = ? "
            "QUALIFY row_number() OVER (PARTITION BY uri ORDER BY seen_at DESC) = 1",
            [str(table), recipe],
        ).fetchall()
    return {
        uri: SeenFile(uri, identity, sha256, SourceDays.from_json(days).days)
        for uri, identity, sha256, days in rows
    }


def remember(
    lake: Lake, table: TableName, recipe: str, files: Iterable[SeenFile], *, seen_at: datetime
) -> None:
    """Keep what files were; nothing is written where there are none."""
    rows = [
        {
            "seen_at": seen_at,
            "table_name": str(table),
            "uri": file.uri,
            "identity": file.identity,
            "sha256": file.sha256,
            "recipe": recipe,
            "source_days": SourceDays(recipe, file.days).to_json(),
        }
        for file in files
    ]
    if rows:
        lake.append(
            SOURCE_FILES, pa.Table.from_pylist(rows, schema=_SCHEMA), description=_DESCRIPTION
        )
