"""Write, audit, publish: what is committed, what is refused, and what a crash leaves behind."""

import datetime as dt
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandera.ibis as pa
import pytest
from pydantic import ValidationError

from mlops_assets.lake import Lake, SchemaMismatchError, TableName, Window
from mlops_assets.quality import (
    AuditPolicy,
    BatchRefused,
    Contract,
    ContractError,
    QualityError,
    publish,
    published_batches,
    quarantine_name,
    read_quarantine,
)

TABLE = TableName("raw", "departures")


@pytest.fixture
def push(
    lake: Lake, con: duckdb.DuckDBPyConnection, contract: type[Contract]
) -> Callable[..., Any]:
    """Publish a relation as a snapshot, or as the keywords say."""

    def call(
        relation: str,
        contract: type[Contract] = contract,
        *,
        mode: Any = "snapshot",
        batch_id: str = "one",
        **more: Any,
    ) -> Any:
        return publish(lake, con, relation, contract, TABLE, mode=mode, batch_id=batch_id, **more)

    return call


def flights(lake: Lake) -> list[int]:
    return sorted(row["flight"] for row in lake.read(TABLE).read_all().to_pylist())


def quarantined(lake: Lake) -> list[dict[str, Any]]:
    return read_quarantine(lake, TABLE).to_pylist()


def test_a_clean_batch_is_committed_whole(lake, batch, push, contract):
    done = push(batch(), metadata={"run": "r1"})
    assert (done.rows, done.quarantined, done.commit.version) == (100, 0, 0)
    assert flights(lake) == list(range(1, 101))
    assert not lake.exists(quarantine_name(TABLE))
    (commit,) = lake.history(TABLE)
    assert commit.metadata["run"] == "r1"
    assert commit.metadata["batch_id"] == "one"
    assert commit.metadata["contract"] == "Departures"
    assert commit.metadata["contract_hash"] == done.report.contract_hash
    assert (commit.metadata["accepted_rows"], commit.metadata["refused_rows"]) == (100, 0)


def test_the_table_carries_the_contracts_words_and_order(lake, batch, push, contract):
    push(batch(columns="left_at, * EXCLUDE (left_at)"))
    info = lake.describe(TABLE)
    assert info.description == "One row for each departure."
    assert info.schema.names == list(contract.to_schema().columns)
    assert info.schema.field("origin").metadata[b"comment"] == b"Airport it left from"


def test_refused_rows_go_to_quarantine_with_reasons(lake, staged, push):
    name = staged(
        "UPDATE staged SET distance = -5, origin = 'XXX' WHERE flight = 16",
        """UPDATE staged SET delay = NULL, _refusals =
        [{'column_name': 'delay', 'rule': 'not a number', 'value': 'soon'}] WHERE flight = 17""",
    )
    done = push(name, policy=AuditPolicy(max_refused_share=0.02))
    assert (done.rows, done.quarantined) == (98, 2)
    assert flights(lake) == [n for n in range(1, 101) if n not in {16, 17}]
    first, second = quarantined(lake)
    assert {key: first[key] for key in ("table_name", "batch_id", "source", "source_row")} == {
        "table_name": "raw/departures",
        "batch_id": "one",
        "source": "departures.csv",
        "source_row": 17,
    }
    assert first["source_hash"] == "c0ffee"
    assert first["refused_at"].tzinfo is not None
    assert first["reasons"] == [
        {"column_name": "origin", "rule": "one of EWR, JFK, LGA", "value": "XXX"},
        {"column_name": "distance", "rule": "between 0 and 6000", "value": "-5.0"},
    ]
    assert json.loads(first["payload"])["origin"] == "XXX"
    # The value as it was read, not the null that stood for it.
    assert json.loads(second["payload"])["delay"] == "soon"
    assert second["reasons"] == [{"column_name": "delay", "rule": "not a number", "value": "soon"}]
    assert lake.history(TABLE)[0].metadata["sources"] == {"departures.csv": "c0ffee"}


def test_a_column_refused_twice_and_a_row_refused_as_such(lake, staged, push):
    name = staged(
        """UPDATE staged SET delay = NULL, _refusals = [
        {'column_name': 'delay', 'rule': 'not a number', 'value': 'soon'},
        {'column_name': 'delay', 'rule': 'too long', 'value': 'soon'},
        {'column_name': NULL, 'rule': 'too many fields', 'value': '9'}] WHERE flight = 5"""
    )
    assert push(name).quarantined == 1
    (row,) = quarantined(lake)
    assert len(row["reasons"]) == 3
    assert json.loads(row["payload"])["delay"] == "soon"


def test_provenance_is_published_and_refusals_are_not(lake, staged, push):
    push(staged())
    schema = lake.schema(TABLE)
    assert schema.names[-4:] == ["_source", "_source_hash", "_source_row", "_loaded_at"]
    assert schema.field("_source_row").metadata[b"comment"] == b"Row in the source, from 1."


def test_values_that_json_lacks_are_kept_as_text(lake, batch, push):
    name = batch("UPDATE departures SET delay = 'nan' WHERE flight = 5")
    push(name)
    (row,) = quarantined(lake)
    assert json.loads(row["payload"])["delay"] == "nan"


def test_accepted_and_refused_together_are_the_batch(lake, batch, push):
    name = batch(
        "UPDATE departures SET tailnum = 'it''s' WHERE flight % 10 = 0",
        "INSERT INTO departures SELECT * FROM departures WHERE flight IN (10, 11)",
        "UPDATE departures SET origin = NULL WHERE flight = 12",
    )
    done = push(name, policy=AuditPolicy(max_refused_share=1))
    # Ten with a wrong tail number, one of them twice; both copies of 11; 12.
    assert (done.rows, done.quarantined) == (88, 14)
    refused = sorted(json.loads(row["payload"])["flight"] for row in quarantined(lake))
    assert sorted(flights(lake) + refused) == sorted([*range(1, 101), 10, 11])


class TestWholeBatch:
    """The batch is refused as a whole: all of it in quarantine, the table as it was."""

    def test_above_the_share(self, lake, batch, push):
        push(batch(), batch_id="good")
        name = batch("UPDATE departures SET origin = 'XXX' WHERE flight > 90")
        with pytest.raises(BatchRefused) as caught:
            push(name, batch_id="bad", policy=AuditPolicy(max_refused_share=0.05))
        assert flights(lake) == list(range(1, 101))
        assert lake.version(TABLE) == 0
        rows = quarantined(lake)
        assert len(rows) == 100
        # Each row says why the batch was refused; a bad row says what was wrong with it too.
        assert [len(row["reasons"]) for row in rows] == [1] * 90 + [2] * 10
        assert rows[0]["reasons"][0]["rule"] == (
            "batch refused: 10.00% of the rows were refused, at most 5.00% may be"
        )
        told = str(caught.value)
        for part in (
            "raw/departures",
            "'bad'",
            "Departures",
            "10 of 100 rows (10.00%)",
            '10 rows break "origin: one of EWR, JFK, LGA"',
            "10.00% of the rows were refused, at most 5.00% may be",
            'row 91: origin = XXX breaks "one of EWR, JFK, LGA"',
            "raw/departures__quarantine",
            "stays at version 0",
        ):
            assert part in told
        assert caught.value.quarantine == "raw/departures__quarantine"
        assert caught.value.report.check("refused_share").failures == 1

    def test_the_share_itself_is_still_allowed(self, batch, push):
        name = batch("UPDATE departures SET origin = 'XXX' WHERE flight > 95")
        assert push(name, policy=AuditPolicy(max_refused_share=0.05)).quarantined == 5

    def test_the_message_names_file_and_line(self, staged, push):
        with pytest.raises(BatchRefused, match=r"departures\.csv, row 6: origin = XXX breaks"):
            push(staged("UPDATE staged SET origin = 'XXX' WHERE flight IN (5, 6)"))

    def test_wrong_structure(self, lake, staged, push):
        with pytest.raises(BatchRefused, match="column 'tailnum' is missing; is it the column"):
            push(staged("ALTER TABLE staged RENAME tailnum TO tail_num"))
        rows = quarantined(lake)
        assert len(rows) == 100
        assert json.loads(rows[0]["payload"])["tail_num"] == "N1"
        assert rows[0]["source"] == "departures.csv"
        assert not lake.exists(TABLE)

    def test_two_thousand_columns_that_nobody_declared(self, lake, batch, push):
        wide = ", ".join(f"1 AS column_{number}" for number in range(2000))
        with pytest.raises(BatchRefused, match="2,000 columns break"):
            push(batch(columns=f"*, {wide}"))
        rows = quarantined(lake)
        assert len(rows) == 100
        assert rows[0]["reasons"][0]["rule"].endswith(
            "column 'column_9' is not in the contract; and 1,990 more"
        )

    def test_all_rows_bad(self, lake, batch, push):
        with pytest.raises(BatchRefused, match="was not created"):
            push(batch("UPDATE departures SET origin = NULL"))
        assert len(quarantined(lake)) == 100

    def test_an_empty_snapshot(self, lake, batch, push):
        push(batch(), batch_id="good")
        told = "raw/departures has 100 published rows and would be left without any"
        with pytest.raises(BatchRefused, match=told):
            push(batch("DELETE FROM departures"), batch_id="empty")
        assert flights(lake) == list(range(1, 101))
        (row,) = quarantined(lake)
        assert (row["batch_id"], row["payload"], row["source_row"]) == ("empty", None, None)

    def test_too_few_and_too_many(self, batch, push):
        with pytest.raises(BatchRefused, match="asks for at least 101 rows"):
            push(batch(), policy=AuditPolicy(min_rows=101))
        with pytest.raises(BatchRefused, match="asks for 0 to 99 rows"):
            push(batch(), policy=AuditPolicy(max_rows=99))

    def test_a_snapshot_that_shrinks(self, batch, push):
        push(batch(), batch_id="good")
        half = batch("DELETE FROM departures WHERE flight > 50")
        with pytest.raises(BatchRefused, match=r"50\.00% fewer than the 100 published"):
            push(half, batch_id="half", policy=AuditPolicy(max_shrinkage=0.3))
        assert push(half, batch_id="half", policy=AuditPolicy(max_shrinkage=0.5)).rows == 50

    def test_a_rule_on_the_whole_batch(self, lake, con, push):
        class Averaged(Contract):
            """Numbers with a mean."""

            flight: int = pa.Field(description="A number")

            @pa.dataframe_check
            def mean_is_small(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
                """The mean stays below ten."""
                return data.table.flight.mean() < 10

        con.execute("CREATE TABLE averaged AS SELECT i AS flight FROM range(90, 95) AS r(i)")
        with pytest.raises(BatchRefused, match="The mean stays below ten"):
            push("averaged", contract=Averaged)
        assert len(quarantined(lake)) == 5


class TestModes:
    def test_a_snapshot_replaces(self, lake, batch, push):
        push(batch(), batch_id="one")
        push(batch("DELETE FROM departures WHERE flight > 99"), batch_id="two")
        assert flights(lake) == list(range(1, 100))

    def test_an_append_adds_a_batch_once(self, lake, batch, push):
        first = batch("UPDATE departures SET origin = 'XXX' WHERE flight = 5")
        assert push(first, mode="append").commit is not None
        again = push(first, mode="append")
        assert again.commit is None
        assert (again.rows, again.quarantined) == (99, 1)
        push(batch("UPDATE departures SET flight = flight + 100"), mode="append", batch_id="two")
        assert flights(lake) == [n for n in range(1, 201) if n != 5]
        assert len(quarantined(lake)) == 1

    def test_a_window_replaces_itself_and_refuses_what_lies_outside(self, lake, batch, push):
        january = Window("day", dt.date(2013, 1, 1), dt.date(2013, 2, 1))
        push(batch(), mode=january, batch_id="one")
        day = Window("day", dt.date(2013, 1, 5), dt.date(2013, 1, 6))
        inside = "DELETE FROM departures WHERE day <> '2013-01-05' AND flight <> 2"
        done = push(
            batch(inside), mode=day, batch_id="two", policy=AuditPolicy(max_refused_share=0.5)
        )
        assert (done.rows, done.quarantined) == (4, 1)
        assert flights(lake) == list(range(1, 101))
        (row,) = quarantined(lake)
        assert row["reasons"] == [
            {
                "column_name": "day",
                "rule": "inside [2013-01-05, 2013-01-06) of day",
                "value": "2013-01-03",
            }
        ]

    def test_an_empty_window_empties_its_part(self, lake, batch, push):
        push(batch(), batch_id="one")
        day = Window("day", dt.date(2013, 1, 5), dt.date(2013, 1, 6))
        empty = batch("DELETE FROM departures")
        with pytest.raises(BatchRefused, match="2013-01-05 has 4 published rows"):
            push(empty, mode=day, batch_id="two")
        assert flights(lake) == list(range(1, 101))
        push(empty, mode=day, batch_id="two", policy=AuditPolicy(min_rows=0))
        assert flights(lake) == [n for n in range(1, 101) if n % 28 != 4]

    def test_a_day_that_had_no_rows_may_stay_empty(self, batch, push):
        push(batch("DELETE FROM departures WHERE day = '2013-01-05'"), batch_id="one")
        day = Window("day", dt.date(2013, 1, 5), dt.date(2013, 1, 6))
        assert push(batch("DELETE FROM departures"), mode=day, batch_id="two").rows == 0
        assert push(batch("DELETE FROM departures"), mode="append", batch_id="three").rows == 0

    def test_another_column_called_day_is_no_day(self, lake, batch, push, contract):
        class Placed(contract):
            """Departures with the date they left, and the day of the month."""

            left_on: dt.date = pa.Field(description="Date of departure")
            day: int = pa.Field(description="Day of the month")

            class Config:
                unique = ("flight",)

        january = Window("left_on", dt.date(2013, 1, 1), dt.date(2013, 2, 1))
        columns = "* REPLACE (extract('day' FROM day)::BIGINT AS day), day AS left_on"
        push(batch(columns=columns), Placed, mode=january)
        shorter = batch("DELETE FROM departures WHERE day = 5", columns=columns)
        with pytest.raises(BatchRefused, match="2013-01-05 has 4 published rows"):
            push(shorter, Placed, mode=january, batch_id="two")
        assert len(flights(lake)) == 100

    def test_one_empty_day_of_a_range_is_refused_too(self, lake, batch, push):
        push(batch(), batch_id="one")
        january = Window("day", dt.date(2013, 1, 1), dt.date(2013, 2, 1))
        # The day has a row, but none that is accepted.
        spoilt = batch(
            "DELETE FROM departures WHERE day = '2013-01-05' AND flight <> 4",
            "UPDATE departures SET origin = 'XXX' WHERE flight = 4",
        )
        policy = AuditPolicy(max_refused_share=0.5)
        with pytest.raises(BatchRefused, match="2013-01-05 has 4 published rows"):
            push(spoilt, mode=january, batch_id="two", policy=policy)
        assert flights(lake) == list(range(1, 101))


class TestPublishedKeys:
    """A key is unique in the whole table, not only in the batch that brings it."""

    @pytest.fixture
    def by_flight(self, contract: type[Contract]) -> type[Contract]:
        class ByFlight(contract):
            """Departures whose number is never used again."""

            class Config:
                unique = ("flight",)

        return ByFlight

    def day(self, number: int) -> Window:
        return Window("day", dt.date(2013, 1, number), dt.date(2013, 1, number + 1))

    def only(self, staged, number: int, *spoil: str) -> str:
        return staged(f"DELETE FROM staged WHERE day <> '2013-01-{number:02}'", *spoil)

    def test_a_key_of_another_day_is_refused_and_told_where_it_stands(
        self, lake, staged, push, by_flight
    ):
        push(self.only(staged, 5), by_flight, mode=self.day(5))
        taken = self.only(staged, 6, "UPDATE staged SET flight = 4 WHERE flight = 5")
        policy = AuditPolicy(max_refused_share=0.5)
        done = push(taken, by_flight, mode=self.day(6), batch_id="two", policy=policy)
        assert (done.rows, done.quarantined) == (3, 1)
        verdict = done.report.check("published_key")
        assert (verdict.failures, verdict.column) == (1, "flight")
        assert "4 (published in raw/departures, day 2013-01-05, departures.csv, row 5)" in str(
            verdict.samples[0]
        )
        (row,) = quarantined(lake)
        assert row["reasons"][0]["rule"] == "unique key among the published rows"
        assert "departures.csv, row 5" in row["reasons"][0]["value"]
        assert sorted(flights(lake)) == [4, 32, 33, 60, 61, 88, 89]

    def test_a_day_published_again_does_not_collide_with_itself(self, staged, push, by_flight):
        push(self.only(staged, 5), by_flight, mode=self.day(5))
        assert push(self.only(staged, 5), by_flight, mode=self.day(5), batch_id="two").rows == 4

    def test_a_key_that_holds_the_window_is_not_compared(self, staged, push):
        push(self.only(staged, 5), mode=self.day(5))
        done = push(self.only(staged, 6), mode=self.day(6), batch_id="two")
        assert "published_key" not in [check.name for check in done.report.checks]

    def test_an_append_is_compared_with_the_whole_table(self, lake, staged, push, by_flight):
        push(self.only(staged, 5), by_flight, mode="append")
        # The same batch again is a retry, not a duplicate.
        assert push(self.only(staged, 5), by_flight, mode="append").quarantined == 0
        taken = self.only(staged, 6, "UPDATE staged SET flight = 4 WHERE flight = 5")
        policy = AuditPolicy(max_refused_share=0.5)
        done = push(taken, by_flight, mode="append", batch_id="two", policy=policy)
        assert done.quarantined == 1
        assert sorted(flights(lake)) == [4, 32, 33, 60, 61, 88, 89]

    def test_a_snapshot_replaces_the_row_it_would_collide_with(self, staged, push, by_flight):
        push(self.only(staged, 5), by_flight)
        moved = self.only(staged, 5, "UPDATE staged SET day = '2013-01-06'")
        assert push(moved, by_flight, batch_id="two").rows == 4


def test_a_restored_table_holds_the_batches_it_held_then(lake, batch, push):
    for number in (1, 2, 3):
        day = Window("day", dt.date(2013, 1, number), dt.date(2013, 1, number + 1))
        name = batch(f"DELETE FROM departures WHERE day <> '2013-01-{number:02}'")
        push(name, mode=day, batch_id=f"day {number}")
    assert [b.batch_id for b in published_batches(lake, TABLE)] == ["day 1", "day 2", "day 3"]
    lake.restore(TABLE, 1)
    held = published_batches(lake, TABLE)
    assert [(b.version, b.batch_id) for b in held] == [(0, "day 1"), (1, "day 2")]
    assert held[1].window == Window("day", dt.date(2013, 1, 2), dt.date(2013, 1, 3))
    assert published_batches(lake, TableName("raw", "nothing")) == ()


def test_an_optional_column_that_is_absent_is_published_as_null(lake, con, push):
    from typing import Optional

    class Loose(Contract):
        """Rows with an optional column."""

        flight: int = pa.Field(description="Always there")
        gate: Optional[str] = pa.Field(nullable=True, description="Sometimes there")  # noqa: UP045 - as Pandera documents it

    con.execute("CREATE TABLE loose AS SELECT 1::BIGINT AS flight")
    push("loose", contract=Loose)
    assert lake.read(TABLE).read_all().to_pylist() == [{"flight": 1, "gate": None}]


def test_columns_change_only_when_asked(lake, batch, push, contract):
    class WithGate(contract):
        """Departures with their gate."""

        gate: str = pa.Field(nullable=True, description="Gate")

    push(batch())
    wider = batch(columns="*, 'B1' AS gate")
    with pytest.raises(SchemaMismatchError, match="gate"):
        push(wider, contract=WithGate, batch_id="two")
    push(wider, contract=WithGate, batch_id="two", allow_schema_change=True)
    assert "gate" in lake.schema(TABLE).names


def test_a_check_in_python_is_published_through(lake, batch, push):
    class Odd(Contract):
        """Rows with a check in Python."""

        flight: int = pa.Field(description="Flight number")

        @pa.check("flight", element_wise=True)
        def not_thirteen(cls, value: int) -> bool:  # noqa: N805 - Pandera's convention
            """Thirteen is not flown."""
            return value != 13

    assert push(batch(columns="flight"), contract=Odd).quarantined == 1
    assert 13 not in flights(lake)
    (row,) = quarantined(lake)
    assert row["reasons"][0]["rule"] == "Thirteen is not flown"


def test_a_crashing_check_writes_nothing(lake, batch, push):
    class Bad(Contract):
        """Rows with a bad pattern."""

        flight: int = pa.Field(description="Flight number")
        tailnum: str = pa.Field(str_matches="N(?=1)", nullable=True, description="Tail number")

    with pytest.raises(ContractError):
        push(batch(columns="flight, tailnum"), contract=Bad)
    assert lake.tables() == ()


def test_a_relation_that_changes_after_its_audit_is_not_committed(
    lake, con, batch, push, monkeypatch
):
    write = Lake.overwrite

    def change_first(self: Lake, *args: Any, **kwargs: Any) -> Any:
        con.execute("DELETE FROM departures WHERE flight > 7")
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Lake, "overwrite", change_first)
    with pytest.raises(QualityError, match="had 100 rows to write when it was audited and 7"):
        push(batch())
    assert not lake.exists(TABLE)


class TestCrash:
    """Killed between quarantine and commit, and run again: nothing lost, nothing doubled."""

    SCRIPT = textwrap.dedent(
        """
        import os, signal, sys, duckdb
        from pathlib import Path
        sys.path.insert(0, sys.argv[3])
        from conftest import CLEAN, Departures
        from mlops_assets.lake import Lake, TableName
        from mlops_assets.quality import AuditPolicy, publish
        from mlops_assets.settings import DuckDBLimits

        append = Lake.append

        def killed_at_the_table(self, name, *args, **kwargs):
            if not name.name.endswith("__quarantine"):
                os.kill(os.getpid(), signal.SIGKILL)
            return append(self, name, *args, **kwargs)

        if sys.argv[2] == "killed":
            Lake.append = killed_at_the_table
        root = Path(sys.argv[1])
        limits = DuckDBLimits(memory_limit="1GiB", threads=1, scratch=root / "scratch")
        lake = Lake(str(root / "lake"), limits=limits)
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute(f"CREATE TABLE departures AS {CLEAN}")
            con.execute("UPDATE departures SET origin = 'XXX' WHERE flight = 5")
            publish(lake, con, "departures", Departures, TableName("raw", "departures"),
                    mode="append", batch_id="one")
        """
    )

    def run(self, root: Any, how: str) -> int:
        here = Path(__file__).parent
        command = [sys.executable, "-c", self.SCRIPT, str(root), how, str(here)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    def test_a_retry_finishes_the_work(self, lake, tmp_path):
        assert self.run(tmp_path, "killed") == -signal.SIGKILL
        assert not lake.exists(TABLE)
        assert len(quarantined(lake)) == 1
        for _ in range(2):
            assert self.run(tmp_path, "whole") == 0
            assert flights(lake) == [n for n in range(1, 101) if n != 5]
            assert len(quarantined(lake)) == 1


def test_a_retry_that_finds_other_faults_loses_none(lake, batch, push):
    push(batch("UPDATE departures SET origin = 'XXX' WHERE flight = 5"))
    push(batch("UPDATE departures SET origin = 'XXX' WHERE flight = 6"))
    refused = [json.loads(row["payload"])["flight"] for row in quarantined(lake)]
    assert refused == [5, 6]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_refused_share": 1.5}, "max_refused_share"),
        ({"min_rows": -1}, "min_rows"),
        ({"max_refused": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_policy_is_refused(given, told):
    with pytest.raises(ValidationError, match=told):
        AuditPolicy(**given)
