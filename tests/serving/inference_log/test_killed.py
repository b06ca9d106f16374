"""Whatever is killed, every answer that left is one row, and no row is half an answer."""

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_assets.lake import Lake, TableName
from mlops_assets.serving.inference_log.shipping import ship
from tests.serving.inference_log.conftest import make_lake
from tests.serving.inference_log.processes import start
from tests.serving.inference_log.worker import KILLS

TABLE = TableName.parse("inference/flight_delay")


def logged(lake: Lake) -> Counter[str]:
    table = lake.read(TABLE, columns=["prediction_id"]).read_all()
    return Counter(table["prediction_id"].to_pylist())


def test_killed_workers_lose_no_answer(tmp_path: Path, lake: Lake, folder: Path) -> None:
    output: list[str] = []
    with start("answer", tmp_path) as process:
        reader = threading.Thread(target=lambda: output.extend(process.communicate()))
        reader.start()
        while reader.is_alive():  # what is being written must be left alone
            ship(lake, folder)
            reader.join(0.05)
    assert process.returncode == 0, output
    ship(lake, folder)

    answered = set()
    for line in output[0].splitlines():
        request, rows = line.split()
        answered |= {f"{request}-{row}" for row in range(int(rows))}
    found = logged(lake)
    assert len({one.partition("-")[0] for one in answered}) > KILLS / 2, "few ever answered"
    assert answered - set(found) == set()
    assert max(found.values()) == 1
    # A worker can have been killed between the write and the answer.
    unanswered = {one.rpartition("-")[0] for one in set(found) - answered}
    assert len(unanswered) <= KILLS
    assert list((folder / "segments").glob("*.segment")) == []
    assert not (folder / "refused").exists()


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: a disk others use takes minutes for all the syncs."""
    memory = Path("/dev/shm")  # noqa: S108 - a name of our own is made in it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_a_shipper_killed_at_any_step_loses_nothing_and_repeats_nothing(in_memory: Path) -> None:
    with start("ship", in_memory) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert int(output) > 20, "it was killed at too few steps to show anything"
    for home in sorted(in_memory.iterdir()):
        lake = make_lake(home)
        rows = {"first-0": 1, "first-1": 1, "first-2": 1, "second0-0": 1, "second1-0": 1}
        assert logged(lake) == rows, home
        with lake.connect() as con:
            events = con.sql("SELECT kind FROM inference.events").fetchall()
        assert events == [("log_damaged",)], home
        folder = home / "inference"
        assert list((folder / "segments").iterdir()) == [], home
        kept = sorted(path.suffix for path in (folder / "refused").iterdir())
        assert kept == [".json", ".segment"], home
        assert ship(lake, folder).segments == 0, home
