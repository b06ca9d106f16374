"""Which days of a source differ from what was loaded: by content, exactly, and never lost."""

import io
import os
import zipfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from pandera.ibis import Field

from mlops_assets.ingestion import FileSource, SourceRefusedError, find_changes, ingest
from mlops_assets.ingestion.attempts import ATTEMPTS
from mlops_assets.ingestion.changes import SourceChanges
from mlops_assets.lake import Lake, TableName, Window
from mlops_assets.quality import AuditPolicy, BatchRefused, Contract
from mlops_assets.settings import DuckDBLimits

ORDERS = TableName("raw", "orders")
ROWS = {
    "2013-05-01": ["1,10.5", "2,20"],
    "2013-05-02": ["3,30"],
    "2013-05-03": ["4,40", "5,50"],
    "2013-05-04": ["6,60"],
}
FIRST, END = date(2013, 5, 1), date(2013, 5, 5)
LATER = datetime.now(UTC) + timedelta(hours=1)


class Orders(Contract):
    """One row an order."""

    order_id: int = Field(description="Key of the order.")
    order_date: date = Field(description="Day on which it was placed.")
    amount: float = Field(ge=0, nullable=True, description="What was paid.")

    class Config:
        unique = ("order_id",)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    limits = DuckDBLimits(memory_limit="1GiB", threads=2, scratch=scratch)
    return Lake(str(tmp_path / "lake"), limits=limits)


def csv(rows: Mapping[str, list[str]]) -> str:
    lines = [f"{day},{row}" for day, found in rows.items() for row in found]
    return "\n".join(["order_date,order_id,amount", *lines, ""])


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("orders.csv"), text)  # its time is always the same
    return buffer.getvalue()


class Shop:
    """A source of orders, of which days are loaded into the lake and looked at again."""

    def __init__(self, lake: Lake, root: Path, path: str) -> None:
        self.lake, self.root = lake, root
        self.source = FileSource(path=path)
        self.contract: type[Contract] = Orders
        self.derived: dict[str, str] = {}

    def load(self, first: date = FIRST, end: date = END, policy: AuditPolicy | None = None) -> None:
        ingest(
            self.lake,
            self.source,
            self.contract,
            ORDERS,
            mode=Window("order_date", first, end),
            root=self.root,
            policy=policy,
            derived=self.derived,
        )

    def look(self, **options) -> SourceChanges:
        return find_changes(
            self.lake,
            self.source,
            self.contract,
            ORDERS,
            column="order_date",
            until=date(2014, 1, 1),
            root=self.root,
            derived=self.derived,
            **{"now": LATER, **options},
        )

    def changed(self, **options) -> list[str]:
        found = self.look(**options)
        assert (found.waiting, found.unreadable, found.not_compared) == ((), (), 0)
        return [str(change) for change in found.days]


@pytest.fixture
def archive(lake: Lake, root: Path) -> Shop:
    """One zip with all days, loaded."""
    shop = Shop(lake, root, "orders.csv.zip")
    write(shop, ROWS)
    shop.load()
    return shop


def write(shop: Shop, rows: Mapping[str, list[str]]) -> None:
    (shop.root / "orders.csv.zip").write_bytes(zipped(csv(rows)))


def test_what_is_loaded_is_no_change(archive: Shop) -> None:
    assert archive.changed() == []
    assert archive.changed() == []


def test_a_table_that_was_never_loaded_is_left_alone(lake: Lake, root: Path) -> None:
    shop = Shop(lake, root, "orders.csv.zip")
    write(shop, ROWS)

    assert shop.changed() == []


@pytest.mark.parametrize(
    ("day", "rows", "said"),
    [
        ("2013-05-03", ["4,41", "5,50"], "2013-05-03 (2 rows, other values)"),
        ("2013-05-03", ["4,40", "5,50", "7,70"], "2013-05-03 (3 rows, were 2)"),
        ("2013-05-03", ["4,40"], "2013-05-03 (1 rows, were 2)"),
        ("2013-05-02", [], "2013-05-02 (0 rows, were 1)"),
        ("2013-05-03", ["4,40", "5,"], "2013-05-03 (2 rows, other values)"),
    ],
)
def test_a_corrected_row_gives_exactly_its_day(
    archive: Shop, day: str, rows: list[str], said: str
) -> None:
    write(archive, {**ROWS, day: rows})

    assert archive.changed() == [said]
    archive.load(date.fromisoformat(day), date.fromisoformat(day) + timedelta(days=1), LENIENT)
    assert archive.changed() == []


LENIENT = AuditPolicy(max_refused_share=1, min_rows=0)


def test_a_row_that_moves_to_another_day_changes_both(archive: Shop) -> None:
    write(archive, {**ROWS, "2013-05-01": ["1,10.5"], "2013-05-02": ["3,30", "2,20"]})

    assert archive.changed() == ["2013-05-01 (1 rows, were 2)", "2013-05-02 (2 rows, were 1)"]


def test_the_same_rows_in_other_bytes_are_no_change(archive: Shop) -> None:
    (archive.root / "orders.csv.zip").write_bytes(
        zipped(csv(dict(reversed([(day, rows[::-1]) for day, rows in ROWS.items()]))))
    )

    assert archive.changed() == []


def test_the_same_file_written_again_is_not_even_parsed(
    archive: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.look()
    write(archive, ROWS)
    os.utime(archive.root / "orders.csv.zip", (0, 0))

    with monkeypatch.context() as patch:
        patch.setattr("mlops_assets.ingestion.staging.read_csv", None)
        assert archive.changed() == []
        assert archive.changed() == []


def test_a_correction_counts_even_with_the_old_time_of_writing(archive: Shop) -> None:
    file = archive.root / "orders.csv.zip"
    archive.look()
    before = file.stat()
    write(archive, {**ROWS, "2013-05-03": ["4,41", "5,50"]})
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]


def test_days_outside_those_that_were_ever_loaded_are_nobodys(lake: Lake, root: Path) -> None:
    shop = Shop(lake, root, "orders.csv.zip")
    write(shop, ROWS)
    shop.load(date(2013, 5, 2), date(2013, 5, 4))
    write(shop, {day: [f"{row}1" for row in rows] for day, rows in ROWS.items()})

    assert [str(change.day) for change in shop.look().days] == ["2013-05-02", "2013-05-03"]
    shop.load(date(2013, 5, 2), date(2013, 5, 5))
    assert shop.changed() == []


def test_a_gap_between_loaded_days_is_late(lake: Lake, root: Path) -> None:
    shop = Shop(lake, root, "orders.csv.zip")
    write(shop, ROWS)
    shop.load(date(2013, 5, 1), date(2013, 5, 2))
    shop.load(date(2013, 5, 4), date(2013, 5, 5))

    assert shop.changed() == ["2013-05-02 (1 rows, late)", "2013-05-03 (2 rows, late)"]


def test_refused_rows_are_no_change_until_they_are_corrected(archive: Shop) -> None:
    bad = {**ROWS, "2013-05-03": ["4,-40", "5,fifty"]}
    write(archive, bad)
    archive.load(policy=LENIENT)
    assert archive.changed() == []

    write(archive, {**ROWS, "2013-05-03": ["4,-40", "5,fifty-five"]})
    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]


def test_a_refused_batch_is_not_asked_for_again_until_it_changes(archive: Shop) -> None:
    write(archive, {**ROWS, "2013-05-03": ["4,-40", "5,-50"]})
    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]
    with pytest.raises(BatchRefused):
        archive.load()

    assert archive.changed() == []
    write(archive, {**ROWS, "2013-05-03": ["4,-40", "5,50"]})
    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]
    write(archive, ROWS)
    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]  # of what was read last


@pytest.fixture
def files(lake: Lake, root: Path) -> Shop:
    """A Parquet file a day, without that of May 3rd, loaded."""
    shop = Shop(lake, root, "orders-{date}.parquet")
    for day, rows in ROWS.items():
        if day != "2013-05-03":
            write_day(shop, day, rows)
    shop.source = FileSource(path="orders-{date}.parquet", required=False)
    shop.load()
    return shop


def write_day(shop: Shop, day: str, rows: list[str], *, dated: str | None = None) -> None:
    values = ", ".join(f"(DATE '{dated or day}', {row})" for row in rows)
    duckdb.sql(
        f"COPY (SELECT * FROM (VALUES {values}) AS t(order_date, order_id, amount)) "
        f"TO '{shop.root}/orders-{day}.parquet' (FORMAT parquet)"
    )


def test_a_file_that_comes_late_gives_its_day(files: Shop) -> None:
    assert files.changed() == []
    write_day(files, "2013-05-03", ROWS["2013-05-03"])

    assert files.changed() == ["2013-05-03 (2 rows, late)"]
    files.load(date(2013, 5, 3), date(2013, 5, 4))
    assert files.changed() == []


def test_a_file_that_is_replaced_gives_its_day(files: Shop) -> None:
    write_day(files, "2013-05-02", ["3,31"])

    assert files.changed() == ["2013-05-02 (1 rows, other values)"]


def test_a_file_that_is_cleaned_away_withdraws_nothing(files: Shop) -> None:
    (files.root / "orders-2013-05-02.parquet").unlink()
    assert files.changed() == []
    for file in files.root.glob("*.parquet"):
        file.unlink()
    assert files.changed() == []


def test_rows_in_the_file_of_another_day_are_no_day_of_their_own(files: Shop) -> None:
    write_day(files, "2013-05-03", ROWS["2013-05-03"], dated="2013-05-02")

    assert files.changed() == []


def test_only_files_that_changed_are_read(files: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    files.look()
    write_day(files, "2013-05-02", ["3,31"])
    opened: list[str] = []
    stage = __import__("mlops_assets.ingestion.changes", fromlist=["stage"]).stage

    def noting(*arguments, locations, **options):
        opened.extend(location.uri for location in locations)
        return stage(*arguments, locations=locations, **options)

    monkeypatch.setattr("mlops_assets.ingestion.changes.stage", noting)

    assert files.changed() == ["2013-05-02 (1 rows, other values)"]
    assert files.changed() == ["2013-05-02 (1 rows, other values)"]
    assert opened == ["orders-2013-05-02.parquet"]


def test_a_broken_file_is_named_and_the_others_go_on(files: Shop) -> None:
    write_day(files, "2013-05-02", ["3,31"])
    broken = files.root / "orders-2013-05-03.parquet"
    broken.write_bytes(b"PAR1 no")

    found = files.look()
    assert [str(change.day) for change in found.days] == ["2013-05-02"]
    assert len(found.unreadable) == 1
    assert found.unreadable[0].startswith("orders-2013-05-03.parquet: ")
    assert files.look().unreadable == found.unreadable

    write_day(files, "2013-05-03", ["4,40"])
    assert [change.day for change in files.look().days] == [date(2013, 5, 2), date(2013, 5, 3)]


def test_a_broken_archive_loses_no_change(archive: Shop) -> None:
    whole = zipped(csv({**ROWS, "2013-05-03": ["4,41", "5,50"]}))
    (archive.root / "orders.csv.zip").write_bytes(whole[:-40])

    found = archive.look()
    assert (found.days, len(found.unreadable)) == ((), 1)
    with pytest.raises(SourceRefusedError):
        archive.load()  # a load that could not read does not pass for one that did

    (archive.root / "orders.csv.zip").write_bytes(whole)
    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]


def test_a_file_that_was_written_just_now_waits(archive: Shop) -> None:
    write(archive, {**ROWS, "2013-05-03": ["4,41", "5,50"]})

    found = archive.look(now=datetime.now(UTC))
    assert (found.days, found.waiting) == ((), ("orders.csv.zip was written just now",))
    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]


def test_a_file_that_changes_while_it_is_read_waits(
    archive: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is half old and half new is never compared."""
    write(archive, {**ROWS, "2013-05-03": ["4,41", "5,50"]})
    copy_once = __import__("mlops_assets.ingestion.copies", fromlist=["x"])._copy_once

    def while_it_is_written(*arguments, **options):
        copied = copy_once(*arguments, **options)
        write(archive, {**ROWS, "2013-05-04": [f"6,{os.urandom(3).hex()}"]})
        return copied

    with monkeypatch.context() as patch:
        patch.setattr("mlops_assets.ingestion.copies._copy_once", while_it_is_written)
        patch.setattr("mlops_assets.ingestion.copies._FIRST_PAUSE_S", 0)
        found = archive.look()

    assert (found.days, found.waiting) == ((), ("orders.csv.zip is being written",))


def test_what_there_is_no_time_for_waits(files: Shop) -> None:
    write_day(files, "2013-05-03", ROWS["2013-05-03"])
    answers = iter([True, True, False, False])

    found = files.look(may_go_on=lambda: next(answers))

    assert [text.split()[0] for text in found.waiting] == [
        "orders-2013-05-03.parquet",
        "orders-2013-05-04.parquet",
    ]
    assert files.changed() == ["2013-05-03 (2 rows, late)"]


def test_another_declaration_is_not_a_correction(archive: Shop) -> None:
    write(archive, {**ROWS, "2013-05-03": ["4,41", "5,50"]})
    archive.derived = {"amount": "amount_paid * 2"}

    found = archive.look()

    assert (found.days, found.not_compared) == ((), 4)


def test_days_loaded_before_this_was_recorded_are_compared_with_the_table(archive: Shop) -> None:
    with archive.lake.connect(tables=[ATTEMPTS]) as con:
        log = con.sql(f"SELECT * EXCLUDE (source_days) FROM {ATTEMPTS.sql}").to_arrow_table()
    archive.lake.overwrite(ATTEMPTS, log, allow_schema_change=True)

    assert archive.changed() == []
    write(archive, {**ROWS, "2013-05-03": ["4,41", "5,50"]})
    assert archive.changed() == ["2013-05-03 (2 rows, other values)"]
    archive.load(date(2013, 5, 3), date(2013, 5, 4))
    assert archive.changed() == []
