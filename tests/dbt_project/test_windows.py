"""A model built for a window has, in that window, the rows that a complete build gives it."""

from collections.abc import Callable

import duckdb

from .conftest import Sql

START, END = "2013-03-09", "2013-03-12"


def test_a_window_gives_the_rows_of_a_complete_build(
    winter: duckdb.DuckDBPyConnection, compile_project: Callable[..., Sql]
) -> None:
    windowed = [
        model
        for model in compile_project(window_start=START, window_end=END).models
        if model["config"].get("window_column")
    ]
    assert len(windowed) >= 20
    for model in windowed:
        name, column = f"{model['schema']}.{model['name']}", model["config"]["window_column"]
        window = f"{column} >= DATE '{START}' AND {column} < DATE '{END}'"
        winter.execute(
            f"CREATE OR REPLACE TABLE main.batch AS SELECT * FROM ({model['compiled_code']}) "
            f"WHERE {window}"
        )
        assert winter.sql("SELECT count(*) FROM main.batch").fetchall()[0][0] > 0, name
        different = winter.sql(
            f"(FROM main.batch EXCEPT ALL (FROM {name} WHERE {window})) UNION ALL "
            f"((FROM {name} WHERE {window}) EXCEPT ALL FROM main.batch)"
        )
        assert different.fetchall() == [], name


def test_history_read_is_history_declared(compile_project: Callable[..., Sql]) -> None:
    """Backfills trust ``lookback_days``; it must cover what the SQL reads."""
    for model in compile_project(window_start=START, window_end=END).models:
        declared = model["config"]["meta"].get("lookback_days", 0)
        read = [
            int(part.split()[0])
            for part in model["compiled_code"].split(f"cast('{START}' as date) - ")[1:]
        ]
        assert all(days <= declared for days in read), model["name"]
