"""Writers that tests run as processes of their own: ``worker.py VERB ROOT ARGUMENTS...``."""

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from mlops_assets.lake import Lake, TableName, Window
from mlops_assets.settings import DuckDBLimits

TABLE = TableName("raw", "events")
FIRST_DAY = date(2013, 1, 1)


def lake_at(root: str) -> Lake:
    limits = DuckDBLimits(memory_limit="512MiB", threads=1, scratch=Path(root) / "scratch")
    return Lake(str(Path(root) / "lake"), limits=limits)


def rows(writer: int, number: int, day: date, count: int = 20) -> pa.Table:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return pa.table(
        {
            "writer": pa.array([writer] * count, pa.int64()),
            "number": pa.array([number] * count, pa.int64()),
            "row": pa.array(range(count), pa.int64()),
            "day": pa.array([day] * count, pa.date32()),
            "at": pa.array(
                [midnight + timedelta(minutes=i) for i in range(count)], pa.timestamp("us", "UTC")
            ),
        }
    )


def append(lake: Lake, writer: int, times: int) -> None:
    """Append ``times`` batches, each in a transaction, and each given twice."""
    for number in range(times):
        for _ in range(2):
            lake.append(
                TABLE,
                rows(writer, number, FIRST_DAY - timedelta(days=1)).to_reader(),
                transaction=(f"writer-{writer}", number),
            )


def overwrite_windows(lake: Lake, writer: int, times: int) -> None:
    """Overwrite the writer's own day ``times`` times."""
    day = FIRST_DAY + timedelta(days=writer)
    for number in range(times):
        lake.overwrite_window(
            TABLE,
            rows(writer, number, day).to_reader(),
            Window("day", day, day + timedelta(days=1)),
        )


def merge(lake: Lake, writer: int, times: int) -> None:
    """Merge the writer's own rows ``times`` times."""
    day = FIRST_DAY + timedelta(days=writer)
    for number in range(times):
        lake.merge(TABLE, rows(writer, number, day).to_reader(), ["writer", "row", "day"])


def generations(lake: Lake, verb: str, first: int) -> None:
    """Write generation after generation until killed; a version holds one generation only."""
    number = first
    while True:
        data = rows(0, number, FIRST_DAY, count=2000).to_reader()
        if verb == "overwrite":
            lake.overwrite(TABLE, data)
        elif verb == "overwrite_window":
            window = Window("day", FIRST_DAY, FIRST_DAY + timedelta(days=1))
            lake.overwrite_window(TABLE, data, window)
        else:
            lake.append(TABLE, data, transaction=("generations", number))
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    verb, root, *arguments = sys.argv[1:]
    match verb:
        case "append":
            append(lake_at(root), int(arguments[0]), int(arguments[1]))
        case "overwrite_windows":
            overwrite_windows(lake_at(root), int(arguments[0]), int(arguments[1]))
        case "merge":
            merge(lake_at(root), int(arguments[0]), int(arguments[1]))
        case "generations":
            generations(lake_at(root), arguments[0], int(arguments[1]))
        case _:
            raise SystemExit(f"unknown verb {verb}")
