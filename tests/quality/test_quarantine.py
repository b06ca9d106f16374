"""The quarantine table: written once, read by table and batch."""

import datetime as dt

import pytest

from mlops_assets.lake import TableName, Window
from mlops_assets.quality import (
    QUARANTINE_SCHEMA,
    AuditPolicy,
    QuarantineCount,
    Reason,
    publish,
    quarantine_batch,
    quarantine_counts,
    quarantine_name,
    read_quarantine,
)

TABLE = TableName("raw", "departures")
THEN = dt.datetime(2013, 2, 1, 6, 30, tzinfo=dt.UTC)
REASON = Reason("truncated gzip stream", value="unexpected end of file")


def test_the_name_stands_beside_the_table():
    assert str(quarantine_name(TABLE)) == "raw/departures__quarantine"


def test_a_file_without_rows_is_one_row(lake):
    for _ in range(2):  # a retry adds nothing
        quarantine_batch(
            lake,
            TABLE,
            [REASON],
            batch_id="one",
            refused_at=THEN,
            source="departures.csv.gz",
            source_hash="c0ffee",
        )
    rows = read_quarantine(lake, TABLE).to_pylist()
    assert [row.pop("row_id") is not None for row in rows] == [True]
    assert rows == [
        {
            "table_name": "raw/departures",
            "batch_id": "one",
            "source": "departures.csv.gz",
            "source_hash": "c0ffee",
            "source_row": None,
            "refused_at": THEN,
            "reasons": [
                {
                    "column_name": None,
                    "rule": "truncated gzip stream",
                    "value": "unexpected end of file",
                }
            ],
            "payload": None,
            "window_start": None,
            "window_end": None,
        }
    ]


def test_two_files_of_one_batch_are_two_rows(lake):
    for source in ("a.csv", "b.csv"):
        quarantine_batch(lake, TABLE, [REASON], batch_id="one", refused_at=THEN, source=source)
    assert [row["source"] for row in read_quarantine(lake, TABLE).to_pylist()] == ["a.csv", "b.csv"]


def test_nothing_is_refused_without_a_reason(lake):
    with pytest.raises(ValueError, match=r"without a reason: raw/departures, source a\.csv"):
        quarantine_batch(lake, TABLE, [], batch_id="one", refused_at=THEN, source="a.csv")


def test_a_table_without_refusals_has_an_empty_quarantine(lake):
    rows = read_quarantine(lake, TABLE)
    assert rows.num_rows == 0
    assert rows.schema.equals(QUARANTINE_SCHEMA)
    assert quarantine_counts(lake) == ()


def test_rows_of_a_batch_and_of_a_file_live_together(lake, con, batch, contract):
    quarantine_batch(lake, TABLE, [REASON], batch_id="file", refused_at=THEN, source="a.csv")
    name = batch("UPDATE departures SET origin = 'XXX' WHERE flight < 3")
    policy = AuditPolicy(max_refused_share=0.5)
    publish(lake, con, name, contract, TABLE, mode="snapshot", batch_id="rows", policy=policy)
    other = TableName("raw", "weather")
    quarantine_batch(lake, other, [REASON], batch_id="file", refused_at=THEN)

    assert read_quarantine(lake, TABLE).num_rows == 3
    assert read_quarantine(lake, TABLE, batch_id="rows").num_rows == 2
    assert read_quarantine(lake, TABLE, batch_id="none").num_rows == 0
    counts = quarantine_counts(lake)
    assert [(str(c.table), c.batch_id, c.rows) for c in counts] == [
        ("raw/departures", "file", 1),
        ("raw/weather", "file", 1),
        ("raw/departures", "rows", 2),
    ]
    assert quarantine_counts(lake, other) == (QuarantineCount(other, "file", 1, THEN),)


def test_a_row_that_another_batch_brings_again_stays_one_row(lake, con, staged, contract):
    policy = AuditPolicy(max_refused_share=0.5)
    first, second = dt.date(2013, 1, 1), dt.date(2013, 2, 1)
    spoil = "UPDATE staged SET origin = 'XXX' WHERE flight IN (4, 5)"
    january = Window("day", first, second)
    publish(lake, con, staged(spoil), contract, TABLE, mode=january, batch_id="a", policy=policy)
    day = Window("day", dt.date(2013, 1, 5), dt.date(2013, 1, 6))
    only = staged(spoil, "DELETE FROM staged WHERE day <> '2013-01-05'")
    publish(lake, con, only, contract, TABLE, mode=day, batch_id="b", policy=policy)

    rows = read_quarantine(lake, TABLE).to_pylist()
    by_day = {row["window_start"].date(): row["batch_id"] for row in rows}
    assert by_day == {dt.date(2013, 1, 5): "b", dt.date(2013, 1, 6): "a"}
    assert len(rows) == 2


def test_the_schema_is_described(lake):
    quarantine_batch(lake, TABLE, [REASON], batch_id="one", refused_at=THEN)
    info = lake.describe(quarantine_name(TABLE))
    assert info.description == "Rows that the audit of raw/departures refused, and why."
    assert all(field.metadata[b"comment"] for field in info.schema)
