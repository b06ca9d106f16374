"""``mlops sql`` on a small lake."""

import json
from datetime import datetime
from pathlib import Path

from mlops_assets.lake import Lake
from tests.cli.conftest import ORDERS, Run, in_terminal

TOTAL = "select count(*) as n, sum(amount) as total from raw.orders"


def test_a_question_is_answered_as_a_table_and_as_json(run: Run) -> None:
    assert json.loads(run("sql", TOTAL, "--json").stdout) == [{"n": 3, "total": 60.0}]
    text = run("sql", TOTAL).stdout
    assert "total" in text
    assert " 60.0 " in text


def test_values_are_printed_as_they_are(run: Run) -> None:
    query = "select 1234567 as id, 0.1234567 as share, null as nothing, 'a|b' as text"
    table = run("sql", query).stdout
    for value in ("1234567", "0.1234567", "NULL", "a|b"):
        assert f" {value} " in table
    assert run("sql", query, "--format", "csv").stdout == (
        "id,share,nothing,text\n1234567,0.1234567,,a|b\n"
    )
    assert run("sql", query, "--format", "markdown").stdout.splitlines() == [
        "| id | share | nothing | text |",
        "| --- | --- | --- | --- |",
        "| 1234567 | 0.1234567 | NULL | a\\|b |",
    ]
    assert json.loads(run("sql", query, "--format", "json").stdout) == [
        {"id": 1234567, "share": 0.1234567, "nothing": None, "text": "a|b"}
    ]


def test_every_type_and_repeated_names_have_a_json_form(run: Run) -> None:
    query = (
        "select 1 as a, 2 as a, 1.50::decimal(5, 2) as price, 'nan'::double as odd, "
        "timestamp '2013-01-01 05:00:00' as local, time '05:00' as at, [1, 2] as list, "
        "{'x': 1} as struct, '\\x01'::blob as bytes, 12345678901234567890::hugeint as big"
    )
    [row] = json.loads(run("sql", query, "--json").stdout)
    assert row == {
        "a": 1,
        "a_1": 2,
        "price": 1.5,
        "odd": "nan",
        "local": "2013-01-01T05:00:00",
        "at": "05:00:00",
        "list": [1, 2],
        "struct": {"x": 1},
        "bytes": "01",
        "big": 12345678901234567890,
    }
    assert run("sql", "select 1 where false", "--json").stdout == "[]\n"


def test_a_pipe_gets_all_of_it(run: Run) -> None:
    wide = "select repeat('x', 500) as long, range as id from range(100)"
    for form in ("table", "csv"):
        text = run("sql", wide, "--format", form).stdout
        assert text.count("x" * 500) == 100, form
        assert "…" not in text


def test_in_a_terminal_long_texts_wrap_and_many_columns_stand_below_each_other(home: Path) -> None:
    long = in_terminal(home, "sql", "select repeat('x', 200) as long, 7654321 as id")
    assert "7654321" in long
    assert long.count("x") == 200
    assert max(map(len, long.splitlines())) <= 80

    columns = ", ".join(f"{number} as column_{number}" for number in range(20))
    many = in_terminal(home, "sql", f"select {columns}")
    assert "row 1" in many
    assert "  column_19  19" in many


def test_a_terminal_gets_a_screenful_and_is_told(home: Path) -> None:
    shown = in_terminal(home, "sql", "select range as id from range(100)")
    assert " 39 │" in shown
    assert " 40 │" not in shown
    assert "more than 40 rows; --limit shows more" in shown


def test_as_of_reads_the_tables_of_that_time(run: Run, lake: Lake) -> None:
    newest, _, oldest = lake.history(ORDERS)
    between = oldest.timestamp + (newest.timestamp - oldest.timestamp) / 1000
    assert isinstance(between, datetime)
    moment = f"{between:%Y-%m-%dT%H:%M:%S.%f}"
    then = run("sql", TOTAL, "--as-of", moment, "--json")
    assert json.loads(then.stdout) == [{"n": 1, "total": 10.0}], then.stderr


def test_only_so_many_rows_are_printed_and_it_says_so(run: Run) -> None:
    two = run("sql", "select * from raw.orders", "--limit", "2", "--format", "csv")
    assert len(two.stdout.splitlines()) == 3
    assert "more than 2 rows" in two.stderr
    assert run("sql", "select * from raw.orders", "--limit", "3").stderr == ""


def test_a_wrong_question_ends_with_1_and_duckdbs_words(run: Run) -> None:
    refused = run("sql", "select nothing from raw.orders")
    assert refused.returncode == 1
    assert "nothing" in refused.stderr
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr


def test_an_unreadable_time_is_wrong_usage(run: Run) -> None:
    assert run("sql", TOTAL, "--as-of", "yesterday").returncode == 2


def test_nothing_can_be_changed(run: Run, lake: Lake) -> None:
    refused = run("sql", "delete from raw.orders")
    assert refused.returncode == 1
    assert lake.describe(ORDERS).rows == 3


def test_what_is_no_question_is_refused(run: Run) -> None:
    refused = run("sql", "drop view raw.orders")
    assert refused.returncode == 1
    assert "a statement of kind DROP is refused" in refused.stderr
    assert "no rows" not in refused.stdout


def test_a_misspelt_table_names_the_nearest(run: Run) -> None:
    assert "did you mean 'raw.orders'?" in run("sql", "from raw.order").stderr
    assert "did you mean 'raw/orders'?" in run("tables", "show", "raw/order").stderr


def test_before_the_first_version_of_a_table_its_time_is_said(run: Run) -> None:
    refused = run("sql", TOTAL, "--as-of", "2001-01-01")
    assert refused.returncode == 1
    assert "raw/orders did not exist at 2001-01-01 00:00:00Z: its first version is of" in (
        refused.stderr
    )
    assert "`mlops tables history raw/orders`" in refused.stderr
