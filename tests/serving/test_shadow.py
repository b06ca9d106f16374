"""A challenger that is asked the same: nobody notices, and the log has what it says."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from mlops_assets.serving.batching import Call
from mlops_assets.serving.families import Families, Family
from mlops_assets.serving.inference_log import InferenceLog
from mlops_assets.serving.inference_log.contents import read_contents
from mlops_assets.serving.inference_log.segments import finished_segments
from mlops_assets.serving.inputs import Inputs
from mlops_assets.serving.shadow import MOST_WAITING, Shadow
from mlops_assets.settings import Settings
from tests.servers import wait_until
from tests.serving.conftest import client_of
from tests.serving.full_disk import no_room
from tests.serving.world import World

ROWS = 25


def shadow_on(settings: Settings) -> None:
    """Declare that the challenger is asked everything too."""
    path = settings.home / "serving" / "deployment.json"
    deployed = json.loads(path.read_text())
    deployed["families"]["late_flights"]["declaration"]["serving"] = {"shadow": True}
    path.write_text(json.dumps(deployed))


def predictions(client: TestClient, rows: pa.Table) -> list[dict[str, Any]]:
    answer = client.post("/models/late_flights/predict", json={"rows": rows.to_pylist()})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def logged(folder: Path) -> pa.Table:
    contents = read_contents(list(finished_segments(folder)))
    assert contents.damaged == {}
    return pa.concat_tables(contents.families["late_flights"], promote_options="default")


def test_a_shadow_changes_no_answer_and_is_logged_as_one(world: World, settings: Settings) -> None:
    rows = world.features("late_flights", ROWS)
    champion, challenger = (world.answers(f"late_flights/{n}", rows) for n in (1, 2))
    assert not np.array_equal(champion, challenger)
    shadow_on(settings)
    with client_of(settings) as client:
        given = predictions(client, rows)
        wait_until(lambda: "shadow" in logged_text(client), "the challenger is asked", seconds=30)
    assert [each["probability"] for each in given] == champion.tolist()
    table = logged(settings.serve_log_folder)
    for role, version, expected in [("champion", 1, champion), ("shadow", 2, challenger)]:
        theirs = table.filter(pa.compute.equal(table["role"], role))
        assert theirs["answer"].to_pylist() == expected.tolist()
        assert set(theirs["version"].to_pylist()) == {version}
        assert theirs["prediction_id"].to_pylist() == [each["id"] for each in given]


def logged_text(client: TestClient) -> str:
    """Return which models have been called so far, as the metrics have it."""
    text = client.get("/metrics").text
    called = 'mlops_model_call_seconds_count{family="late_flights",version="2"}'
    return "shadow" if called in text else ""


def test_without_a_shadow_the_challenger_is_not_asked(world: World, settings: Settings) -> None:
    with client_of(settings) as client:
        predictions(client, world.features("late_flights", ROWS))
    assert set(logged(settings.serve_log_folder)["role"].to_pylist()) == {"champion"}


# The queue ---------------------------------------------------------------------------------------


@dataclass
class Mirror:
    """A family with its challenger, and the queue before it."""

    family: Family
    shadow: Shadow
    dropped: list[int]
    log: InferenceLog

    def call(self, number: int, inputs: Inputs) -> Call:
        return Call(inputs, "champion", f"request{number}", "test", "request", time.perf_counter())

    @property
    def inputs(self) -> Inputs:
        return self.family.champion.model.example

    async def run_until(self, done: Callable[[], bool]) -> None:
        running = asyncio.create_task(self.shadow.run())
        while not done():
            assert not running.done(), running.exception()
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def mirror(world: World, tmp_path: Path) -> Iterator[Mirror]:
    dropped: list[int] = []
    with (
        ThreadPoolExecutor(1) as executor,
        InferenceLog(tmp_path / "log") as log,
    ):
        families = Families(world.folder, log, executor, lambda *_: None)
        families.refresh()
        shadow = Shadow(executor, lambda _family, rows: dropped.append(rows))
        yield Mirror(families.served["late_flights"], shadow, dropped, log)


def many(inputs: Inputs, rows: int) -> Inputs:
    return Inputs(
        np.repeat(inputs.numbers[:1], rows, axis=0),
        tuple([values[0]] * rows for values in inputs.categories),
    )


def test_a_challenger_that_is_behind_is_not_asked_and_that_is_counted(mirror: Mirror) -> None:
    half = many(mirror.inputs, MOST_WAITING // 2)
    for number in range(2):
        mirror.shadow.put(mirror.family, mirror.call(number, half))
    assert mirror.dropped == []
    assert mirror.shadow.waiting_rows == MOST_WAITING
    mirror.shadow.put(mirror.family, mirror.call(2, mirror.inputs.take(0, 3)))
    assert mirror.dropped == [3]
    asyncio.run(mirror.run_until(lambda: mirror.shadow.waiting_rows == 0))
    mirror.shadow.put(mirror.family, mirror.call(3, mirror.inputs.take(0, 1)))
    assert mirror.dropped == [3]
    assert mirror.log.status().logged == MOST_WAITING


def test_a_challenger_that_fails_is_counted_and_asked_again(mirror: Mirror) -> None:
    good = mirror.inputs.take(0, 1)
    bad = Inputs(good.numbers, tuple([1.5] for _ in good.categories))  # type: ignore[misc] # on purpose
    for number, inputs in enumerate([bad, good]):
        mirror.shadow.put(mirror.family, mirror.call(number, inputs))
    asyncio.run(mirror.run_until(lambda: mirror.shadow.waiting_rows == 0))
    assert mirror.dropped == [1]
    assert mirror.log.status().logged == 1


def test_a_challenger_whose_answers_cannot_be_logged_is_counted(mirror: Mirror) -> None:
    mirror.shadow.put(mirror.family, mirror.call(0, mirror.inputs.take(0, 2)))
    with no_room():
        asyncio.run(mirror.run_until(lambda: mirror.shadow.waiting_rows == 0))
    assert mirror.dropped == [2]


def test_a_challenger_of_other_features_is_not_asked(mirror: Mirror, world: World) -> None:
    with InferenceLog(mirror.log.folder.parent / "other") as log, ThreadPoolExecutor(1) as threads:
        families = Families(world.folder, log, threads, lambda *_: None)
        families.refresh()
        other = families.served["outcomes"].champion
        mirror.shadow.put(replace(mirror.family, challenger=other), mirror.call(0, mirror.inputs))
    assert mirror.dropped == [len(mirror.inputs)]
    assert mirror.shadow.waiting_rows == 0


def test_without_a_challenger_nothing_waits(mirror: Mirror) -> None:
    mirror.shadow.put(replace(mirror.family, challenger=None), mirror.call(0, mirror.inputs))
    assert mirror.shadow.waiting_rows == 0
    assert mirror.dropped == []
