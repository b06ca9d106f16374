"""A writer killed at any moment leaves the old version or the new; the next run finishes."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from mlops_assets.lake import Lake, TableName

WORKER = Path(__file__).with_name("worker.py")
EVENTS = TableName("raw", "events")
ROWS = 2000  # of one generation, see worker.py
KILLS = 5


@pytest.mark.parametrize("verb", ["overwrite", "overwrite_window", "append"])
def test_a_version_holds_whole_writes_only(tmp_path: Path, lake: Lake, verb: str) -> None:
    moments = random.Random(20130101)  # noqa: S311 - moments to kill at, no secret
    acknowledged = -1
    for _ in range(KILLS):
        acknowledged = _run_and_kill(tmp_path, verb, acknowledged, moments.uniform(0.0, 0.4))
        if not lake.exists(EVENTS):
            assert acknowledged == -1, "an acknowledged write is gone"
            continue
        generations = _generations(lake)
        if verb == "append":
            # All up to the newest, each exactly once, although each run repeats the last.
            assert list(generations) == list(range(len(generations)))
        else:
            assert len(generations) == 1, "two writes are mixed"
        assert set(generations.values()) == {ROWS}, "a write is there in part"
        newest = max(generations)
        # A write may have been committed and not yet acknowledged when the process died.
        assert newest in (acknowledged, acknowledged + 1)
        assert DeltaTable(lake.uri(EVENTS)).to_pyarrow_table().num_rows == sum(generations.values())
    assert acknowledged >= 0, "no write was ever acknowledged, so this test shows nothing"


def _run_and_kill(root: Path, verb: str, acknowledged: int, moment: float) -> int:
    """Go on from the last acknowledged write, die, and return what was acknowledged by then."""
    with subprocess.Popen(
        [sys.executable, str(WORKER), "generations", str(root), verb, str(max(acknowledged, 0))],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()  # then it is at work: kill it somewhere in its loop
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        numbers = [int(line) for line in [first, *process.stdout.read().split("\n")] if line]
    assert process.returncode == -signal.SIGKILL
    return max([acknowledged, *numbers])


def _generations(lake: Lake) -> dict[int, int]:
    with lake.connect() as con:
        return dict(
            con.sql("SELECT number, count(*) FROM raw.events GROUP BY 1 ORDER BY 1").fetchall()
        )


def test_killed_before_the_first_commit_leaves_no_table(tmp_path: Path, lake: Lake) -> None:
    """The first write of a table is one commit too: no empty table is seen in between."""
    moments = random.Random(7)  # noqa: S311 - as above
    for attempt in range(4):
        root = tmp_path / str(attempt)
        with subprocess.Popen(
            [sys.executable, str(WORKER), "generations", str(root), "overwrite", "0"],
            stdout=subprocess.DEVNULL,
        ) as process:
            while not (root / "scratch").exists():  # the first write has begun
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(moments.uniform(0.0, 0.03))
            process.send_signal(signal.SIGKILL)
        there = Lake(str(root / "lake"), limits=lake.limits)
        if there.exists(EVENTS):
            assert there.describe(EVENTS, 0).rows == ROWS
