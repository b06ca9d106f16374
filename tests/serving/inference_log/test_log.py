"""Writing: one row a prediction with every value as it was, and what does not fit is refused."""

import threading
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.serving.inference_log import (
    Event,
    EventKind,
    InferenceLog,
    InferenceLogError,
    Kept,
    LoggedModel,
    NotDeclaredError,
    waiting_segments,
)
from mlops_assets.serving.inference_log.shipping import ship
from mlops_assets.training.dataset import FeatureSchema
from tests.serving.inference_log.conftest import AT, AT_US, Answer, until

TABLE = TableName.parse("inference/flight_delay")


def test_a_prediction_is_a_row_with_every_value(
    log: InferenceLog, lake: Lake, folder: Path, answer: Answer
) -> None:
    given = answer(
        request_id="a",
        rows=2,
        entity={"flight_id": [7, None], "day": [date(2013, 10, 1), None], "scheduled": [AT, AT]},
        numbers=np.array([[3.5, np.nan], [0.1, 2.0]], np.float32),
        categories=[["UA", None]],
        answers=np.array([0.25, 0.75]),
        warnings=("carrier is new",),
    )
    assert log.append([given, answer(request_id="b", as_of=None, entity={})]) is Kept.logged
    log.close()

    shipped = ship(lake, folder)

    assert shipped.rows == {"flight_delay": 3}
    rows = lake.read(TABLE).read_all().to_pylist()
    common = {
        "day": date(2013, 10, 1),
        "answered_at": AT,
        "family": "flight_delay",
        "version": 3,
        "role": "champion",
        "caller": "anonymous",
        "source": "online",
        "seconds": 0.002,
        "feature_versions": [("fv_weather", 7)],
    }
    assert rows == [
        {
            **common,
            "prediction_id": "a-0", "request_id": "a", "as_of": AT,
            "warnings": ["carrier is new"],
            "flight_id": 7, "entity_day": date(2013, 10, 1), "scheduled": AT,
            "wind": 3.5, "carrier": "UA", "distance": None, "answer": 0.25,
        },
        {
            **common,
            "prediction_id": "a-1", "request_id": "a", "as_of": AT,
            "warnings": ["carrier is new"],
            "flight_id": None, "entity_day": None, "scheduled": AT,
            "wind": float(np.float32(0.1)), "carrier": None, "distance": 2.0, "answer": 0.75,
        },
        {
            **common,
            "prediction_id": "b-0", "request_id": "b", "as_of": None, "warnings": [],
            "flight_id": None, "entity_day": None, "scheduled": None,
            "wind": 3.5, "carrier": "UA", "distance": None, "answer": 0.25,
        },
    ]  # fmt: skip


def test_the_table_describes_itself(
    log: InferenceLog, lake: Lake, folder: Path, answer: Answer
) -> None:
    log.append([answer()])
    log.close()
    ship(lake, folder)
    info = lake.describe(TABLE)
    assert "flight_delay" in info.description
    comments = {field.name: (field.metadata or {}).get(b"comment", b"") for field in info.schema}
    assert [name for name, comment in comments.items() if not comment] == []
    types = {field.name: field.type for field in info.schema}
    assert types["flight_id"] == pa.int64()
    assert types["entity_day"] == pa.date32()
    assert types["scheduled"] == pa.timestamp("us", "UTC")
    assert types["wind"] == pa.float32()
    assert types["carrier"] == pa.string()


def test_several_outputs_have_a_column_each(lake: Lake, folder: Path, answer: Answer) -> None:
    schema = FeatureSchema(("wind", "distance"), ())
    with InferenceLog(folder) as log:
        log.declare("minutes", 1, LoggedModel(schema, ("q0.1", "q0.5", "Q0.5"), pa.schema([])))
        log.append(
            [
                answer(
                    family="minutes", version=1, rows=2, entity={}, categories=[],
                    answers=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
                )
            ]
        )  # fmt: skip
    ship(lake, folder)
    with lake.connect() as con:
        found = con.sql(
            'SELECT "answer_q0.1", "answer_q0.5", "other_answer_Q0.5" FROM inference.minutes'
        )
        assert found.fetchall() == [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)]


MISFITS = {
    "numbers of another width": {"numbers": np.zeros((1, 3), np.float32)},
    "numbers of another type": {"numbers": np.zeros((1, 2))},
    "answers of another type": {"answers": np.zeros(1, np.float32)},
    "more answers than rows": {"answers": np.zeros(2)},
    "a category too few": {"categories": []},
    "a short category": {"categories": [[]]},
    "an unknown entity column": {"entity": {"tail": ["N1"]}},
    "a short entity column": {"entity": {"flight_id": []}},
    "times of other rows": {"as_of": [AT_US, AT_US]},
    "an unknown version": {"version": 4},
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_its_model_is_refused_whole(
    log: InferenceLog, lake: Lake, folder: Path, answer: Answer, change: dict[str, object]
) -> None:
    with pytest.raises(NotDeclaredError, match="flight_delay/"):
        log.append([answer(request_id="good"), replace(answer(), **change)])
    log.close()
    assert ship(lake, folder).rows == {}


def test_a_value_that_cannot_be_stored_is_refused_by_name(
    log: InferenceLog, answer: Answer
) -> None:
    with pytest.raises(NotDeclaredError, match=r"object.*cannot be logged"):
        log.append([answer(entity={"flight_id": [object()]})])


def test_a_value_of_another_type_is_null_with_a_warning_and_costs_no_other(
    log: InferenceLog, lake: Lake, folder: Path, answer: Answer
) -> None:
    log.append([answer(rows=3, entity={"flight_id": [1, "seven", 3]}, warnings=("first",))])
    log.close()
    ship(lake, folder)
    with lake.connect() as con:
        rows = con.sql(f"SELECT flight_id, warnings FROM {TABLE.sql} ORDER BY 1").fetchall()
    assert rows == [
        (1, ["first"]),
        (3, ["first"]),
        (None, ["first", "flight_id was 'seven', which is no int64; logged as null"]),
    ]


def test_numpy_values_are_logged_as_what_they_are(
    log: InferenceLog, lake: Lake, folder: Path, answer: Answer
) -> None:
    log.append([answer(entity={"flight_id": np.array([9], np.int32)}, as_of=np.array([AT_US]))])
    log.append([answer(entity={"flight_id": [np.int64(8)]})])
    log.close()
    ship(lake, folder)
    with lake.connect() as con:
        rows = con.sql(f"SELECT flight_id, as_of FROM {TABLE.sql} ORDER BY 1").fetchall()
    assert [(flight, as_of.timestamp() * 1e6) for flight, as_of in rows] == [(8, AT_US), (9, AT_US)]


def test_a_segment_is_finished_by_age_without_another_request(
    folder: Path, model: LoggedModel, lake: Lake, answer: Answer
) -> None:
    with InferenceLog(folder, sync_seconds=0.01, segment_seconds=0.05) as log:
        log.declare("flight_delay", 3, model)
        log.append([answer()])
        until(lambda: waiting_segments(folder).segments == 1)
        assert ship(lake, folder).rows == {"flight_delay": 1}
        log.append([answer(request_id="later")])  # the next segment describes the model again
    assert ship(lake, folder).rows == {"flight_delay": 1}
    assert lake.describe(TABLE).rows == 2


def test_a_segment_is_finished_by_size(folder: Path, model: LoggedModel, answer: Answer) -> None:
    with InferenceLog(folder, sync_seconds=0.01, segment_bytes=1000) as log:
        log.declare("flight_delay", 3, model)
        for _ in range(10):
            log.append([answer()])
        until(lambda: waiting_segments(folder).segments == 1)


def test_an_idle_log_makes_no_segments(folder: Path) -> None:
    with InferenceLog(folder, sync_seconds=0.01, segment_seconds=0.01):
        time.sleep(0.1)
        assert waiting_segments(folder).segments == 0
        assert len(list((folder / "segments").iterdir())) == 1


def test_what_is_written_is_synced_within_the_bound(log: InferenceLog, answer: Answer) -> None:
    log.append([answer()])
    until(lambda: log.status().unsynced_seconds == 0.0)
    assert log.status().logged == 1


def test_threads_write_at_once_and_nothing_is_mixed_up(
    folder: Path, model: LoggedModel, lake: Lake, answer: Answer
) -> None:
    with InferenceLog(folder, sync_seconds=0.005, segment_bytes=20_000) as log:
        log.declare("flight_delay", 3, model)

        def work(name: str) -> None:
            for number in range(300):
                log.append([answer(request_id=f"{name}{number}")])

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ship(lake, folder).segments > 1
    ids = lake.read(TABLE, columns=["prediction_id"]).read_all()["prediction_id"].to_pylist()
    assert sorted(ids) == sorted(f"{name}{number}-0" for name in "abcd" for number in range(300))


def test_an_event_becomes_a_row(log: InferenceLog, lake: Lake, folder: Path) -> None:
    log.report(Event(EventKind.model_refused, "no such file", "flight_delay", 4, at=AT_US))
    log.report(Event(EventKind.canary_stopped, "too many failures", since=AT_US, rows=12))
    log.close()
    assert ship(lake, folder).events == 2
    with lake.connect() as con:
        rows = con.execute(
            'SELECT kind, message, family, version, "at" = $1, since = $1, "rows" '
            'FROM inference.events ORDER BY "at"',
            [AT],
        ).fetchall()
    assert rows == [
        ("model_refused", "no such file", "flight_delay", 4, True, None, None),
        ("canary_stopped", "too many failures", None, None, False, True, 12),
    ]


def test_a_closed_log_says_so(log: InferenceLog, answer: Answer) -> None:
    log.close()
    log.close()
    with pytest.raises(InferenceLogError, match="is closed"):
        log.append([answer()])


def test_a_segment_that_somebody_deletes_is_reported_and_the_log_goes_on(
    log: InferenceLog, lake: Lake, folder: Path, answer: Answer
) -> None:
    [path] = (folder / "segments").iterdir()
    path.unlink()
    until(lambda: log._segment.path != path)
    log.append([answer()])
    log.close()
    shipped = ship(lake, folder)
    assert (shipped.rows, shipped.events) == ({"flight_delay": 1}, 1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InferenceLogError, match=f"{tmp_path / 'file'}.*MLOPS_SERVE_LOG_FOLDER"):
        InferenceLog(tmp_path / "file")


def test_no_family_takes_the_name_of_the_events(log: InferenceLog, model: LoggedModel) -> None:
    with pytest.raises(NotDeclaredError, match="inference/events"):
        log.declare("events", 1, model)
