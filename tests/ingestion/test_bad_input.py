"""What bad input gets: a clear error or a refused row, and a table that is as good as before.

Every case goes through `ingest`, as production does. For each: the message names file, row, column,
value and rule as far as they apply; the last good version stays current with the same rows; what
was refused is in quarantine; nothing read is lost.
"""

import contextlib
import datetime as dt
import gzip
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandera.ibis as pa_ibis
import pytest

from mlops_assets.ingestion import (
    SOURCES,
    Ingestion,
    SourceChangedError,
    SourceRefusedError,
    ingest,
)
from mlops_assets.lake import Lake, StorageReadOnlyError, TableName, Window
from mlops_assets.quality import (
    AuditPolicy,
    BatchRefused,
    Contract,
    TimestampUTC,
    quarantine_name,
)
from mlops_assets.settings import DuckDBLimits

TABLE = TableName.parse("raw/flights")
LENIENT = AuditPolicy(max_refused_share=0.5)
HEADER = "flight,day,delay,speed,left_at\n"
GOOD = "".join(
    f"{number},2013-01-{number:02},{number - 3},{400 + number}.5,2013-01-{number:02}T10:00:00Z\n"
    for number in range(1, 11)
)
NEXT = "11,2013-01-11,0,420,2013-01-11T10:00:00Z\n"


class Flights(Contract):
    """One row a flight."""

    flight: int = pa_ibis.Field(ge=1, description="Number of the flight")
    day: dt.date = pa_ibis.Field(description="Day of departure")
    delay: int = pa_ibis.Field(ge=-120, le=2000, nullable=True, description="Delay in minutes")
    speed: float = pa_ibis.Field(gt=0, nullable=True, description="Speed in mph")
    left_at: TimestampUTC = pa_ibis.Field(nullable=True, description="When it left")

    class Config:
        """The key."""

        unique = ["flight"]  # noqa: RUF012 - the way Pandera declares keys


@dataclass(frozen=True)
class Landing:
    """A project with a lake that holds ten good flights, and a file to be replaced."""

    root: Path
    lake: Lake

    @property
    def file(self) -> Path:
        return self.root / "flights.csv"

    def write(self, text: str | bytes) -> None:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def ingest(self, path: str = "flights.csv", **options: Any) -> Ingestion:
        return ingest(
            self.lake,
            SOURCES.validate_python({"kind": "file", "path": path, **options.pop("source", {})}),
            Flights,
            TABLE,
            **{"mode": "snapshot", "root": self.root, "policy": LENIENT, **options},
        )

    def flights(self) -> list[int]:
        return sorted(self.lake.read(TABLE, columns=["flight"]).read_all()["flight"].to_pylist())

    def quarantine(self) -> list[dict[str, Any]]:
        if not self.lake.exists(quarantine_name(TABLE)):
            return []
        rows = self.lake.read(quarantine_name(TABLE)).read_all().to_pylist()
        return sorted(rows, key=lambda row: (row["source_row"] or 0, str(row["source"])))


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    limits = DuckDBLimits(memory_limit="512MiB", threads=2, scratch=tmp_path / "scratch")
    root = tmp_path / "project"
    root.mkdir()
    landing = Landing(root, Lake(str(tmp_path / "lake"), limits=limits))
    landing.write(HEADER + GOOD)
    landing.ingest()
    return landing


@pytest.fixture
def untouched(landing: Landing) -> Iterator[None]:
    """Check that the table is at the same version with the same rows after the test."""
    version, flights = landing.lake.version(TABLE), landing.flights()
    yield
    assert (landing.lake.version(TABLE), landing.flights()) == (version, flights)


FILE_FAULTS: dict[str, tuple[str | bytes, list[str]]] = {
    "missing column": (
        "flight,day,delay,speed\n1,2013-01-01,1,1\n",
        ["flights.csv", "lacks 1 of the contract's columns: 'left_at'", "rule columns"],
    ),
    "extra column": (
        "flight,day,delay,speed,left_at,gate\n1,2013-01-01,1,1,,A1\n",
        ["flights.csv", "'gate'", "the contract lacks", "rule columns"],
    ),
    "renamed column": (
        "flight,day,dealy,speed,left_at\n1,2013-01-01,1,1,\n",
        ["flights.csv", "Is 'dealy' the contract's 'delay'?"],
    ),
    "column in other letters": (
        "Flight,day,delay,speed,left_at\n1,2013-01-01,1,1,\n",
        ["Is 'Flight' the contract's 'flight'?"],
    ),
    "repeated column": (
        "flight,day,delay,speed,left_at,delay\n1,2013-01-01,1,1,,2\n",
        ["flights.csv", "more than once: 'delay'", "rule unique_columns"],
    ),
    "2,000 columns": (
        ",".join(f"c{n}" for n in range(2000)) + "\n" + ",".join("1" * 2000) + "\n",
        ["header of 2000 columns", "2000 columns that the contract lacks", "and 1995 more"],
    ),
    "no header": (GOOD, ["flights.csv", "lacks 5 of the contract's columns", "rule columns"]),
    "empty file": (b"", ["flights.csv", "is empty (0 bytes)", "rule not_empty"]),
    "only blank lines": (b"\n\n", ["flights.csv", "lacks even a header", "rule not_empty"]),
    "bad encoding": (
        (HEADER + GOOD).encode() + b"11,2013-01-11,caf\xe9,1,\n",
        [
            "flights.csv",
            "line 12",
            f"byte {len(HEADER + GOOD) + 17} ",
            "not valid utf-8",
            "bytes e9",
            "rule encoding",
        ],
    ),
    "character cut at the end": (
        (HEADER + GOOD).encode() + b"11,\xe2\x82",
        ["flights.csv", "line 12", "not valid utf-8", "unexpected end of data"],
    ),
    "UTF-16": ((HEADER + GOOD).encode("utf-16"), ["flights.csv", "line 1", "rule encoding"]),
    "NUL bytes": (
        (HEADER + GOOD).encode() + b"\0" * 512,
        ["flights.csv", "line 12", "NUL byte", "rule nul_bytes"],
    ),
    "unclosed quote": (
        HEADER + '1,"2013-01-01,1,1,\n' + GOOD,
        ["flights.csv", "row 1", "from line 2 on", "rule quoting"],
    ),
    "stray quote": (
        HEADER + GOOD + '11,"2013-01-11"x,1,1,\n',
        ["flights.csv", "row 11", "from line 12 on", "rule quoting"],
    ),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_file_without_readable_rows_is_refused_whole(landing: Landing, fault: str) -> None:
    content, told = FILE_FAULTS[fault]
    landing.write(content)
    with pytest.raises(SourceRefusedError) as raised:
        landing.ingest()
    for words in [*told, "raw/flights stays at version", "raw/flights__quarantine"]:
        assert words in str(raised.value)
    with pytest.raises(SourceRefusedError):
        landing.ingest()  # a retry adds nothing to quarantine
    (row,) = landing.quarantine()
    assert (row["source"], row["source_row"], row["payload"]) == ("flights.csv", None, None)
    assert row["source_hash"] == raised.value.refusals[0].source_hash
    assert row["reasons"][0]["rule"].startswith(raised.value.refusals[0].rule)


DAMAGED = {
    "truncated gzip": ("f.csv.gz", gzip.compress((HEADER + GOOD).encode())[:-20]),
    "gzip with a wrong checksum": (
        "f.csv.gz",
        gzip.compress((HEADER + GOOD).encode())[:-8] + b"\0" * 8,
    ),
    "not gzip": ("f.csv.gz", b"flight,day\n"),
    "truncated bzip2": ("f.csv.bz2", b"BZh91AY&SY"),
    "not bzip2": ("f.csv.bz2", b"flight,day\n1,2\n"),
    "not xz": ("f.csv.xz", b"flight,day\n1,2\n"),
    "not zstandard": ("f.csv.zst", b"flight,day\n1,2\n"),
    "not zip": ("f.csv.zip", b"flight,day\n1,2\n"),
    "not Parquet": ("f.parquet", b"flight,day\n1,2\n"),
    "truncated Parquet": ("f.parquet", b"PAR1" + b"\0" * 100),
    "empty Parquet": ("f.parquet", b""),
    "not JSON": ("f.json", b'{"flight": 1, "day": '),
    "empty JSON": ("f.json", b""),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_file_is_refused_whole(landing: Landing, fault: str) -> None:
    name, content = DAMAGED[fault]
    (landing.root / name).write_bytes(content)
    with pytest.raises(SourceRefusedError) as raised:
        landing.ingest(name)
    assert name in str(raised.value)
    assert str(landing.lake.limits.scratch) not in str(raised.value)
    assert [row["source"] for row in landing.quarantine()] == [name]


ROW_FAULTS: dict[str, tuple[str, int, tuple[str | None, str, str | None]]] = {
    "a word for a number": (
        "11,2013-01-11,late,1,\n",
        11,
        ("delay", "type BIGINT", "late"),
    ),
    "a fraction for an integer": (
        "11,2013-01-11,1.5,1,\n",
        11,
        ("delay", "type BIGINT", "1.5"),
    ),
    "a date that does not exist": (
        "11,2013-02-30,1,1,\n",
        11,
        ("day", "type DATE", "2013-02-30"),
    ),
    "no key": ("NA,2013-01-11,1,1,\n", 11, ("flight", "null", None)),
    "out of range": ("11,2013-01-11,5000,1,\n", 11, ("delay", "2000", "5000")),
    "infinity": ("11,2013-01-11,1,inf,\n", 11, ("speed", "finite", "inf")),
    "not a number": ("11,2013-01-11,1,nan,\n", 11, ("speed", "finite", "nan")),
    "too few fields": (
        "11,2013-01-11\n",
        11,
        ("_row", "a row of 5 fields", '["11", "2013-01-11"]'),
    ),
    "too many fields": (
        "11,2013-01-11,1,1,,9\n",
        11,
        ("_row", "a row of 5 fields", '["11", "2013-01-11", "1", "1", "", "9"]'),
    ),
}


@pytest.mark.parametrize("fault", ROW_FAULTS)
def test_a_bad_row_goes_to_quarantine_and_the_others_are_published(
    landing: Landing, fault: str
) -> None:
    line, number, (column, rule, value) = ROW_FAULTS[fault]
    landing.write(HEADER + GOOD + line + NEXT.replace("11,", "12,", 1))
    done = landing.ingest()
    assert landing.flights() == [*range(1, 11), 12]
    (row,) = landing.quarantine()
    assert (row["source"], row["source_row"]) == ("flights.csv", number)
    assert row["source_hash"] == done.files[0].sha256
    # A row that cannot be told apart into columns also lacks its key.
    reasons = [r for r in row["reasons"] if column != "_row" or r["column_name"] == "_row"]
    assert [(r["column_name"], r["value"]) for r in reasons] == [(column, value)]
    assert rule in reasons[0]["rule"]
    assert done.publication.rows + done.publication.quarantined == done.files[0].rows == 12


def test_both_rows_of_a_duplicate_key_are_refused(landing: Landing) -> None:
    landing.write(HEADER + GOOD + "3,2013-01-03,99,1,\n")
    done = landing.ingest()
    assert landing.flights() == [1, 2, *range(4, 11)]
    assert [row["source_row"] for row in landing.quarantine()] == [3, 11]
    assert done.publication.rows + done.publication.quarantined == done.files[0].rows == 11


@pytest.mark.usefixtures("untouched")
def test_too_many_bad_rows_refuse_the_batch(landing: Landing) -> None:
    landing.write(HEADER + GOOD.replace(",2013-01", ",2013-13"))
    with pytest.raises(BatchRefused) as raised:
        landing.ingest()
    for words in ("raw/flights", "day", "type DATE", "2013-13-01", "flights.csv"):
        assert words in str(raised.value)
    assert len(landing.quarantine()) == 10


@pytest.mark.usefixtures("untouched")
def test_a_header_only_snapshot_would_empty_the_table_and_is_refused(landing: Landing) -> None:
    landing.write(HEADER)
    with pytest.raises(BatchRefused, match="0 rows"):
        landing.ingest()


def test_a_header_only_file_is_a_day_without_events_if_one_says_so(landing: Landing) -> None:
    landing.write(HEADER)
    window = Window("day", dt.date(2013, 1, 3), dt.date(2013, 1, 5))
    with pytest.raises(BatchRefused, match="2013-01-03 has 1 published rows"):
        landing.ingest(mode=window)
    assert landing.flights() == [*range(1, 11)]
    done = landing.ingest(mode=window, policy=AuditPolicy(min_rows=0))
    assert done.files[0].rows == done.publication.rows == 0
    assert landing.flights() == [1, 2, *range(5, 11)]


@pytest.mark.parametrize(
    "text",
    [
        (HEADER + GOOD + NEXT).replace("\n", "\r\n"),
        "﻿" + HEADER + GOOD + NEXT,
        "left_at,speed,delay,day,flight\n"
        + "".join(
            ",".join(reversed(line.split(","))) + "\n" for line in (GOOD + NEXT).splitlines()
        ),
        HEADER
        + "".join(
            ",".join(f'"{field}"' for field in line.split(",")) + "\n"
            for line in (GOOD + NEXT).splitlines()
        ),
    ],
    ids=["CRLF", "byte-order mark", "reordered columns", "all quoted"],
)
def test_unusual_but_valid_files_are_published(landing: Landing, text: str) -> None:
    landing.write(text)
    assert landing.ingest().publication.quarantined == 0
    assert landing.flights() == [*range(1, 12)]


class Notes(Contract):
    """One row a note."""

    id: int = pa_ibis.Field(description="Number of the note")
    note: str = pa_ibis.Field(nullable=True, description="What it says")


def test_line_ends_inside_quotes_belong_to_the_value(landing: Landing) -> None:
    landing.write('id,note\r\n1,"two\r\nlines"\r\n2,"say ""no"""\r\nx,"a\nb"\r\n')
    table = TableName.parse("raw/notes")
    source = SOURCES.validate_python({"kind": "file", "path": "flights.csv"})
    ingest(landing.lake, source, Notes, table, mode="snapshot", root=landing.root, policy=LENIENT)
    rows = landing.lake.read(table, columns=["id", "note", "_source_row"]).read_all().to_pylist()
    assert [tuple(row.values()) for row in rows] == [(1, "two\r\nlines", 1), (2, 'say "no"', 2)]
    (refused,) = landing.lake.read(quarantine_name(table)).read_all().to_pylist()
    assert (refused["source_row"], refused["reasons"][0]["value"]) == (3, "x")


@pytest.mark.usefixtures("untouched")
def test_one_unreadable_file_of_a_glob_publishes_none(landing: Landing) -> None:
    (landing.root / "more-1.csv").write_text(HEADER + NEXT)
    (landing.root / "more-2.csv").write_text("flight\n12\n")
    with pytest.raises(SourceRefusedError, match="1 of 2 files cannot be read"):
        landing.ingest("more-*.csv")
    assert [row["source"] for row in landing.quarantine()] == ["more-2.csv"]


@pytest.mark.usefixtures("untouched")
def test_a_file_that_keeps_changing_is_not_published(landing: Landing) -> None:
    stop = threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            with landing.file.open("a") as file:
                file.write(NEXT)
            stop.wait(0.0005)

    landing.write(HEADER + GOOD * 200_000)  # large enough to be written to during any read
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        with pytest.raises(SourceChangedError, match=r"flights\.csv was changed while"):
            landing.ingest()
    finally:
        stop.set()
        writer.join()


@contextlib.contextmanager
def _without_privileges(folder: Path) -> Iterator[None]:
    """Make a folder unwritable, also for root, who may write anywhere as long as it is root."""
    uid = os.geteuid()
    for parent in [folder, *folder.parents]:
        if parent.stat().st_uid == uid and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o555)
    if uid == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if uid == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        for path in folder.rglob("*"):
            path.chmod(0o755)


def test_a_lake_that_is_read_only_keeps_its_table(landing: Landing) -> None:
    landing.write(HEADER + GOOD + NEXT)
    scratch = landing.lake.limits.scratch
    scratch.chmod(0o777)
    for path in scratch.iterdir():
        path.chmod(0o777)
    with (
        _without_privileges(Path(landing.lake.root)),
        pytest.raises(StorageReadOnlyError, match="raw/flights"),
    ):
        landing.ingest()
    assert (landing.lake.version(TABLE), landing.flights()) == (0, [*range(1, 11)])
    landing.ingest()  # writable again: the same batch is published
    assert (landing.lake.version(TABLE), landing.flights()) == (1, [*range(1, 12)])
