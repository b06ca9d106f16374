"""``mlops sql`` on a small lake."""

import json
from datetime import datetime

from mlops_assets.lake import Lake
from tests.cli.conftest import ORDERS, Run

TOTAL = "select count(*) as n, sum(amount) as total from raw.orders"


def test_a_question_is_answered_as_a_table_and_as_json(run: Run) -> None:
    assert json.loads(run("sql", TOTAL, "--json").stdout) == [{"n": 3, "total": 60.0}]
    text = run("sql", TOTAL).stdout
    assert "total" in text
    assert "60.0000" in text


def test_as_of_reads_the_tables_of_that_time(run: Run, lake: Lake) -> None:
    newest, _, oldest = lake.history(ORDERS)
    between = oldest.timestamp + (newest.timestamp - oldest.timestamp) / 1000
    assert isinstance(between, datetime)
    moment = f"{between:%Y-%m-%dT%H:%M:%S.%f}"
    then = run("sql", TOTAL, "--as-of", moment, "--json")
    assert json.loads(then.stdout) == [{"n": 1, "total": 10.0}], then.stderr


def test_only_so_many_rows_are_printed_and_it_says_so(run: Run) -> None:
    text = run("sql", "select * from raw.orders", "--limit", "2").stdout
    assert "more rows" in text
    assert "more rows" not in run("sql", "select * from raw.orders", "--limit", "3").stdout


def test_a_wrong_question_ends_with_1_and_duckdbs_words(run: Run) -> None:
    refused = run("sql", "select nothing from raw.orders")
    assert refused.returncode == 1
    assert "nothing" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unreadable_time_is_wrong_usage(run: Run) -> None:
    assert run("sql", TOTAL, "--as-of", "yesterday").returncode == 2


def test_nothing_can_be_changed(run: Run, lake: Lake) -> None:
    refused = run("sql", "delete from raw.orders")
    assert refused.returncode == 1
    assert lake.describe(ORDERS).rows == 3
