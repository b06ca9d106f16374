"""Several writers at once: each row is there, once, and no version mixes two writes."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_assets.lake import (
    Commit,
    ConcurrentWriteError,
    Lake,
    TableExistsError,
    TableName,
    Window,
)
from mlops_assets.lake import writes as lake_writes

Rows = Callable[..., pa.Table]
WORKER = Path(__file__).with_name("worker.py")
EVENTS = TableName("raw", "events")


def test_processes_that_append_merge_and_overwrite_lose_no_row(tmp_path: Path, lake: Lake) -> None:
    jobs = [
        ("append", 1, 6),
        ("append", 2, 6),
        ("overwrite_windows", 3, 6),
        ("overwrite_windows", 4, 6),
        ("merge", 5, 3),
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), verb, str(tmp_path), str(writer), str(times)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for verb, writer, times in jobs
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with lake.connect() as con:
        found = con.sql(
            "SELECT writer, number, count(*), count(DISTINCT row) FROM raw.events GROUP BY ALL"
        ).fetchall()
    expected = [(writer, number, 20, 20) for writer in (1, 2) for number in range(6)]
    expected += [(3, 5, 20, 20), (4, 5, 20, 20), (5, 2, 20, 20)]
    assert sorted(found) == expected
    assert len(lake.history(EVENTS)) == 6 + 6 + 6 + 6 + 3


def together(*actions: Callable[[], Commit | None]) -> list[Commit | None]:
    """Run actions in threads that start at the same moment; raise what any of them raised."""
    barrier = threading.Barrier(len(actions))
    results: list[Commit | None] = [None] * len(actions)
    errors: list[Exception] = []

    def run(place: int, action: Callable[[], Commit | None]) -> None:
        barrier.wait()
        try:
            results[place] = action()
        except Exception as error:  # noqa: BLE001 - handed to the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=job) for job in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def first_of_january() -> Window:
    return Window("day", date(2013, 1, 1), date(2013, 1, 2))


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "new"])
@pytest.mark.parametrize("one", ["overwrite", "window"])
@pytest.mark.parametrize("other", ["overwrite", "window"])
def test_of_two_writers_of_the_same_rows_one_comes_last(
    lake: Lake, flights: TableName, rows: Rows, one: str, other: str, stored: bool
) -> None:
    for number in range(4):
        table = TableName("raw", f"race_{number}")
        if stored:
            lake.create(table, rows(1).schema)

        def write(kind: str, first: int, table: TableName = table) -> Commit:
            data = rows(1, 3, first=first).to_reader()
            if kind == "overwrite":
                return lake.overwrite(table, data)
            return lake.overwrite_window(table, data, first_of_january())

        together(lambda: write(one, 0), lambda: write(other, 100))
        ids = sorted(lake.read(table).read_all()["id"].to_pylist())
        assert ids in ([0, 1, 2], [100, 101, 102])


def test_a_transaction_given_twice_at_once_is_applied_once(
    lake: Lake, flights: TableName, rows: Rows
) -> None:
    for number in range(5):
        results = together(
            *[lambda: lake.append(flights, rows(1), transaction=("ingest", number))] * 3  # noqa: B023 - run at once
        )
        assert [result is None for result in results].count(False) == 1
    assert lake.describe(flights).rows == 20


def test_of_two_that_create_a_table_one_is_told_that_it_exists(
    lake: Lake, flights: TableName, rows: Rows
) -> None:
    for number in range(5):
        table = TableName("raw", f"race_{number}")
        with pytest.raises(TableExistsError, match=table.name):
            together(*[lambda: lake.create(table, rows(1).schema)] * 2)  # noqa: B023 - run at once
        assert lake.version(table) == 0


def test_a_table_can_be_written_from_another(lake: Lake, flights: TableName, rows: Rows) -> None:
    lake.overwrite(flights, rows(1))
    copy = TableName("raw", "copy")
    lake.overwrite(copy, lake.read(flights))
    lake.overwrite(flights, lake.read(flights))
    with lake.connect() as con:
        lake.append(copy, con.sql("FROM raw.flights").to_arrow_reader())
    assert lake.read(copy).read_all().num_rows == 8


def test_each_commit_knows_its_own_version(lake: Lake, flights: TableName, rows: Rows) -> None:
    def append(name: str) -> Commit | None:
        return lake.append(flights, rows(1), metadata={"name": name})

    names = [f"writer-{number}" for number in range(6)]
    commits = together(*[lambda name=name: append(name) for name in names])  # type: ignore[misc] # mypy cannot infer a default of a lambda
    by_version = {commit.version: commit.metadata["name"] for commit in lake.history(flights)}
    for name, commit in zip(names, commits, strict=True):
        assert commit is not None
        assert by_version[commit.version] == name


def test_compaction_beside_writers_loses_nothing(
    lake: Lake, flights: TableName, rows: Rows
) -> None:
    for number in range(1, 6):
        lake.append(flights, rows(number))
    together(
        lambda: lake.compact(flights),
        lambda: lake.append(flights, rows(6)),
        lambda: lake.overwrite_window(flights, rows(1, 2), first_of_january()),
    )
    with lake.connect() as con:
        found = con.sql("SELECT day(day), count(*) FROM raw.flights GROUP BY 1").fetchall()
    assert dict(found) == {1: 2, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4}


def test_a_lost_race_starts_over_with_all_rows(lake: Lake, flights: TableName, rows: Rows) -> None:
    """The other writer commits while our rows are on their way in; ours can be read only once."""
    lake.overwrite(flights, pa.concat_tables([rows(1), rows(2)]))
    reads = []

    def overtaken():
        for batch in rows(1, 30).to_batches(max_chunksize=10):
            reads.append(batch)
            if len(reads) == 2:
                lake.overwrite_window(flights, rows(1, 7), first_of_january())
            yield batch

    ours = pa.RecordBatchReader.from_batches(rows(1).schema, overtaken())
    commit = lake.overwrite_window(flights, ours, first_of_january())
    assert len(reads) == 3, "the source was read more than once"
    assert commit.version == 2
    with lake.connect() as con:
        found = con.sql("SELECT day(day), count(*) FROM raw.flights GROUP BY 1").fetchall()
    assert dict(found) == {1: 30, 2: 4}


def test_a_callable_is_opened_anew_after_a_lost_race(
    lake: Lake, flights: TableName, rows: Rows
) -> None:
    lake.overwrite(flights, rows(1))
    opened = []

    def source() -> pa.RecordBatchReader:
        opened.append(True)
        if len(opened) == 1:
            lake.overwrite(flights, rows(1, 7))
        return rows(1, 5).to_reader()

    lake.overwrite(flights, source)
    assert lake.describe(flights).rows == 5


def test_a_writer_that_never_wins_gives_up_with_a_clear_error(
    lake: Lake, flights: TableName, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_writes, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(lake_writes, "_ATTEMPTS", 3)
    lake.overwrite(flights, rows(1))
    others = []

    def overtaken():
        lake.overwrite(flights, rows(1, 2))
        others.append(True)
        yield from rows(1, 9).to_batches()

    def source() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(rows(1).schema, overtaken())

    with pytest.raises(ConcurrentWriteError, match=r"raw/flights.*first 3 times.*nothing was"):
        lake.overwrite(flights, source)
    assert len(others) == 3
    assert lake.describe(flights).rows == 2


def test_a_window_moves_on_when_others_write_elsewhere(
    lake: Lake, flights: TableName, rows: Rows
) -> None:
    start = date(2013, 1, 1)
    windows = [
        Window("day", start + timedelta(days=i), start + timedelta(days=i + 1)) for i in range(4)
    ]
    together(
        *[
            lambda i=i: lake.overwrite_window(flights, rows(i + 1).to_reader(), windows[i])  # type: ignore[misc] # mypy cannot infer a default of a lambda
            for i in range(4)
        ]
    )
    assert lake.describe(flights).rows == 16
