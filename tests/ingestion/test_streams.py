"""Databases and Python functions are sources like files: streamed, hashed, with typed refusals."""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from mlops_assets.ingestion import (
    DeclarationError,
    SourceRefusedError,
    SourceUnavailableError,
    Staged,
)
from mlops_assets.lake import Window

Stage = Callable[..., Staged]
Rows = Callable[[str], list[tuple[Any, ...]]]
TYPES = {"id": "BIGINT", "day": "DATE", "speed": "DOUBLE"}


@pytest.fixture
def database(root: Path) -> Path:
    path = root / "flights.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE flights (id INTEGER, day TEXT, speed REAL)")
        connection.executemany(
            "INSERT INTO flights VALUES (?, ?, ?)",
            [(n, f"2013-01-{n % 28 + 1:02}", n / 4) for n in range(1_000)],
        )
    return path


@pytest.fixture(params=["sqlalchemy", "adbc"])
def sql(request: pytest.FixtureRequest, database: Path) -> dict[str, Any]:
    """Declare the same database through either library."""
    if request.param == "sqlalchemy":
        return {"kind": "sql", "url": f"sqlite:///{database}", "batch_rows": 64}
    return {"kind": "sql", "adbc_driver": "adbc_driver_sqlite", "adbc_uri": f"file:{database}"}


def test_a_table_is_read_whole(staging: Stage, rows: Rows, sql: dict[str, Any]) -> None:
    staged = staging({**sql, "table": "flights"}, TYPES)
    assert rows("id, day, speed, _source_row, len(_refusals)") == [
        (n, dt.date(2013, 1, n % 28 + 1), n / 4, n + 1, 0) for n in range(1_000)
    ]
    (file,) = staged.files
    assert file.rows == 1_000
    assert file.uri.endswith("flights.db#flights")


def test_the_same_rows_have_the_same_hash_and_others_another(
    staging: Stage, database: Path, sql: dict[str, Any]
) -> None:
    source = {**sql, "query": "select id, day, speed from flights order by id;"}
    first = staging(source, TYPES).files[0].sha256
    assert staging(source, TYPES).files[0].sha256 == first
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE flights SET speed = 7 WHERE id = 999")
    assert staging(source, TYPES).files[0].sha256 != first


@pytest.mark.parametrize("what", [{"table": "flights"}, {"query": "select * from flights"}])
def test_a_window_narrows_the_query_and_is_cut_exactly(
    staging: Stage, rows: Rows, sql: dict[str, Any], what: dict[str, str]
) -> None:
    window = Window("day", dt.date(2013, 1, 10), dt.date(2013, 1, 12))
    staged = staging({**sql, **what, "window_column": "day"}, TYPES, window=window)
    assert {day.day for (day,) in rows("day")} == {10, 11}
    assert staged.rows == sum(n % 28 + 1 in {10, 11} for n in range(1_000))
    assert staged.files[0].rows < 250  # the database did not send the whole year


def test_no_rows_still_have_columns(staging: Stage, sql: dict[str, Any]) -> None:
    assert staging({**sql, "query": "select * from flights where id < 0"}, TYPES).rows == 0


def test_values_of_several_kinds_in_one_column_are_refused_one_by_one(
    staging: Stage, rows: Rows, database: Path
) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM flights WHERE id > 2")
        connection.execute("UPDATE flights SET speed = 'fast' WHERE id = 1")
        connection.execute("UPDATE flights SET id = 2.5 WHERE id = 2")
    staging({"kind": "sql", "url": f"sqlite:///{database}", "table": "flights"}, TYPES)
    assert rows("id, speed, [(r.column_name, r.value) FOR r IN _refusals]") == [
        (0, 0.0, []),
        (1, None, [("speed", "fast")]),
        (None, 0.5, [("id", "2.5")]),
    ]


def test_types_may_change_from_batch_to_batch(staging: Stage, rows: Rows, database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE flights SET speed = NULL WHERE id < 100")
        connection.execute("UPDATE flights SET speed = 'fast' WHERE id = 500")
    staging(
        {"kind": "sql", "url": f"sqlite:///{database}", "table": "flights", "batch_rows": 50},
        TYPES,
    )
    assert [row[0] for row in rows("_source_row")] == list(range(1, 1_001))
    assert rows("sum(len(_refusals)) OVER (), speed")[499:502] == [
        (1, 124.75),
        (1, None),
        (1, 125.25),
    ]


def test_a_missing_column_is_named(staging: Stage, sql: dict[str, Any]) -> None:
    with pytest.raises(SourceRefusedError, match="lacks 1 of the contract's columns: 'speed'"):
        staging({**sql, "query": "select id, day from flights"}, TYPES)


def test_a_wrong_query_is_told(staging: Stage, sql: dict[str, Any]) -> None:
    with pytest.raises(SourceUnavailableError, match="no such table: nope"):
        staging({**sql, "table": "nope"}, TYPES)


def test_a_secret_is_filled_in_and_never_shown(
    staging: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTS_DB_PASSWORD", "p@ss/word")
    source = {"kind": "sql", "url": "sqlite:////no/${FLIGHTS_DB_PASSWORD}/f.db", "table": "flights"}
    with pytest.raises(SourceUnavailableError) as raised:
        staging(source, TYPES)
    assert "unable to open database" in str(raised.value)
    chain = [raised.value, raised.value.__cause__]
    assert not any("p@ss" in str(error) for error in chain)
    assert raised.value.__suppress_context__


def test_a_secret_that_is_not_set_is_named(staging: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLIGHTS_DB_PASSWORD", raising=False)
    with pytest.raises(DeclarationError, match="no variable FLIGHTS_DB_PASSWORD"):
        staging({"kind": "sql", "url": "sqlite:///${FLIGHTS_DB_PASSWORD}", "table": "t"}, TYPES)


FRAME = {"id": [1, 2], "day": ["2013-01-01", "never"], "speed": [0.5, None]}


def as_table(window: Window | None) -> pa.Table:
    return pa.table(FRAME)


def as_reader(window: Window | None) -> pa.RecordBatchReader:
    return pa.table(FRAME).to_reader()


def as_batches(window: Window | None) -> Iterator[pa.RecordBatch]:
    yield from pa.table(FRAME).to_batches(max_chunksize=1)


def as_frame(window: Window | None, *, extra: int = 0) -> pd.DataFrame:
    return pd.DataFrame(FRAME)


def as_text(window: Window | None) -> str:
    return "1,2"


def as_nothing(window: Window | None) -> list[pa.RecordBatch]:
    return []


def failing(window: Window | None, *, token: str) -> pa.Table:
    raise RuntimeError(f"the service refused {token} for {window}")


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Declare a function of this module, which pytest imports under a name of its own."""
    import sys

    monkeypatch.setitem(sys.modules, "declared_functions", sys.modules[__name__])

    def declare(name: str, **arguments: Any) -> dict[str, Any]:
        return {
            "kind": "callable",
            "function": f"declared_functions:{name}",
            "arguments": arguments,
        }

    return declare


@pytest.mark.parametrize("name", ["as_table", "as_reader", "as_batches", "as_frame"])
def test_a_function_may_return_any_arrow_data(
    staging: Stage, rows: Rows, function: Callable[..., dict[str, Any]], name: str
) -> None:
    staged = staging(function(name), TYPES)
    assert rows("id, day, speed, _source_row, [r.value FOR r IN _refusals]") == [
        (1, dt.date(2013, 1, 1), 0.5, 1, []),
        (2, None, None, 2, ["never"]),
    ]
    assert staged.files[0].uri == f"callable:declared_functions:{name}"


def test_a_function_without_any_data_is_refused(
    staging: Stage, function: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(SourceRefusedError, match="not even the names of its columns"):
        staging(function("as_nothing"), TYPES)


@pytest.mark.parametrize(
    ("name", "told"),
    [("as_text", "returned str"), ("absent", "cannot be imported"), ("TYPES", "not a function")],
)
def test_what_is_not_a_source_is_told(
    staging: Stage, function: Callable[..., dict[str, Any]], name: str, told: str
) -> None:
    with pytest.raises(DeclarationError, match=told):
        staging(function(name), TYPES)


def test_an_error_of_the_function_is_told_without_its_secrets(
    staging: Stage, function: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARIFFS_TOKEN", "s3cret")
    with pytest.raises(SourceUnavailableError, match=r"the service refused \*\*\*") as raised:
        staging(function("failing", token="${TARIFFS_TOKEN}"), TYPES)  # noqa: S106 - a reference to one
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
