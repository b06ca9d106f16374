"""An ingestion that is killed, or runs out of space, leaves the table at its old or new version."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("ingest_program.py")
GOOD_ROWS = 5_000
BAD_ROWS = 5


def run(*arguments: object) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("mode", "seed"), [("snapshot", 1), ("append", 2)])
def test_a_kill_leaves_the_old_or_the_new_version_and_the_next_run_finishes(
    tmp_path: Path, mode: str, seed: int
) -> None:
    trials = 6
    states = run("kill", tmp_path, mode, seed, trials)
    assert len(states) == 1 + 2 * trials
    for state in states:
        batch = state["batch"]
        if mode == "append":
            new = {str(n): GOOD_ROWS for n in range(batch + 1)}
            old = {str(n): GOOD_ROWS for n in range(batch)}
        else:
            new, old = {str(batch): GOOD_ROWS}, {str(batch - 1): GOOD_ROWS}
        assert state["batches"] in ([new, old] if state["moment"] == "killed" else [new])
        assert state["ids"] == sum(state["batches"].values())
        if state["moment"] == "finished":  # every refused row of every file, exactly once
            assert state["quarantined"] == [[BAD_ROWS, BAD_ROWS]] * (batch + 1)
    left = [path.name for path in (tmp_path / "scratch").iterdir() if path.is_dir()]
    assert left == []


@pytest.mark.parametrize(
    ("where", "error", "told"),
    [("scratch", "ScratchError", "File too large"), ("lake", "StorageFullError", "raw/numbers")],
)
def test_a_full_disk_is_an_error_that_says_so_and_the_table_stays(
    tmp_path: Path, where: str, error: str, told: str
) -> None:
    failed, after, later = run("full", tmp_path, where)
    assert failed["error"] == error, failed["text"]
    assert told in failed["text"]
    assert "run again" in failed["text"]
    assert after["batches"] == {"0": GOOD_ROWS}
    assert later["batches"] != after["batches"]  # with space again, the same batch is published
