"""Tables that others wrote, and features of the protocol: rows are right, or there is an error."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from mlops_assets.lake import Lake, TableName
from mlops_assets.lake.snapshot import Snapshot

THEIRS = TableName("raw", "theirs")
LONG_AND_TEXT = pa.table({"id": pa.array(range(5), pa.int64()), "s": list("abcde")})


def seen(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    with lake.connect() as con:
        return con.sql(sql).fetchall()


def assert_readers_agree(lake: Lake, table: TableName, key: str) -> list[dict[str, Any]]:
    with lake.connect(tables=[table]) as con:
        by_duckdb = con.sql(f"FROM {table.sql} ORDER BY {key}").to_arrow_table()
    by_deltars = lake.read(table).read_all().sort_by(key)
    assert by_duckdb.schema.names == by_deltars.schema.names
    assert by_duckdb.to_pylist() == by_deltars.to_pylist()
    return by_duckdb.to_pylist()


def test_partition_values_come_from_the_log(lake: Lake) -> None:
    table = pa.table(
        {
            "id": pa.array(range(6), pa.int64()),
            "text": ["a b", "c/d", "é%20x", None, "x=1*[z]", "it's"],
            "day": pa.array([date(2013, 1, 1), None] * 3, pa.date32()),
            "at": pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC)] * 6, pa.timestamp("us", "UTC")),
            "whole": pa.array([1, 2, 3, None, 5, 6], pa.int32()),
            "flag": [True, False, None, True, False, True],
            "amount": pa.array([Decimal("1.50")] * 6, pa.decimal128(10, 2)),
            "value": pa.array([0.5] * 6),
        }
    )
    partitions = ["text", "day", "at", "whole", "flag", "amount"]
    write_deltalake(lake.uri(THEIRS), table, partition_by=partitions)
    assert Snapshot.of(DeltaTable(lake.uri(THEIRS))).unhonoured() == ""
    rows = assert_readers_agree(lake, THEIRS, "id")
    assert rows == table.to_pylist()
    assert lake.describe(THEIRS).partition_columns == tuple(partitions)
    assert seen(lake, "SELECT id FROM raw.theirs WHERE text = 'c/d' AND day IS NULL") == [(1,)]


def test_writing_to_a_partitioned_table_keeps_its_partitions(lake: Lake) -> None:
    table = pa.table({"id": pa.array([1, 2], pa.int64()), "p": ["a", "b"]})
    write_deltalake(lake.uri(THEIRS), table, partition_by=["p"])
    lake.overwrite(THEIRS, table)
    lake.append(THEIRS, table)
    lake.merge(THEIRS, table.slice(0, 0), ["id"])
    assert lake.describe(THEIRS).partition_columns == ("p",)
    assert seen(lake, "SELECT p, count(*) FROM raw.theirs GROUP BY 1 ORDER BY 1") == [
        ("a", 2),
        ("b", 2),
    ]


@pytest.mark.parametrize("newest_first", [True, False])
def test_files_from_before_a_column_was_added_read_as_null(lake: Lake, newest_first: bool) -> None:
    struct = pa.struct({"x": pa.int32()})
    wider = pa.struct({"x": pa.int32(), "y": pa.string()})
    old = pa.table({"id": pa.array([1], pa.int64()), "st": pa.array([{"x": 1}], struct)})
    new = pa.table(
        {
            "extra": pa.array([datetime(2013, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "st": pa.array([{"x": 2, "y": "y"}], wider),
            "id": pa.array([2], pa.int64()),
        }
    )
    write_deltalake(lake.uri(THEIRS), old)
    write_deltalake(lake.uri(THEIRS), new, mode="append", schema_mode="merge")
    if newest_first:  # rewritten, the old row has the newest file
        DeltaTable(lake.uri(THEIRS)).update({"id": "id + 0"}, predicate="id = 1")
    rows = assert_readers_agree(lake, THEIRS, "id")
    assert [row["extra"] is None for row in rows] == [True, False]
    assert [row["st"]["y"] for row in rows] == [None, "y"]


def test_every_type_comes_back_as_it_went_in(lake: Lake) -> None:
    table = pa.table(
        {
            "id": pa.array([1], pa.int64()),
            "i8": pa.array([-1], pa.int8()),
            "f32": pa.array([1.5], pa.float32()),
            "nan": pa.array([float("inf")]),
            "bin": pa.array([b"\x00\xff"]),
            "dec": pa.array([Decimal("-12345678901234567890.12")], pa.decimal128(38, 2)),
            "local": pa.array([datetime(2013, 3, 10, 2, 30)], pa.timestamp("us")),  # noqa: DTZ001
            "nested": pa.array(
                [[{"a b": ("k", "v")[0], "n": None}]],
                pa.list_(pa.struct({"a b": pa.string(), "n": pa.int16()})),
            ),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "Odd \"c'l": ["ü"],
        }
    )
    lake.overwrite(THEIRS, table)
    rows = assert_readers_agree(lake, THEIRS, "id")
    assert rows == table.to_pylist()


def test_a_table_without_statistics_is_counted(lake: Lake, hand_written: "HandWritten") -> None:
    hand_written(protocol={"minReaderVersion": 1, "minWriterVersion": 2}, stats=None)
    assert lake.describe(THEIRS).rows == 5
    assert seen(lake, "SELECT count(*), min(s) FROM raw.theirs") == [(5, "a")]


HandWritten = Callable[..., None]


@pytest.fixture
def hand_written(lake: Lake) -> HandWritten:
    """Writes the Delta log of a table of five rows by hand, as another engine would."""

    def write(
        *,
        protocol: dict[str, Any],
        properties: dict[str, str] | None = None,
        physical_names: tuple[str, str] = ("id", "s"),
        deletion_vector: dict[str, Any] | None = None,
        stats: str | None = '{"numRecords": 5}',
    ) -> None:
        folder = Path(lake.uri(THEIRS))
        (folder / "_delta_log").mkdir(parents=True)
        pq.write_table(LONG_AND_TEXT.rename_columns(list(physical_names)), folder / "f.parquet")
        fields = [
            {
                "name": name,
                "type": kind,
                "nullable": True,
                "metadata": {
                    "delta.columnMapping.id": number,
                    "delta.columnMapping.physicalName": physical,
                }
                if physical != name
                else {},
            }
            for number, (name, kind, physical) in enumerate(
                zip(("id", "s"), ("long", "string"), physical_names, strict=True), start=1
            )
        ]
        add: dict[str, Any] = {
            "path": "f.parquet",
            "partitionValues": {},
            "size": (folder / "f.parquet").stat().st_size,
            "modificationTime": 0,
            "dataChange": True,
        }
        if stats is not None:
            add["stats"] = stats
        if deletion_vector is not None:
            add["deletionVector"] = deletion_vector
        metadata = {
            "id": "6b6f9d4e-3d0f-4b6a-9b39-0f5d6f0c9a11",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": [],
            "configuration": properties or {},
            "createdTime": 0,
        }
        actions = [{"protocol": protocol}, {"metaData": metadata}, {"add": add}]
        log = folder / "_delta_log" / f"{0:020d}.json"
        log.write_text("\n".join(json.dumps(action) for action in actions))

    return write


def test_deleted_rows_of_a_deletion_vector_stay_deleted(
    lake: Lake, hand_written: HandWritten
) -> None:
    # Rows 1 and 3, as a 64-bit Roaring bitmap in Z85: see "Deletion Vector Format" in the protocol.
    deleted = _inline_deletion_vector([1, 3])
    features = ["deletionVectors"]
    hand_written(
        protocol={
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": features,
            "writerFeatures": features,
        },
        properties={"delta.enableDeletionVectors": "true"},
        deletion_vector=deleted,
    )
    assert "deletionVectors" in Snapshot.of(DeltaTable(lake.uri(THEIRS))).unhonoured()
    assert seen(lake, "SELECT s FROM raw.theirs ORDER BY id") == [("a",), ("c",), ("e",)]
    assert lake.read(THEIRS).read_all()["id"].to_pylist() == [0, 2, 4]
    assert lake.describe(THEIRS).rows == 3


def test_mapped_columns_have_their_logical_names(lake: Lake, hand_written: HandWritten) -> None:
    hand_written(
        protocol={"minReaderVersion": 2, "minWriterVersion": 5},
        properties={"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"},
        physical_names=("col-1", "col-2"),
    )
    assert Snapshot.of(DeltaTable(lake.uri(THEIRS))).unhonoured() == "column mapping"
    assert seen(lake, "SELECT id, s FROM raw.theirs WHERE id = 1") == [(1, "b")]
    assert_readers_agree(lake, THEIRS, "id")


def _inline_deletion_vector(rows: list[int]) -> dict[str, Any]:
    """Return the descriptor of an inline deletion vector, written from the protocol's text."""

    def little(number: int, size: int) -> bytes:
        return number.to_bytes(size, "little")

    container = b"".join(little(row, 2) for row in rows)
    bitmap32 = (
        little(12346, 4)  # cookie: no run containers
        + little(1, 4)  # one container
        + little(0, 2)  # its key
        + little(len(rows) - 1, 2)  # its cardinality less one
        + little(16, 4)  # its offset
        + container
    )
    payload = little(1681511377, 4) + little(1, 8) + little(0, 4) + bitmap32
    return {
        "storageType": "i",
        "pathOrInlineDv": _z85(payload),
        "sizeInBytes": len(payload),
        "cardinality": len(rows),
    }


def _z85(data: bytes) -> str:
    alphabet = (
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    )
    padded = data + b"\0" * (-len(data) % 4)
    text = ""
    for start in range(0, len(padded), 4):
        number = int.from_bytes(padded[start : start + 4], "big")
        text += "".join(alphabet[number // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return text
