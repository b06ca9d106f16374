"""Shipping: exactly once, whoever ships, whatever the lake does, whatever a newer model has."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.lake import Lake, LakeError, TableName
from mlops_assets.serving.inference_log import InferenceLog, LoggedModel, ShippingError
from mlops_assets.serving.inference_log import shipping as shipping_module
from mlops_assets.serving.inference_log.shipments import shipping_lock
from mlops_assets.serving.inference_log.shipping import create_tables, ship
from mlops_assets.training.dataset import FeatureSchema
from tests.serving.inference_log.conftest import Answer

TABLE = TableName.parse("inference/flight_delay")
Write = Callable[..., Path]


@pytest.fixture
def write(folder: Path, model: LoggedModel, answer: Answer) -> Write:
    """Write a finished segment with answers of these requests; ``write("a", "b")``."""

    def written(*requests: str) -> Path:
        before = set((folder / "segments").glob("*.segment"))
        with InferenceLog(folder) as log:
            log.declare("flight_delay", 3, model)
            for request in requests:
                log.append([answer(request_id=request)])
        [path] = set((folder / "segments").glob("*.segment")) - before
        return path

    return written


def ids(lake: Lake) -> list[str]:
    table = lake.read(TABLE, columns=["prediction_id"]).read_all()
    return sorted(name.removesuffix("-0") for name in table["prediction_id"].to_pylist())


def test_many_segments_are_one_commit_a_table(lake: Lake, folder: Path, write: Write) -> None:
    for name in "abc":
        write(name)
    shipped = ship(lake, folder)
    assert (shipped.segments, shipped.rows) == (3, {"flight_delay": 3})
    assert lake.version(TABLE) == 0
    assert list((folder / "segments").iterdir()) == []
    assert ship(lake, folder).segments == 0
    assert ids(lake) == ["a", "b", "c"]


def test_a_shipment_stays_bounded(
    lake: Lake, folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping_module, "_MOST_BYTES", 1)
    for name in "abc":
        write(name)
    assert ship(lake, folder).segments == 3
    assert lake.version(TABLE) == 2
    assert ids(lake) == ["a", "b", "c"]


def test_several_shippers_at_once(lake: Lake, folder: Path, write: Write) -> None:
    for number in range(8):
        write(f"r{number}")
    counts = []
    shippers = [
        threading.Thread(target=lambda: counts.append(ship(lake, folder).segments))
        for _ in range(4)
    ]
    for shipper in shippers:
        shipper.start()
    for shipper in shippers:
        shipper.join()
    assert sorted(counts) == [0, 0, 0, 8]
    assert ids(lake) == [f"r{number}" for number in range(8)]


def test_one_who_holds_the_lock_too_long_is_named(lake: Lake, folder: Path, write: Write) -> None:
    write("a")
    with (
        shipping_lock(folder, timeout=1),
        pytest.raises(ShippingError, match="Another process has been shipping"),
    ):
        ship(lake, folder, timeout=0.01)


def test_a_lake_that_cannot_be_written_leaves_the_segments(
    tmp_path: Path, lake: Lake, folder: Path, write: Write
) -> None:
    write("a")
    (tmp_path / "lake").write_text("in the way")
    for _ in range(2):
        with pytest.raises(LakeError):
            ship(lake, folder)
        assert len(list((folder / "segments").glob("*.segment"))) == 1
    (tmp_path / "lake").unlink()
    write("b")
    assert ship(lake, folder).rows == {"flight_delay": 2}
    assert ids(lake) == ["a", "b"]


def test_damage_costs_one_record_and_the_segment_is_kept(
    lake: Lake, folder: Path, write: Write
) -> None:
    path = write("a", "b", "c")
    data = bytearray(path.read_bytes())
    middle = data.index(b"b", data.index(b"champion", data.index(b"champion") + 1))
    data[middle] ^= 255
    path.write_bytes(data)

    shipped = ship(lake, folder)

    assert ids(lake) == ["a", "c"]
    assert shipped.refused == (folder / "refused" / path.name,)
    assert shipped.refused[0].read_bytes() == data
    report = json.loads(shipped.refused[0].with_suffix(".json").read_text())
    assert "do not match their check" in report["problems"][0]
    with lake.connect() as con:
        [(kind, message)] = con.sql("SELECT kind, message FROM inference.events").fetchall()
    assert kind == "log_damaged"
    assert path.name in message
    assert ship(lake, folder).segments == 0


def test_a_file_that_is_no_segment_is_kept_and_stops_nothing(
    lake: Lake, folder: Path, write: Write
) -> None:
    write("a")
    stray = folder / "segments" / "00000000-stray.segment"
    stray.write_bytes(b"what is this, it is longer than a header")
    shipped = ship(lake, folder)
    assert ids(lake) == ["a"]
    assert [path.name for path in shipped.refused] == [stray.name]


def test_a_newer_model_adds_columns(lake: Lake, folder: Path, write: Write, answer: Answer) -> None:
    write("old")
    ship(lake, folder)
    newer = LoggedModel(
        FeatureSchema(("wind", "gust", "distance"), ()),
        ("probability",),
        pa.schema([("tail", pa.string())]),
    )
    with InferenceLog(folder) as log:
        log.declare("flight_delay", 4, newer)
        numbers = np.array([[1, 2, 3]], np.float32)
        log.append([answer(request_id="new", version=4, numbers=numbers, categories=[], entity={})])
    write("old again")
    ship(lake, folder)
    with lake.connect() as con:
        rows = con.sql(
            f"SELECT prediction_id, version, wind, gust, carrier FROM {TABLE.sql} ORDER BY ALL"
        ).fetchall()
    assert rows == [
        ("new-0", 4, 1.0, 2.0, None),
        ("old again-0", 3, 3.5, None, "UA"),
        ("old-0", 3, 3.5, None, "UA"),
    ]


def test_a_feature_that_became_text_gets_a_column_of_its_own(
    lake: Lake, folder: Path, write: Write, answer: Answer
) -> None:
    write("number")
    ship(lake, folder)
    newer = LoggedModel(FeatureSchema(("wind",), ("wind",)), ("probability",), pa.schema([]))
    with InferenceLog(folder) as log:
        log.declare("flight_delay", 4, newer)
        log.append(
            [
                answer(
                    request_id="text", version=4, entity={}, categories=[["strong"]],
                    numbers=np.zeros((1, 0), np.float32),
                )
            ]
        )  # fmt: skip
    ship(lake, folder)
    with lake.connect() as con:
        rows = con.sql(f"SELECT wind, wind_varchar FROM {TABLE.sql} ORDER BY 1").fetchall()
    assert rows == [(3.5, None), (None, "strong")]


def test_names_that_are_taken_get_their_kind_before_them(
    lake: Lake, folder: Path, answer: Answer
) -> None:
    schema = FeatureSchema(("version", "Answer", "seconds"), ())
    odd = LoggedModel(schema, ("probability",), pa.schema([("seconds", pa.int64())]))
    with InferenceLog(folder) as log:
        log.declare("odd", 1, odd)
        numbers = np.array([[1, 2, 3]], np.float32)
        log.append(
            [
                answer(
                    family="odd", version=1, numbers=numbers, categories=[],
                    entity={"seconds": [5]},
                )
            ]
        )  # fmt: skip
    ship(lake, folder)
    with lake.connect() as con:
        rows = con.sql(
            "SELECT version, feature_version, answer, feature_Answer, seconds, entity_seconds, "
            "feature_seconds FROM inference.odd"
        ).fetchall()
    assert rows == [(1, 1.0, 0.25, 2.0, 0.002, 5, 3.0)]


def test_tables_that_were_created_empty_get_their_columns(
    lake: Lake, folder: Path, write: Write
) -> None:
    create_tables(lake, ["flight_delay"])
    create_tables(lake, ["flight_delay"])
    assert lake.describe(TABLE).rows == 0
    write("a")
    ship(lake, folder)
    assert ids(lake) == ["a"]


def test_small_files_are_compacted_now_and_then(
    lake: Lake, folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping_module, "COMPACT_AFTER", 3)
    for number in range(4):
        write(f"r{number}")
        ship(lake, folder)
    assert lake.describe(TABLE).files == 2  # three became one, and one came after
    assert ids(lake) == ["r0", "r1", "r2", "r3"]


def test_a_record_of_shipments_that_was_lost_loses_nothing(
    lake: Lake, folder: Path, write: Write
) -> None:
    write("a")
    ship(lake, folder)
    (folder / "shipments.json").unlink()
    write("b")
    ship(lake, folder)
    assert ids(lake) == ["a", "b"]


def test_a_record_that_is_older_than_the_table_stops_shipping_instead_of_losing_rows(
    lake: Lake, folder: Path, write: Write
) -> None:
    record = folder / "shipments.json"
    write("a")
    ship(lake, folder)
    backup = record.read_text()
    write("b")
    ship(lake, folder)
    record.write_text(backup)
    write("c")
    for _ in range(2):
        with pytest.raises(ShippingError, match=r"restored backup.*Remove shipments\.json"):
            ship(lake, folder)
    record.unlink()
    ship(lake, folder)
    assert ids(lake) == ["a", "b", "c"]


def test_a_record_that_is_none_is_named(lake: Lake, folder: Path, write: Write) -> None:
    write("a")
    (folder / "shipments.json").write_text("{}")
    with pytest.raises(ShippingError, match=r"shipments\.json is no record"):
        ship(lake, folder)


def test_shadow_answers_are_told_from_those_a_caller_saw(
    lake: Lake, folder: Path, model: LoggedModel, answer: Answer
) -> None:
    with InferenceLog(folder) as log:
        for version in (3, 4):
            log.declare("flight_delay", version, model)
        given = answer(request_id="a")
        log.append([given, replace(given, request_id="a-shadow", version=4, role="shadow")])
    ship(lake, folder)
    with lake.connect() as con:
        rows = con.sql(f"SELECT version, role FROM {TABLE.sql} ORDER BY 1").fetchall()
    assert rows == [(3, "champion"), (4, "shadow")]
