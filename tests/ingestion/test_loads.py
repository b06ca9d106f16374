"""What is loaded of a daily table and what is not, after good days, bad days and mended ones."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pandera.ibis as pa
import pytest

from mlops_assets.ingestion import (
    ATTEMPTS,
    OPEN_QUARANTINE,
    SOURCES,
    Ingestion,
    IngestionError,
    Loads,
    ingest,
    table_loads,
)
from mlops_assets.lake import Lake, StorageReadOnlyError, TableName, Window
from mlops_assets.quality import AuditPolicy, BatchRefused, Contract, read_quarantine
from mlops_assets.settings import DuckDBLimits

TABLE = TableName("raw", "orders")
HEADER = "order_id,day,amount\n"


class Orders(Contract):
    """One row an order."""

    order_id: int = pa.Field(description="Key of the order")
    day: dt.date = pa.Field(description="Day on which it was placed")
    amount: float = pa.Field(ge=0, description="What was paid")

    class Config:
        """The key."""

        unique = ("order_id",)


def days(first: int, last: int | None = None) -> Window:
    return Window("day", dt.date(2024, 1, first), dt.date(2024, 1, (last or first) + 1))


@dataclass(frozen=True)
class Shop:
    """Daily files of orders, and the table they go to."""

    root: Path
    lake: Lake
    path: str = "orders-{date:%Y-%m-%d}.csv"

    def file(self, day: int) -> Path:
        return self.root / f"orders-2024-01-{day:02}.csv"

    def write(self, day: int, *amounts: float | str, stray: str = "") -> None:
        rows = (f"{day * 100 + n},2024-01-{day:02},{a}\n" for n, a in enumerate(amounts))
        self.file(day).write_text(HEADER + "".join(rows) + stray)

    def load(self, window: Window | str, **options: object) -> Ingestion:
        source = SOURCES.validate_python({"kind": "file", "path": self.path})
        defaults = {"root": self.root, "policy": AuditPolicy(max_refused_share=0.5)}
        return ingest(self.lake, source, Orders, TABLE, mode=window, **{**defaults, **options})

    def state(self) -> Loads:
        return table_loads(self.lake, TABLE)

    def open_rows(self) -> list[tuple[str, int]]:
        query = OPEN_QUARANTINE.format(quarantine="raw.orders__quarantine")
        with self.lake.connect() as con:
            return con.execute(f"SELECT source, source_row FROM ({query}) ORDER BY ALL").fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    limits = DuckDBLimits(memory_limit="512MiB", threads=2, scratch=tmp_path / "scratch")
    root = tmp_path / "shop"
    root.mkdir()
    return Shop(root, Lake(str(tmp_path / "lake"), limits=limits))


def test_a_table_that_nobody_tried_to_load_is_short_of_nothing(shop: Shop) -> None:
    assert shop.state() == Loads(TABLE, 0, (), 0)


def test_missing_and_refused_days_are_named_until_they_are_mended(shop: Shop) -> None:
    for day in (1, 2, 4):
        shop.write(day, 10, 20)
    shop.write(3, -1, -2, 30)
    for day in (1, 2, 4):
        shop.load(days(day))
    with pytest.raises(BatchRefused):
        shop.load(days(3))
    with pytest.raises(IngestionError):
        shop.load(days(6))

    [line] = shop.state().lines()
    assert line.startswith("raw/orders: 3 of 6 days not loaded: ")
    assert "2024-01-03 (refused: 66.67% of 3 rows, amount: at least 0)" in line
    assert "2024-01-05 (never loaded)" in line
    assert "2024-01-06 (missing: no file in " in line
    assert "matches 'orders-2024-01-06.csv')" in line

    shop.write(3, 1, 2, 30)
    for day in (5, 6):
        shop.write(day, 10)
    for day in (3, 5, 6):
        shop.load(days(day))
    assert shop.state().lines() == []
    assert shop.state().days == 6


def test_a_good_day_afterwards_does_not_hide_an_earlier_bad_one(shop: Shop) -> None:
    with pytest.raises(IngestionError):
        shop.load(days(1))
    shop.write(2, 10)
    shop.load(days(2))
    [shortfall] = shop.state().shortfalls
    assert (shortfall.first, shortfall.outcome) == (dt.date(2024, 1, 1), "missing")


def test_a_day_that_cannot_be_reloaded_keeps_its_rows_and_says_so(shop: Shop) -> None:
    shop.write(1, 10)
    shop.load(days(1))
    shop.file(1).write_bytes(b"")
    with pytest.raises(IngestionError):
        shop.load(days(1))
    [line] = shop.state().lines()
    assert line.startswith("raw/orders: 1 of 1 days not reloaded, earlier rows stay: 2024-01-01 (u")
    assert "is empty (0 bytes)" in line


def test_days_that_fail_together_are_told_together(shop: Shop) -> None:
    shop.write(1, 10)
    with pytest.raises(IngestionError):
        shop.load(days(1, 9))
    [shortfall] = shop.state().shortfalls
    assert (shortfall.first, shortfall.last) == (dt.date(2024, 1, 1), dt.date(2024, 1, 9))
    assert "2024-01-02.csv" in shortfall.reason


def test_a_restore_takes_days_away_and_they_are_named(shop: Shop) -> None:
    for day in (1, 2, 3):
        shop.write(day, 10)
        shop.load(days(day))
    shop.lake.restore(TABLE, 0)
    shop.write(4, 10)
    shop.load(days(4))
    [shortfall] = shop.state().shortfalls
    assert (shortfall.first, shortfall.last) == (dt.date(2024, 1, 2), dt.date(2024, 1, 3))


def test_a_kill_between_publishing_and_taking_note_loses_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IngestionError):
        shop.load(days(1))
    shop.write(1, 10)
    with monkeypatch.context() as patch:
        patch.setattr("mlops_assets.ingestion.ingesting.record", lambda *_: exit_now())
        with pytest.raises(SystemExit):
            shop.load(days(1))
    assert shop.state().lines() == []


def exit_now() -> None:
    raise SystemExit(9)


def test_a_snapshot_that_fails_is_named_until_the_next_one(shop: Shop) -> None:
    whole = Shop(shop.root, shop.lake, path="all.csv")
    with pytest.raises(IngestionError):
        whole.load("snapshot")
    [line] = whole.state().lines()
    assert line.startswith("raw/orders: not loaded: missing: no file in ")
    (whole.root / "all.csv").write_text(HEADER + "1,2024-01-01,5\n")
    whole.load("snapshot")
    assert whole.state().lines() == []


def test_each_attempt_is_a_row_that_anybody_can_query(shop: Shop) -> None:
    shop.write(1, 10)
    shop.load(days(1), metadata={"dagster_run": "r1"})
    with pytest.raises(IngestionError):
        shop.load(days(2))
    info = shop.lake.describe(ATTEMPTS)
    assert info.description
    assert all(field.metadata[b"comment"] for field in info.schema)
    rows = sorted(
        shop.lake.read(ATTEMPTS).read_all().to_pylist(), key=lambda row: row["attempted_at"]
    )
    assert [(row["outcome"], row["rows_read"], row["table_version"]) for row in rows] == [
        ("published", 1, 0),
        ("missing", None, 0),
    ]
    assert rows[0]["metadata"] == '{"dagster_run": "r1"}'
    assert rows[0]["sources"] == ["orders-2024-01-01.csv"]


def test_a_lake_that_takes_no_notes_does_not_hide_the_error(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageReadOnlyError("the lake is read-only")

    monkeypatch.setattr("mlops_assets.ingestion.attempts.record", full)
    with pytest.raises(IngestionError, match="orders-2024-01-01") as caught:
        shop.load(days(1))
    assert "the lake is read-only" in caught.value.__notes__[0]


class TestOpenQuarantine:
    """Rows are open until a later load replaces the day, or the source, that brought them."""

    def test_a_mended_file_closes_its_rows(self, shop: Shop) -> None:
        shop.write(1, 10, -1)
        shop.write(2, 10, -1)
        shop.load(days(1, 2))
        assert shop.open_rows() == [("orders-2024-01-01.csv", 2), ("orders-2024-01-02.csv", 2)]
        shop.write(1, 10, 1)
        shop.load(days(1))
        assert shop.open_rows() == [("orders-2024-01-02.csv", 2)]
        assert shop.state().open_quarantine == 1
        assert read_quarantine(shop.lake, TABLE).num_rows == 2

    def test_the_same_file_again_stays_open_and_is_not_repeated(self, shop: Shop) -> None:
        shop.write(1, 10, -1)
        shop.write(2, 10)
        for window in (days(1, 2), days(1), days(1)):
            shop.load(window)
        assert shop.open_rows() == [("orders-2024-01-01.csv", 2)]
        assert read_quarantine(shop.lake, TABLE).num_rows == 1

    def test_a_file_put_back_opens_its_rows_again(self, shop: Shop) -> None:
        for amount in (-1, 1, -1):
            shop.write(1, 10, amount)
            shop.load(days(1))
        assert shop.open_rows() == [("orders-2024-01-01.csv", 2)]

    def test_rows_without_a_day_are_closed_by_their_file(self, shop: Shop) -> None:
        for day in (1, 2):
            shop.write(day, 10, 20, stray="999,,5\n" if day == 1 else "")
        shop.load(days(1, 2))
        shop.load(days(2))
        assert shop.open_rows() == [("orders-2024-01-01.csv", 3)]
        shop.write(1, 10, 20)
        shop.load(days(1))
        assert shop.open_rows() == []

    def test_an_unreadable_file_is_closed_once_it_was_read(self, shop: Shop) -> None:
        shop.file(1).write_bytes(b"")
        for _ in range(2):
            with pytest.raises(IngestionError):
                shop.load(days(1))
        assert [row for row, _ in shop.open_rows()] == ["orders-2024-01-01.csv"]
        shop.write(1, 10)
        shop.load(days(1))
        assert shop.open_rows() == []

    def test_an_appended_file_is_closed_by_its_mended_self(self, shop: Shop) -> None:
        glob = Shop(shop.root, shop.lake, path="orders-*.csv")
        glob.write(1, -1)
        glob.write(2, -1)
        strict = AuditPolicy(max_refused_share=0)
        with pytest.raises(BatchRefused):
            glob.load("append", policy=strict)
        glob.write(1, 1)
        glob.file(2).unlink()
        glob.load("append", policy=strict)
        assert glob.open_rows() == [("orders-2024-01-02.csv", 1)]


@pytest.mark.parametrize("window", [days(3), days(1, 9)], ids=["a day", "a range"])
def test_a_row_of_another_day_breaks_one_rule(shop: Shop, window: Window) -> None:
    for day in range(1, 10):
        shop.write(day, 10, stray="999,2024-01-08,5\n" if day == 3 else "")
    done = shop.load(window)
    assert [(c.name, c.failures) for c in done.publication.report.broken] == [("readable", 1)]
    [row] = read_quarantine(shop.lake, TABLE).to_pylist()
    [reason] = row["reasons"]
    assert reason["rule"].startswith("within the period of its file")


def test_a_row_whose_day_cannot_be_read_breaks_one_rule(shop: Shop) -> None:
    shop.write(3, 10, 20, 30, stray="999,soon,5\n998,,5\n")
    done = shop.load(days(3))
    broken = {c.name: c.failures for c in done.publication.report.broken}
    assert broken == {"readable": 1, "day__not_null": 1}


def test_a_key_of_another_day_names_the_file_it_stands_in(shop: Shop) -> None:
    shop.write(1, 10)
    shop.load(days(1))
    shop.write(2, 10, 20, stray="100,2024-01-02,5\n")
    done = shop.load(days(2))
    [sample] = done.publication.report.check("published_key").samples
    assert "day 2024-01-01, orders-2024-01-01.csv, row 1" in str(sample)


def test_a_corrected_file_of_an_append_is_refused_and_told_why(shop: Shop) -> None:
    glob = Shop(shop.root, shop.lake, path="orders-*.csv")
    glob.write(1, 10)
    glob.load("append")
    glob.write(1, 11)
    with pytest.raises(BatchRefused, match=r"published in raw/orders, orders-2024-01-01\.csv"):
        glob.load("append")


def test_the_guide_shows_the_query_of_open_rows() -> None:
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "raw-tables.md"
    assert OPEN_QUARANTINE.format(quarantine="raw.orders__quarantine") in guide.read_text()
