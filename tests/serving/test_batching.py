"""Requests that arrive together are answered together, and none pays for another."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from catboost import CatBoostError
from numpy.typing import NDArray

from mlops_assets.serving.batching import LONG_SECONDS, MOST_ROWS, Batcher, Call, Reply
from mlops_assets.serving.inference_log import (
    Answered,
    InferenceLog,
    Kept,
    LogFullError,
    LoggedModel,
    NotDeclaredError,
    WhenFull,
)
from mlops_assets.serving.inference_log.contents import Contents, read_contents
from mlops_assets.serving.inference_log.segments import finished_segments
from mlops_assets.serving.inputs import Inputs, Policy
from mlops_assets.serving.served import ServedModel, load_served
from mlops_assets.settings import Settings
from tests.serving.conftest import client_of, deployment_in
from tests.serving.full_disk import no_room
from tests.serving.world import World


class CountedLog(InferenceLog):
    """A log that remembers how many answers each write had."""

    writes: list[int]

    def append(self, answered: Sequence[Answered]) -> Kept:
        self.writes.append(len(answered))
        return super().append(answered)


@dataclass
class Station:
    """A model with its batcher and its log."""

    model: ServedModel
    log: CountedLog
    batcher: Batcher
    calls: list[int]
    executor: ThreadPoolExecutor
    inputs: Inputs = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = self.model.example

    def call(self, number: int, rows: int = 1, inputs: Inputs | None = None) -> Call:
        """Ask about some rows of the model's example, other ones for each number."""
        first = number % (len(self.inputs) - rows + 1) if rows <= len(self.inputs) else 0
        return Call(
            inputs=inputs or self.inputs.take(first, first + rows),
            role="champion",
            request_id=f"request{number}",
            caller="test",
            source="request",
            begun=time.perf_counter(),
        )

    def expected(self, call: Call) -> NDArray[np.float64]:
        return self.model.scorer.answers(call.inputs)

    def contents(self) -> Contents:
        self.log.close()
        return read_contents(list(finished_segments(self.log.folder)))


def station_of(world: World, folder: Path, when_full: WhenFull = WhenFull.refuse) -> Station:
    path = world.folder / "models" / "outcomes" / "1"
    model = load_served("outcomes", 1, path, threshold=None, policy=Policy())
    log = CountedLog(folder, when_full=when_full)
    log.writes = []
    log.declare("outcomes", 1, LoggedModel(model.estimator.schema, model.outputs, pa.schema([])))
    calls: list[int] = []
    executor = ThreadPoolExecutor(2)
    batcher = Batcher(model, log, executor, lambda rows, _: calls.append(rows))
    return Station(model, log, batcher, calls, executor)


@pytest.fixture
def station(world: World, tmp_path: Path) -> Iterator[Station]:
    made = station_of(world, tmp_path / "log")
    yield made
    made.executor.shutdown()
    made.log.close()


def repeated(inputs: Inputs, rows: int) -> Inputs:
    """Return so many rows."""
    which = np.arange(rows) % len(inputs)
    return Inputs(
        inputs.numbers[which],
        tuple([values[row] for row in which] for values in inputs.categories),
    )


async def together(station: Station, calls: Sequence[Call]) -> list[Reply | BaseException]:
    return await asyncio.gather(
        *(station.batcher.answer(call) for call in calls), return_exceptions=True
    )


def assert_answered(station: Station, call: Call, reply: Reply | BaseException) -> None:
    assert isinstance(reply, Reply), reply
    assert reply.kept is Kept.logged
    np.testing.assert_array_equal(reply.answers, station.expected(call))


def poison(station: Station) -> Inputs:
    """Return a row that no caller can send, and at which the model's library raises."""
    row = station.inputs.take(0, 1)
    return Inputs(row.numbers, tuple([1.5] for _ in row.categories))  # type: ignore[misc] # on purpose


def test_requests_that_arrive_together_are_one_call_and_one_write(station: Station) -> None:
    calls = [station.call(number, rows=1 + number % 3) for number in range(30)]
    replies = asyncio.run(together(station, calls))
    assert station.calls == [sum(len(call.inputs) for call in calls)]
    assert station.log.writes == [30]
    for call, reply in zip(calls, replies, strict=True):
        assert_answered(station, call, reply)
    [table] = station.contents().families["outcomes"]
    expected = [f"{c.request_id}-{row}" for c in calls for row in range(len(c.inputs))]
    assert table["prediction_id"].to_pylist() == expected


def test_one_after_the_other_they_are_a_call_each(station: Station) -> None:
    async def ask() -> None:
        for number in range(3):
            call = station.call(number)
            assert_answered(station, call, await station.batcher.answer(call))

    asyncio.run(ask())
    assert station.calls == [1, 1, 1]


def test_together_they_are_no_more_than_a_batch(station: Station) -> None:
    large = repeated(station.inputs, MOST_ROWS + 500)
    calls = [
        station.call(0, inputs=repeated(station.inputs, MOST_ROWS - 1)),
        station.call(1),
        station.call(2),
        station.call(3, inputs=large),
        station.call(4),
    ]
    replies = asyncio.run(together(station, calls))
    for call, reply in zip(calls, replies, strict=True):
        assert_answered(station, call, reply)
    assert sorted(station.calls) == sorted([MOST_ROWS, 1, MOST_ROWS + 500, 1])


def test_a_poisoned_row_fails_its_own_request_alone(station: Station) -> None:
    calls = [station.call(number) for number in range(5)]
    calls[2] = replace(calls[2], inputs=poison(station))
    replies = asyncio.run(together(station, calls))
    assert isinstance(replies[2], CatBoostError)
    for place in (0, 1, 3, 4):
        assert_answered(station, calls[place], replies[place])
    contents = station.contents()
    [*tables] = contents.families["outcomes"]
    logged = [name for table in tables for name in table["prediction_id"].to_pylist()]
    assert logged == [f"request{number}-0" for number in (0, 1, 3, 4)]
    told = [row for table in contents.events for row in table.to_pylist()]
    [failure] = [row for row in told if row["kind"] == "model_failed"]
    assert (failure["family"], failure["version"], failure["rows"]) == ("outcomes", 1, 1)


def test_what_the_log_does_not_take_fails_its_own_request_alone(station: Station) -> None:
    calls = [station.call(number) for number in range(3)]
    calls[1] = replace(calls[1], entity={"undeclared": [1]})
    replies = asyncio.run(together(station, calls))
    assert isinstance(replies[1], NotDeclaredError)
    for place in (0, 2):
        assert_answered(station, calls[place], replies[place])


def test_a_caller_who_goes_harms_nobody(station: Station) -> None:
    async def ask() -> None:
        calls = [station.call(number) for number in range(3)]
        tasks = [asyncio.create_task(station.batcher.answer(call)) for call in calls]
        await asyncio.sleep(0)
        tasks[1].cancel()
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(replies[1], asyncio.CancelledError)
        for place in (0, 2):
            assert_answered(station, calls[place], replies[place])

    asyncio.run(ask())
    assert station.calls == [2]
    [table] = station.contents().families["outcomes"]
    assert table["prediction_id"].to_pylist() == ["request0-0", "request2-0"]


def test_a_caller_who_goes_during_a_long_call_harms_nobody(station: Station) -> None:
    async def ask() -> None:
        calls = [
            station.call(number, inputs=repeated(station.inputs, MOST_ROWS // 2))
            for number in range(2)
        ]
        station.batcher.model = slow(station.model)
        tasks = [asyncio.create_task(station.batcher.answer(call)) for call in calls]
        await asyncio.sleep(0)  # they are asked
        await asyncio.sleep(0)  # the thread has them
        tasks[0].cancel()
        assert_answered(station, calls[1], await tasks[1])

    asyncio.run(ask())
    assert station.calls == [MOST_ROWS]


def slow(model: ServedModel) -> ServedModel:
    """Return a model that is known to take long, so that it is asked in a thread."""
    return replace(model, cost=replace(model.cost, fixed=2 * LONG_SECONDS))


def test_a_long_call_does_not_keep_a_short_one_waiting(station: Station) -> None:
    async def ask() -> list[str]:
        done: list[str] = []

        async def answered(name: str, call: Call) -> None:
            assert_answered(station, call, await station.batcher.answer(call))
            done.append(name)

        long = asyncio.create_task(
            answered("long", station.call(0, inputs=repeated(station.inputs, 200_000)))
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(3):
            await answered("short", station.call(number))
        await long
        return done

    assert station.model.cost.of(200_000) > LONG_SECONDS > station.model.cost.of(1)
    assert asyncio.run(ask()) == ["short", "short", "short", "long"]


def test_a_full_log_refuses_all_that_would_leave_unlogged(station: Station) -> None:
    calls = [station.call(number) for number in range(3)]
    with no_room():
        replies = asyncio.run(together(station, calls))
    for reply in replies:
        assert isinstance(reply, LogFullError)
        assert reply.retry_after > 0
    assert station.log.writes == [3]  # once, not once for each
    [again] = asyncio.run(together(station, calls[:1]))
    assert_answered(station, calls[0], again)
    [table] = station.contents().families["outcomes"]
    assert table["prediction_id"].to_pylist() == ["request0-0"]


def test_a_full_log_may_be_declared_not_to_matter(world: World, tmp_path: Path) -> None:
    station = station_of(world, tmp_path / "log", WhenFull.serve)
    calls = [station.call(number) for number in range(3)]
    with no_room():
        replies = asyncio.run(together(station, calls))
    for call, reply in zip(calls, replies, strict=True):
        assert isinstance(reply, Reply)
        assert reply.kept is Kept.missed
        np.testing.assert_array_equal(reply.answers, station.expected(call))
    assert station.log.status().missed == 3
    station.executor.shutdown()
    station.contents()


def test_over_http_a_full_log_is_told_as_a_moment_to_come_back(
    world: World, settings: Settings
) -> None:
    row = {"rows": world.features("outcomes", 1).to_pylist()}
    with client_of(settings) as client:
        with no_room():
            refused = client.post("/models/outcomes/predict", json=row)
            ready = client.get("/ready").json()
        answered = client.post("/models/outcomes/predict", json=row)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert str(settings.home) not in refused.text
    assert ready["inference_log"] == "full"
    assert answered.status_code == 200
    assert answered.json()["logged"] is True
    contents = read_contents(list(finished_segments(settings.serve_log_folder)))
    [table] = contents.families["outcomes"]
    assert table["request_id"].to_pylist() == [answered.json()["request_id"]]
    kinds = {kind for events in contents.events for kind in events["kind"].to_pylist()}
    assert {"log_full", "log_recovered"} <= kinds


def test_over_http_an_answer_says_that_it_is_not_logged(world: World, tmp_path: Path) -> None:
    settings = deployment_in(tmp_path / "home", world, serve_when_log_full="serve")
    row = {"rows": world.features("outcomes", 1).to_pylist()}
    with client_of(settings) as client:
        with no_room():
            missed = client.post("/models/outcomes/predict", json=row).json()
        logged = client.post("/models/outcomes/predict", json=row).json()
    assert missed["logged"] is False
    assert missed["predictions"][0]["probabilities"] == logged["predictions"][0]["probabilities"]
    assert logged["logged"] is True
    contents = read_contents(list(finished_segments(settings.serve_log_folder)))
    [table] = contents.families["outcomes"]
    assert table["request_id"].to_pylist() == [logged["request_id"]]
    gaps = [
        event
        for events in contents.events
        for event in events.to_pylist()
        if event["kind"] == "log_gap"
    ]
    assert [(gap["family"], gap["version"], gap["rows"]) for gap in gaps] == [("outcomes", 1, 1)]
