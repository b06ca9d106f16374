"""``mlops tables`` on a small lake: what it prints, what it changes, how it ends."""

import json
from pathlib import Path

from mlops_assets.lake import Lake, TableVersion
from tests.cli.conftest import ORDERS, Run, orders


def test_list_names_rows_and_version(run: Run) -> None:
    listed = run("tables", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    [table] = json.loads(listed.stdout)
    assert (table["table"], table["version"], table["rows"], table["files"]) == (
        "raw/orders",
        2,
        3,
        3,
    )
    assert "raw/orders" in run("tables", "list").stdout


def test_list_of_an_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    from tests.demo import mlops

    listed = mlops(tmp_path / "nothing", "tables", "list")
    assert listed.returncode == 0
    assert "mlops demo" in listed.stdout
    assert not (tmp_path / "nothing" / "lake").exists()


def test_show_describes_the_table_and_its_columns(run: Run) -> None:
    shown = json.loads(run("tables", "show", "raw/orders", "--json").stdout)
    assert shown["description"] == "Orders of the shop."
    assert shown["columns"] == [
        {"column": "order_id", "type": "int64", "description": "Key of the order."},
        {"column": "amount", "type": "double", "description": "What was paid, in euro."},
    ]
    assert json.loads(run("tables", "show", "raw/orders@0", "--json").stdout)["rows"] == 1
    text = run("tables", "show", "raw/orders").stdout
    assert "raw/orders@2" in text
    assert "What was paid, in euro." in text


def test_history_lists_the_newest_first(run: Run) -> None:
    commits = json.loads(run("tables", "history", "raw/orders", "--json").stdout)
    assert [commit["version"] for commit in commits] == [2, 1, 0]
    assert "batch=third" in commits[0]["metadata"]
    one = json.loads(run("tables", "history", "raw/orders", "--limit", "1", "--json").stdout)
    assert [commit["version"] for commit in one] == [2]


def test_a_pipe_gets_all_of_a_long_history(run: Run, lake: Lake) -> None:
    note = "x" * 300
    lake.append(ORDERS, orders((4, 40.0)), metadata={"note": note})
    assert f"note={note}" in run("tables", "history", "raw/orders").stdout


def test_a_version_where_none_belongs_is_refused_with_what_to_do(run: Run) -> None:
    for arguments in (
        ("history", "raw/orders@1"),
        ("restore", "raw/orders@1", "--version", "1", "--reason", "a test"),
    ):
        refused = run("tables", *arguments)
        assert refused.returncode == 1
        assert "'raw/orders@1' names a version" in refused.stderr
        assert "`mlops tables show raw/orders@1`" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_restore_brings_an_earlier_version_back_as_a_new_one(run: Run, lake: Lake) -> None:
    restored = run("tables", "restore", "raw/orders", "--version", "0", "--reason", "a test")
    assert restored.returncode == 0, restored.stderr
    assert "version 3" in restored.stdout
    assert lake.describe(ORDERS).rows == 1
    assert lake.describe(ORDERS, 2).rows == 3  # and can be undone


def test_compact_rewrites_small_files_and_says_when_there_is_nothing_to_do(
    run: Run, lake: Lake
) -> None:
    assert "from 3 to 1 files" in run("tables", "compact", "raw/orders").stdout
    assert (lake.describe(ORDERS).files, lake.describe(ORDERS).rows) == (1, 3)
    assert "nothing to compact" in run("tables", "compact", "raw/orders").stdout


def test_vacuum_deletes_only_when_told_to_and_never_what_a_model_pins(run: Run, lake: Lake) -> None:
    lake.pin(TableVersion(ORDERS, 0), "family/1")
    lake.compact(ORDERS)

    planned = run("tables", "vacuum", "raw/orders", "--retention-days", "0")
    assert "would delete 2 files" in planned.stdout, planned.stderr
    assert lake.describe(ORDERS, 2).rows == 3
    assert lake.read(ORDERS, 2).read_all().num_rows == 3

    done = run("tables", "vacuum", "raw/orders", "--retention-days", "0", "--delete")
    assert "deleted 2 files" in done.stdout, done.stderr
    assert "versions [0]" in done.stdout
    assert lake.read(ORDERS, 0).read_all().num_rows == 1
    assert lake.read(ORDERS).read_all().num_rows == 3


def test_an_unknown_table_is_refused_with_its_name(run: Run) -> None:
    for arguments in (
        ("show", "raw/nothing"),
        ("restore", "raw/nothing", "--version", "0", "--reason", "a test"),
    ):
        refused = run("tables", *arguments)
        assert refused.returncode == 1
        assert "raw/nothing" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_an_unknown_version_is_refused_and_nothing_changes(run: Run, lake: Lake) -> None:
    refused = run("tables", "restore", "raw/orders", "--version", "99", "--reason", "a test")
    assert refused.returncode == 1
    assert "99" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert lake.version(ORDERS) == 2


def test_a_name_that_is_none_is_refused(run: Run) -> None:
    refused = run("tables", "show", "orders; drop")
    assert refused.returncode == 1
    assert "orders; drop" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_wrong_usage_ends_with_2(run: Run) -> None:
    for arguments in (
        ("tables", "show"),
        ("tables", "restore", "raw/orders"),
        ("tables", "vacuum", "raw/orders", "--retention-days", "-1"),
        ("nonsense",),
    ):
        assert run(*arguments).returncode == 2, arguments
