"""One test for each kind of fault: the audit reports exactly that fault, and nothing else."""

import datetime as dt
from typing import Any

import pandera.ibis as pa
import pytest

from mlops_assets.lake import Window
from mlops_assets.quality import AuditReport, Contract, ContractError, audit


def broken(report: AuditReport) -> dict[str, int]:
    return {check.name: check.failures for check in report.checks if check.failures}


def test_a_clean_batch_reports_no_fault(con, batch, contract):
    report = audit(con, batch(), contract)
    assert (report.ok, report.rows, report.refused_rows, broken(report)) == (True, 100, 0, {})
    assert all(check.passed for check in report.checks)


FAULTS = {
    "null in a column": (
        "UPDATE departures SET origin = NULL WHERE flight = 5",
        "origin__not_null",
    ),
    "null in a key": ("UPDATE departures SET flight = NULL WHERE flight = 5", "flight__not_null"),
    "below the range": ("UPDATE departures SET flight = 0 WHERE flight = 5", "flight__ge"),
    "out of range": ("UPDATE departures SET distance = -1 WHERE flight = 5", "distance__in_range"),
    "NaN": ("UPDATE departures SET delay = 'nan' WHERE flight = 5", "delay__finite"),
    "infinity": ("UPDATE departures SET delay = 'inf' WHERE flight = 5", "delay__finite"),
    "not in the list": ("UPDATE departures SET origin = 'XXX' WHERE flight = 5", "origin__isin"),
    "pattern": ("UPDATE departures SET tailnum = 'x1' WHERE flight = 5", "tailnum__str_matches"),
    "rule on a row": (
        "UPDATE departures SET left_at = NULL WHERE flight = 5",
        "not_late_without_time",
    ),
}


@pytest.mark.parametrize(("spoil", "name"), FAULTS.values(), ids=FAULTS)
def test_one_bad_value_is_exactly_one_fault(con, batch, contract, spoil, name):
    report = audit(con, batch(spoil), contract)
    assert broken(report) == {name: 1}
    assert (report.ok, report.refused_rows) == (False, 1)
    (failure,) = report.check(name).samples
    assert failure.row == 5


def test_minus_infinity_breaks_the_lower_bound_too(con, batch, contract):
    report = audit(con, batch("UPDATE departures SET delay = '-inf' WHERE flight = 5"), contract)
    assert broken(report) == {"delay__finite": 1, "delay__ge": 1}
    assert report.refused_rows == 1


def test_non_finite_values_pass_where_the_field_says_so(con):
    class Readings(Contract):
        """Readings of a sensor."""

        value: float = pa.Field(
            nullable=True, metadata={"non_finite": True}, description="Reading, NaN when off"
        )
        kept: float = pa.Field(metadata={"non_finite": True}, description="Never missing")

    con.execute("CREATE TABLE readings AS SELECT 'nan'::DOUBLE AS value, 'inf'::DOUBLE AS kept")
    assert audit(con, "readings", Readings).ok
    # In a column that is not nullable Pandera counts NaN as null, whatever the metadata say.
    con.execute("UPDATE readings SET kept = 'nan'")
    assert broken(audit(con, "readings", Readings)) == {"kept__not_null": 1}


def test_every_row_of_a_duplicated_key_is_refused(con, batch, contract):
    twice = "INSERT INTO departures SELECT * FROM departures WHERE flight IN (3, 4)"
    report = audit(con, batch(twice), contract)
    assert broken(report) == {"key": 4}
    assert (report.rows, report.refused_rows) == (102, 4)
    samples = report.check("key").samples
    assert [(s.row, s.column, s.value) for s in samples] == [
        (3, "flight, day", "flight=3, day=2013-01-04"),
        (4, "flight, day", "flight=4, day=2013-01-05"),
        (101, "flight, day", "flight=3, day=2013-01-04"),
        (102, "flight, day", "flight=4, day=2013-01-05"),
    ]


def test_a_row_with_several_faults_is_refused_once(con, batch, contract):
    report = audit(
        con,
        batch(
            "UPDATE departures SET origin = 'XXX', tailnum = 'x', distance = -1 WHERE flight = 5",
            "INSERT INTO departures SELECT * FROM departures WHERE flight = 5",
        ),
        contract,
    )
    assert broken(report) == {
        "origin__isin": 2, "tailnum__str_matches": 2, "distance__in_range": 2, "key": 2,
    }  # fmt: skip
    assert report.refused_rows == 2


STRUCTURE = {
    "missing": ("* EXCLUDE (tailnum)", ["column 'tailnum' is missing"]),
    "extra": ("*, 1 AS more, 2 AS still_more", [
        "column 'more' is not in the contract",
        "column 'still_more' is not in the contract",
    ]),
    "renamed": ("* RENAME (tailnum AS tail_num)", [
        "column 'tail_num' is not in the contract",
        "column 'tailnum' is missing; is it the column 'tail_num'?",
    ]),
    "wrong type": ("* REPLACE (flight::VARCHAR AS flight)", [
        "column 'flight' has type string, not int64"
    ]),
    "narrower type": ("* REPLACE (flight::INTEGER AS flight)", [
        "column 'flight' has type int32, not int64"
    ]),
    "local time for an instant": ("* REPLACE (left_at::TIMESTAMP AS left_at)", [
        "column 'left_at' has type timestamp(6), not timestamp('UTC', 6)"
    ]),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "told"), STRUCTURE.values(), ids=STRUCTURE)
def test_wrong_structure_is_told_column_by_column(con, batch, contract, columns, told):
    report = audit(con, batch(columns=columns), contract)
    assert broken(report) == {"structure": len(told)}
    assert [str(sample) for sample in report.check("structure").samples] == told
    assert report.refuses_batch
    assert report.refused_rows == report.rows == 100
    assert not any(check.evaluated for check in report.checks if check.name != "structure")


def test_reordered_columns_are_no_fault(con, batch, contract):
    assert audit(con, batch(columns="left_at, delay, * EXCLUDE (left_at, delay)"), contract).ok


def test_all_rows_bad(con, batch, contract):
    report = audit(con, batch("UPDATE departures SET origin = 'XXX'"), contract, samples=3)
    assert broken(report) == {"origin__isin": 100}
    assert report.refused_share == 1
    samples = report.check("origin__isin").samples
    assert [sample.row for sample in samples] == [1, 2, 3]


def test_an_empty_batch_breaks_no_rule(con, batch, contract):
    report = audit(con, batch("DELETE FROM departures"), contract)
    assert (report.ok, report.rows, report.refused_share) == (True, 0, 0)


def test_rows_outside_the_window_are_refused(con, batch, contract):
    window = Window("day", dt.date(2013, 1, 1), dt.date(2013, 1, 28))
    report = audit(con, batch(), contract, window=window)
    (days,) = con.sql("SELECT count(*) FROM departures WHERE day >= '2013-01-28'").fetchall()
    assert broken(report) == {"inside_window": days[0]}
    first = report.check("inside_window").samples[0]
    assert (first.column, first.value) == ("day", "2013-01-28")
    assert first.rule == "inside [2013-01-01, 2013-01-28) of day"


def test_a_null_lies_in_no_window(con, batch):
    class Loose(Contract):
        """Rows with a day that may be unknown."""

        flight: int = pa.Field(description="Flight number")
        day: dt.date = pa.Field(nullable=True, description="Day, if known")

        class Config:
            strict = "filter"

    window = Window("day", dt.date(2013, 1, 1), dt.date(2014, 1, 1))
    name = batch("UPDATE departures SET day = NULL WHERE flight = 5")
    assert broken(audit(con, name, Loose, window=window)) == {"inside_window": 1}


def test_what_staging_could_not_read_is_reported_once(con, staged, contract):
    name = staged(
        """UPDATE staged SET distance = NULL, _refusals =
        [{'column_name': 'distance', 'rule': 'not a number', 'value': '12 mi'}] WHERE flight = 5""",
        """UPDATE staged SET origin = NULL WHERE flight = 6""",
    )
    report = audit(con, name, contract)
    # The unread value is null in the relation, but its fault is that it could not be read.
    assert broken(report) == {"readable": 1, "origin__not_null": 1}
    assert report.refused_rows == 2
    (unread,) = report.check("readable").samples
    assert str(unread) == 'departures.csv, row 6: distance = 12 mi breaks "not a number"'


def test_two_unread_values_of_one_row_refuse_it_once(con, staged, contract):
    name = staged(
        """UPDATE staged SET distance = NULL, delay = NULL, _refusals = [
        {'column_name': 'distance', 'rule': 'not a number', 'value': 'a'},
        {'column_name': 'delay', 'rule': 'not a number', 'value': 'b'}] WHERE flight = 5"""
    )
    report = audit(con, name, contract)
    assert (broken(report), report.refused_rows) == ({"readable": 2}, 1)


def test_samples_of_staged_rows_name_file_and_line(con, staged, contract):
    report = audit(con, staged("UPDATE staged SET distance = -5 WHERE flight = 16"), contract)
    (failure,) = report.check("distance__in_range").samples
    assert (failure.source, failure.source_row, failure.value) == ("departures.csv", 17, "-5.0")
    assert str(failure) == ('departures.csv, row 17: distance = -5.0 breaks "between 0 and 6000"')


def test_a_warning_is_counted_and_refuses_nothing(con):
    class Advised(Contract):
        """Rows with advice."""

        x: int = pa.Field(le=3, raise_warning=True, description="A number")

    con.execute("CREATE TABLE advised AS SELECT i::BIGINT AS x FROM range(6) AS r(i)")
    report = audit(con, "advised", Advised)
    assert report.check("x__le").failures == 2
    assert (report.ok, report.refused_rows) == (True, 0)


def test_a_rule_on_the_whole_batch(con):
    class Averaged(Contract):
        """Numbers with a mean."""

        x: float = pa.Field(description="A number")

        @pa.dataframe_check
        def mean_is_small(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
            """The mean stays below ten."""
            return data.table.x.mean() < 10

        @pa.check("x")
        def near_the_mean(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
            """No number is far above the mean; Pandera's own query for this does not bind."""
            return data.table[data.key] < data.table[data.key].mean() + 50

    con.execute("CREATE TABLE averaged AS SELECT i::DOUBLE AS x FROM range(6) AS r(i)")
    assert audit(con, "averaged", Averaged).ok
    con.execute("INSERT INTO averaged VALUES (1000)")
    report = audit(con, "averaged", Averaged)
    assert broken(report) == {"mean_is_small": 1, "x__near_the_mean": 1}
    assert report.check("mean_is_small").scope == "batch"
    assert report.refuses_batch


def test_a_rule_that_needs_another_query_is_left_to_pandera(con):
    class Tree(Contract):
        """Nodes and their parents."""

        node: int = pa.Field(description="A node")
        parent: int = pa.Field(nullable=True, description="Its parent")

        @pa.dataframe_check
        def parent_exists(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
            """Every parent is a node."""
            table = data.table
            return table.parent.isnull() | table.parent.isin(table.node)

    con.execute("CREATE TABLE tree AS SELECT * FROM (VALUES (1, NULL), (2, 1)) AS t(node, parent)")
    con.execute(
        "ALTER TABLE tree ALTER node TYPE BIGINT; ALTER TABLE tree ALTER parent TYPE BIGINT"
    )
    assert audit(con, "tree", Tree).ok
    con.execute("INSERT INTO tree VALUES (3, 9)")
    report = audit(con, "tree", Tree)
    assert broken(report) == {"parent_exists": 1}
    assert report.check("parent_exists").scope == "batch"
    assert report.check("parent_exists").samples[0].value == "3, 9"


def test_an_optional_column_may_be_absent(con):
    from typing import Optional

    class Loose(Contract):
        """Rows with an optional column."""

        a: int = pa.Field(description="Always there")
        b: Optional[int] = pa.Field(ge=0, nullable=True, description="Sometimes there")  # noqa: UP045 - as Pandera documents it

    con.execute("CREATE TABLE loose AS SELECT 1::BIGINT AS a")
    assert audit(con, "loose", Loose).ok
    con.execute("ALTER TABLE loose ADD COLUMN b BIGINT; UPDATE loose SET b = -1")
    assert broken(audit(con, "loose", Loose)) == {"b__ge": 1}


def test_several_keys_are_judged_apart(con):
    class Pairs(Contract):
        """Rows with two keys."""

        a: int = pa.Field(description="First key")
        b: int = pa.Field(description="Second key")

        class Config:
            unique = (("a",), ("b",))

    con.execute("CREATE TABLE pairs AS SELECT i AS a, i // 2 AS b FROM range(5) AS r(i)")
    report = audit(con, "pairs", Pairs)
    assert broken(report) == {"key_2": 4}
    assert report.refused_rows == 4


class TestCrashes:
    """A check that crashes is an error of the contract, never bad data."""

    def test_a_bad_regular_expression(self, con, batch):
        class Bad(Contract):
            """Rows with a bad pattern."""

            tailnum: str = pa.Field(str_matches="N(?=1)", nullable=True, description="Tail number")
            flight: int = pa.Field(ge=1, description="Flight number")

            class Config:
                strict = "filter"

        with pytest.raises(
            ContractError, match=r"(?s)tailnum__str_matches.*not in the data"
        ) as caught:
            audit(con, batch(), Bad)
        assert "(?=1)" in str(caught.value)

    def test_a_check_that_raises_while_it_is_built(self, con, batch):
        class Bad(Contract):
            """Rows with a bad check."""

            flight: int = pa.Field(description="Flight number")

            @pa.check("flight")
            def wrong(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
                return data.table["no_such_column"] > 0

            class Config:
                strict = "filter"

        with pytest.raises(ContractError, match="flight__wrong"):
            audit(con, batch(), Bad)

    def test_a_python_check_that_raises_on_a_value(self, con, batch):
        class Bad(Contract):
            """Rows with a check that divides by zero."""

            flight: int = pa.Field(description="Flight number")

            @pa.check("flight", element_wise=True)
            def inverse(cls, value: int) -> bool:  # noqa: N805 - Pandera's convention
                return 1 / (value - 7) < 1

            class Config:
                strict = "filter"

        with pytest.raises(ContractError, match=r"flight__inverse.*ZeroDivisionError"):
            audit(con, batch(), Bad)

    def test_a_rule_that_does_not_fit_its_column(self, con, batch):
        class Bad(Contract):
            """Rows with a rule for text on a number."""

            flight: int = pa.Field(str_startswith="N", description="Flight number")

            class Config:
                strict = "filter"

        with pytest.raises(ContractError, match="flight__str_startswith"):
            audit(con, batch(), Bad)


def test_the_session_is_left_as_it_was(con, batch, contract):
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    setting = "SELECT current_setting('python_enable_replacements')"
    before = con.execute(views).fetchall(), con.execute(setting).fetchall()
    audit(con, batch("UPDATE departures SET origin = 'XXX'"), contract)
    assert (con.execute(views).fetchall(), con.execute(setting).fetchall()) == before


def test_a_relation_may_have_any_name(con, batch, contract):
    con.execute(f'CREATE SCHEMA raw; CREATE VIEW raw."odd name" AS FROM {batch()}')
    assert audit(con, 'raw."odd name"', contract).rows == 100


def test_panderas_off_switch_does_not_switch_audits_off(con, batch, contract):
    from pandera.config import config_context

    with config_context(validation_enabled=False):
        report = audit(con, batch(columns="* EXCLUDE (tailnum)"), contract)
        assert broken(report) == {"structure": 1}
        report = audit(con, batch("UPDATE departures SET origin = NULL"), contract)
        assert broken(report) == {"origin__not_null": 100}
