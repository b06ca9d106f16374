"""What every online store does, tried on each kind there is."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import redis

from mlops_assets.features.online import (
    EntityValueError,
    Layout,
    OnlineStore,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    open_online_store,
)
from mlops_assets.features.online.layout import Kind, StoredColumn, ViewState
from mlops_assets.features.online.rows import StoredRow, encode_key
from mlops_assets.lake import TableName, TableVersion
from mlops_assets.settings import Settings, SettingsError, load_settings
from tests.features.online.redis_server import PASSWORD
from tests.servers import free_port, wait_until

NOON = datetime(2013, 5, 3, 12, tzinfo=UTC)
LAYOUT = Layout(
    "weather",
    (StoredColumn("airport", Kind.text), StoredColumn("runway", Kind.integer)),
    (StoredColumn("wind", Kind.number), StoredColumn("sky", Kind.text)),
)
SOURCE = TableVersion(TableName("features", "weather"), 7)


def batch(rows: Iterable[tuple]) -> pa.RecordBatch:
    airports, runways, winds, skies = zip(*rows, strict=True)
    return pa.record_batch(
        {
            "airport": pa.array(airports, pa.string()),
            "runway": pa.array(runways, pa.int64()),
            "@event_time": pa.array([1] * len(airports), pa.int64()),
            "@available_at": pa.array([2] * len(airports), pa.int64()),
            "@superseded_at": pa.array([None] * len(airports), pa.int64()),
            "wind": pa.array(winds, pa.float64()),
            "sky": pa.array(skies, pa.string()),
        }
    )


def fill(store: OnlineStore, *rows: tuple, layout: Layout = LAYOUT, version: int = 7) -> ViewState:
    source = TableVersion(SOURCE.table, version)
    return store.replace(layout, source, NOON, [batch(rows)] if rows else [])


def value(store: OnlineStore, *key: object, view: str = "weather") -> list | None:
    [found] = store.get([(view, [encode_key(key)])])
    [row] = found.rows
    return row and row.values


def test_a_store_that_was_never_filled_is_empty(store: OnlineStore) -> None:
    assert store.state() == {}
    [found] = store.get([("weather", [encode_key(["JFK", 4]), encode_key(["EWR", 1])])])
    assert found.state is None
    assert found.rows == [None, None]
    assert store.get([]) == []


def test_rows_are_found_by_their_whole_key(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"), ("JFK", 13, 3.0, None), ("EWR", 4, None, "fog"))

    [found, other] = store.get(
        [
            ("weather", [encode_key(["JFK", 13]), encode_key(["LGA", 4]), encode_key(["EWR", 4])]),
            ("unheard_of", [encode_key(["JFK", 13])]),
        ]
    )

    assert found.rows == [
        StoredRow(1, 2, None, [3.0, None]),
        None,
        StoredRow(1, 2, None, [None, "fog"]),
    ]
    assert found.state is not None
    assert found.state.source == SOURCE
    assert other.state is None


def test_one_key_asked_for_twice_is_answered_twice(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"))
    [found] = store.get([("weather", [encode_key(["JFK", 4])] * 3)])
    assert [row and row.values for row in found.rows] == [[11.5, "clear"]] * 3


def test_many_keys_at_once(store: OnlineStore) -> None:
    fill(store, *((f"A{number}", number, float(number), "x") for number in range(250)))
    keys = [encode_key([f"A{number}", number]) for number in range(300)]
    [found] = store.get([("weather", keys)])
    assert [row and row.values[0] for row in found.rows] == [*map(float, range(250)), *[None] * 50]


def test_the_state_says_what_is_stored(store: OnlineStore, settings: Settings) -> None:
    state = fill(store, ("JFK", 4, 11.5, "clear"), ("EWR", 4, 1.0, "fog"))

    assert (state.layout, state.source, state.as_of, state.rows) == (LAYOUT, SOURCE, NOON, 2)
    assert state.filled_at.tzinfo is not None
    another = open_online_store(settings)
    assert another.state() == {"weather": state}
    another.close()


def test_a_fill_replaces_every_row(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"), ("EWR", 4, 1.0, "fog"))
    fill(store, ("JFK", 4, 12.0, "rain"), version=8)

    assert value(store, "JFK", 4) == [12.0, "rain"]
    assert value(store, "EWR", 4) is None
    assert store.state()["weather"].source.version == 8


def test_a_fill_may_change_the_columns_and_may_be_empty(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"))
    narrow = Layout("weather", LAYOUT.key, LAYOUT.columns[:1])
    store.replace(narrow, SOURCE, NOON, [batch([("JFK", 4, 9.0, "x")]).drop_columns(["sky"])])
    assert value(store, "JFK", 4) == [9.0]

    assert fill(store).rows == 0
    assert value(store, "JFK", 4) is None


def test_views_do_not_touch_each_other(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"))
    fill(store, ("JFK", 4, 1.0, "fog"), layout=Layout("other", LAYOUT.key, LAYOUT.columns))
    fill(store, ("EWR", 4, 2.0, "x"))

    assert value(store, "JFK", 4, view="other") == [1.0, "fog"]
    assert value(store, "JFK", 4) is None


def test_a_fill_that_fails_leaves_what_was_there(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"))

    def breaks() -> Iterator[pa.RecordBatch]:
        yield batch([("JFK", 4, 0.0, "new")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.replace(LAYOUT, TableVersion(SOURCE.table, 8), NOON, breaks())

    assert value(store, "JFK", 4) == [11.5, "clear"]
    assert store.state()["weather"].source.version == 7
    fill(store, ("JFK", 4, 1.0, "later"))
    assert value(store, "JFK", 4) == [1.0, "later"]


def test_a_key_that_comes_twice_is_refused(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"))
    with pytest.raises(
        OnlineStoreError, match="features/weather@8 has two rows with the same airport"
    ):
        fill(store, ("JFK", 4, 1.0, "a"), ("JFK", 4, 2.0, "b"), version=8)
    assert value(store, "JFK", 4) == [11.5, "clear"]


def test_readers_see_the_old_or_the_new_view_whole(store: OnlineStore, settings: Settings) -> None:
    """Rows and version that are read together belong together, whatever is filled meanwhile."""
    keys = [encode_key([f"A{number}", number]) for number in range(150)]
    stop = threading.Event()
    torn: list[object] = []
    reads = 0

    def fill_version(version: int) -> None:
        rows = ((f"A{number}", number, float(version), "x") for number in range(150))
        fill(store, *rows, version=version)

    def read() -> None:
        nonlocal reads
        mine = open_online_store(settings)
        while not stop.is_set():
            [found] = mine.get([("weather", keys)])
            seen = {row and row.values[0] for row in found.rows}
            if found.state is None or seen != {float(found.state.source.version)}:
                torn.append(seen)
            reads += 1
        mine.close()

    fill_version(0)
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(1, 40):
        fill_version(version)
    wait_until(lambda: reads > 20, "the readers have read")
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def _fill_and_be_killed(settings: Settings) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, 30_000, 10_000):
            yield batch((f"A{n}", n, 0.0, "half") for n in range(first, first + 10_000))
        os.kill(os.getpid(), signal.SIGKILL)

    open_online_store(settings).replace(LAYOUT, TableVersion(SOURCE.table, 9), NOON, batches())


def test_a_killed_fill_leaves_the_old_view_and_the_next_one_works(
    store: OnlineStore, settings: Settings
) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"))
    process = multiprocessing.get_context("fork").Process(
        target=_fill_and_be_killed, args=(settings,)
    )
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert value(store, "JFK", 4) == [11.5, "clear"]
    fill(store, ("JFK", 4, 1.0, "next"), version=10)
    assert value(store, "JFK", 4) == [1.0, "next"]


def _read_in_child(store: OnlineStore, results: "multiprocessing.Queue[list | None]") -> None:
    results.put(value(store, "JFK", 4))


def test_a_store_works_on_after_a_fork(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"))
    assert value(store, "JFK", 4) == [11.5, "clear"]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_read_in_child, args=(store, results))
    child.start()
    assert results.get(timeout=60) == [11.5, "clear"]
    child.join()
    assert value(store, "JFK", 4) == [11.5, "clear"]


def test_an_entity_is_deleted_by_any_of_its_columns(store: OnlineStore) -> None:
    fill(store, ("JFK", 4, 11.5, "clear"), ("JFK", 13, 3.0, "fog"), ("EWR", 4, 1.0, "fog"))
    keyed = Layout("keyed", LAYOUT.key[:1], ())
    store.replace(keyed, SOURCE, NOON, [batch([("JFK", 0, 1.0, "x")]).select([0, 2, 3, 4])])

    assert store.delete_entities("airport", "JFK") == {"weather": 2, "keyed": 1}
    assert value(store, "JFK", 4) is None
    assert value(store, "EWR", 4) == [1.0, "fog"]
    assert store.delete_entities("sky", "fog") == {"weather": 1}
    assert store.delete_entities("tailnum", "N1") == {}
    with pytest.raises(EntityValueError, match="runway is of type str, which is no integer"):
        store.delete_entities("runway", "four")


def test_no_byte_of_a_deleted_entity_stays_in_the_file(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home")
    store = open_online_store(settings)
    rows = [(f"A{n}", n, 0.0, "x") for n in range(2000)]
    fill(store, *rows, ("N14228", 1, 1.0, "secret-sky"))
    fill(store, *rows, ("N14228", 1, 1.0, "secret-sky"))
    store.delete_entities("airport", "N14228")
    store.close()

    left = b"".join(path.read_bytes() for path in (tmp_path / "home" / "online").iterdir())
    assert b"A1999" in left
    assert b"secret-sky" not in left
    assert b"N14228" not in left


def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    port = free_port()
    store = open_online_store(
        load_settings(online_store_url=f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
    )
    with pytest.raises(OnlineStoreUnavailableError, match="does not answer") as caught:
        store.state()
    assert f"redis://127.0.0.1:{port}/0" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_wrong_password_is_said_and_not_shown(redis_url: str) -> None:
    store = open_online_store(
        load_settings(online_store_url=redis_url.replace(PASSWORD, "another-secret"))
    )
    with pytest.raises(OnlineStoreError, match="refuses the user or password") as caught:
        store.state()
    assert "another-secret" not in str(caught.value)


def test_an_abandoned_fill_expires_in_redis_and_a_finished_one_does_not(
    redis_url: str, tmp_path: Path
) -> None:
    store = open_online_store(load_settings(home=tmp_path, online_store_url=redis_url))

    def breaks() -> Iterator[pa.RecordBatch]:
        yield batch((f"A{n}", n, 0.0, "half") for n in range(6000))
        raise ZeroDivisionError

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        with pytest.raises(ZeroDivisionError):
            store.replace(LAYOUT, SOURCE, NOON, breaks())
        [abandoned] = client.keys("*filling*")
        assert client.ttl(abandoned) > 0
        fill(store, ("JFK", 4, 1.0, "x"))
        assert client.ttl("{mlops:online}:rows:weather") == -1


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database, however long it is" * 100)
    store = open_online_store(load_settings(online_store_url=str(path)))
    with pytest.raises(OnlineStoreError, match="Remove the file and fill it again"):
        store.state()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = open_online_store(load_settings(online_store_url=str(tmp_path / "file" / "store.db")))
    with pytest.raises(OnlineStoreError, match="Make its folder writable"):
        store.state()


def test_the_state_is_plain_json(store: OnlineStore) -> None:
    state = fill(store, ("JFK", 4, 11.5, "clear"))
    assert json.loads(state.to_json())["source"] == "features/weather@7"
    assert ViewState.from_json(state.to_json()) == state


def test_the_default_place_is_in_home(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert open_online_store(settings).place == str(tmp_path / "online" / "store.db")
    assert load_settings(home=tmp_path, online_store_url="a.db").online_store_url == str(
        tmp_path / "a.db"
    )


def test_an_url_of_another_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="begins with mysql://; write a path"):
        load_settings(online_store_url="mysql://user:secret@host/db")
